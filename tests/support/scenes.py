"""What the page can show: every tab, popover and state that is worth a look. Pictures are taken of all, and tests walk
through them. To add one, append it to SCENES."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from playground.locales import by_language
from tests.support.browsers import set_pace
from tests.support.steering import READY, VIEW, first_new, open_tab, open_token

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

Scheme = Literal["light", "dark"]
NAMES = by_language("page")

# Drawn: nothing is pending or loading, nothing moves, and the height has been stable for a while.
DRAWN = """() => {
  const height = document.documentElement.scrollHeight;
  if (height !== window.lastHeight) Object.assign(window, { lastHeight: height, since: Date.now() });
  const moving = document.getAnimations().some(({ playState, effect }) =>
    playState === "running" && effect.getComputedTiming().iterations !== Infinity);
  const loaded = [...document.images].every(({ complete }) => complete);
  return !moving && loaded && !document.querySelector(".html-container.pending") && Date.now() - window.since > 600;
}"""


def open_page(
    browser: "Browser",
    address: str,
    size: "ViewportSize",
    scheme: Scheme = "light",
    language: str = "en",
    scale: float = 2,
) -> "Page":
    """Open a page and wait until it has drawn its first trace."""
    page = browser.new_page(
        viewport=size, color_scheme=scheme, device_scale_factor=scale, reduced_motion="reduce", locale=language
    )
    set_pace(page)
    page.goto(f"{address}/?lang={language}")
    page.wait_for_selector(READY)
    page.wait_for_function("language => document.documentElement.lang === language", arg=language)
    page.evaluate("document.fonts.ready")
    return page


def _nothing(_: "Page") -> None:
    pass


def _open_token(page: "Page") -> None:
    page.wait_for_selector(f"{VIEW}:is([data-state=recorded], [data-state=done])")
    open_token(page, first_new(page))


def _take_branch(page: "Page") -> None:
    page.locator("#trace .av-alt").last.click()
    page.wait_for_selector("#trace [data-part=tree]:visible")
    page.wait_for_selector(f"{VIEW}[data-state=done]")


def _open_term(page: "Page") -> None:
    page.locator("#trace .av-term").first.click()


def _open_settings(page: "Page") -> None:
    page.locator(".ax-more button").first.click()


def _ask(page: "Page") -> None:
    page.locator(".axion-chat [data-part=starters] button").first.click()
    page.wait_for_selector(".axion-chat[data-state=idle] .ac-turn")


def _compare(page: "Page") -> None:
    page.locator("#compare").click()
    page.wait_for_selector("#comparison .axion-compare[data-state=done]")


def _open_compared_token(page: "Page") -> None:
    page.locator("#comparison [data-part=side-b] .av-tok:not(.av-prompt)").first.click()


def _open_menu(page: "Page") -> None:
    menu = page.locator(".ax-tabs > .tab-wrapper .overflow-menu > button")
    if menu.is_visible():
        menu.click()


@dataclass(frozen=True)
class Scene:
    """One thing that the page shows."""

    name: str
    tab: str
    """Its key in the texts of the page, without `tab_`."""
    arrange: Callable[["Page"], None] = _nothing
    """What brings it about, once its tab is open. Each scene goes on where the one before it ended."""


SCENES = [
    Scene("playground", "playground"),
    Scene("token", "playground", _open_token),
    Scene("branch", "playground", _take_branch),
    Scene("term", "playground", _open_term),
    Scene("settings", "playground", _open_settings),
    Scene("menu", "playground", _open_menu),
    Scene("chat", "chat"),
    Scene("answer", "chat", _ask),
    Scene("experts", "experts"),
    Scene("compare", "compare"),
    Scene("comparison", "compare", _compare),
    Scene("compared-token", "compare", _open_compared_token),
    Scene("model", "model"),
    Scene("api", "api"),
]


def scenes_of(page: "Page", language: str) -> Iterator[str]:
    """Show every scene in turn; yields its name once it is drawn."""
    tab = ""
    for number, scene in enumerate(SCENES, 1):
        if scene.tab != tab:
            tab = scene.tab
            page.keyboard.press("Escape")
            open_tab(page, NAMES[language][f"tab_{tab}"])
        scene.arrange(page)
        page.wait_for_function(DRAWN)
        yield f"{number:02}-{scene.name}"
