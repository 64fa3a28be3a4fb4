"""Pictures of the playground in a real Chromium: `python -m tools.pictures [--models RELEASE …] [--all FOLDER]`.

It writes the README's picture, docs/playground.png, and docs/playground.webp, where a text is generated and the ribbon
grows. With --all it writes every tab into a folder, light and dark, wide and narrow, in English, and in Portuguese wide
and light: to be looked at. The tabs are those that the page has.
"""

import argparse
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from axion.errors import AxionError
from tests.support.browsers import chromium
from tests.support.servers import ROOT, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}
READY = ".axion-view:not([data-state=empty])"

PICTURE = ROOT / "docs" / "playground.png"
FILM = ROOT / "docs" / "playground.webp"
SLOW_APP = ("-m", "tests.support.slow_app", "--tokens-per-second", "8")
FILM_SIZE = {"width": 1280, "height": 940}
FILM_SCALE = 1.5
"""Pixels of the film for one of the page."""
FILM_COLOURS = 128
FILMED = "Word problem, step by step"
"""The preset whose text is generated."""
FILM_FRAMES = 10_000
"""Every so many pictures one is written whole, the others as what has changed: so the first alone."""
TOKENS_PER_FRAME = 2
TOKENS_PER_SECOND = 14
"""Of the film; the eye would not follow the model."""
LAST_SECONDS = 2.5
"""How long the film rests on the finished text, before it begins again."""
MOST_BYTES = 600_000
MOST_SECONDS = 8.0
NEW_TOKENS = "document.querySelectorAll('.av-tok:not(.av-prompt)').length"
DONE = "document.querySelector('#trace .axion-view').dataset.state === 'done'"

# The page is drawn once nothing is awaited, nothing moves, and its height has been the same for a while.
DRAWN = """() => {
  const height = document.documentElement.scrollHeight;
  if (height !== window.lastHeight) Object.assign(window, { lastHeight: height, since: Date.now() });
  const moving = document.getAnimations().some(({ playState, effect }) =>
    playState === "running" && effect.getComputedTiming().iterations !== Infinity);
  return !moving && !document.querySelector(".html-container.pending") && Date.now() - window.since > 600;
}"""


def open_page(
    browser: "Browser", address: str, size: dict, scheme: str = "light", language: str = "en", scale: float = 2
) -> "Page":
    """A page that has drawn its first trace."""
    page = browser.new_page(
        viewport=size, color_scheme=scheme, device_scale_factor=scale, reduced_motion="reduce", locale=language
    )
    page.goto(f"{address}/?lang={language}")
    page.wait_for_selector(READY)
    page.wait_for_function("language => document.documentElement.lang === language", arg=language)
    page.evaluate("document.fonts.ready")
    return page


def tabs_of(page: "Page") -> Iterator[str]:
    """Show every tab of the page in turn; yields a name for its file once its content is drawn."""
    # Gradio measures the tabs in a hidden copy of their strip, where also those stand that a narrow page puts away.
    names = page.locator(".ax-tabs > .tab-wrapper .visually-hidden button")
    for number in range(names.count()):
        page.wait_for_load_state("networkidle")
        name = names.nth(number).text_content().strip()
        show_tab(page, name)
        page.wait_for_load_state("networkidle")
        page.wait_for_function(DRAWN)
        letters = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
        yield f"{number + 1}-{re.sub('[^a-z]+', '-', letters)}"


def show_tab(page: "Page", name: str) -> None:
    """Show a tab, also where a narrow page has put it into the menu of the rest."""
    strip = page.locator(".ax-tabs > .tab-wrapper")
    tab = strip.get_by_role("tab", name=name, exact=True)
    if not tab.count():
        strip.locator(".overflow-menu > button").click()
        tab = strip.locator(".overflow-dropdown button", has_text=name)
    tab.click()
    strip.locator("[role=tab][aria-selected=true]", has_text=name).wait_for()


def take_all(browser: "Browser", address: str, folder: Path) -> None:
    """Write a picture of every tab, in every look that people see it in."""
    folder.mkdir(parents=True, exist_ok=True)
    looks = [(width, scheme, "en") for width in ("wide", "narrow") for scheme in ("light", "dark")]
    for width, scheme, language in [*looks, ("wide", "light", "pt")]:
        page = open_page(browser, address, WIDE if width == "wide" else NARROW, scheme, language)
        for tab in tabs_of(page):
            page.screenshot(path=folder / f"{tab}-{width}-{scheme}-{language}.png", full_page=True)
        page.close()


def take_film(browser: "Browser", address: str, path: Path) -> None:
    """Film a generation from the first token to the last.

    Raises:
        AxionError: the film is too large or too long.
    """
    page = open_page(browser, address, FILM_SIZE, scale=FILM_SCALE)
    page.get_by_role("button", name=FILMED).click()
    view = page.locator("#trace .axion-view")
    page.locator("#generate").click()
    page.wait_for_selector("#trace .axion-view[data-state=running]")
    box = view.bounding_box()
    room = {**box, "height": FILM_SIZE["height"] - box["y"]}  # the view may grow
    shots, shown = [], []
    done = False
    while not done:
        page.wait_for_function(f"least => {DONE} || {NEW_TOKENS} >= least", arg=(shown or [0])[-1] + TOKENS_PER_FRAME)
        done = page.evaluate(DONE)
        shown.append(page.evaluate(NEW_TOKENS))
        shots.append(page.screenshot(clip=room))
    share = min(1.0, view.bounding_box()["height"] / room["height"])
    page.close()
    seconds = [(later - tokens) / TOKENS_PER_SECOND for tokens, later in pairwise(shown)] + [LAST_SECONDS]
    write_film(path, [crop(shot, share) for shot in shots], seconds)


def crop(shot: bytes, share: float) -> Image.Image:
    """The upper `share` of a picture."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    return picture.crop((0, 0, picture.width, round(picture.height * share)))


def write_film(path: Path, frames: Sequence[Image.Image], seconds: Sequence[float]) -> None:
    """Write an animated WebP that begins again at its end. Raises AxionError when it is too large or too long."""
    # A page has few colours: a palette and no loss take half the bytes of a lossy film, and letters stay sharp.
    palette = frames[-1].quantize(FILM_COLOURS)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB") for frame in frames)
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=[round(1000 * each) for each in seconds],
        loop=0,
        lossless=True,
        quality=80,
        method=6,
        kmin=FILM_FRAMES - 1,
        kmax=FILM_FRAMES,
    )
    size, length = path.stat().st_size, sum(seconds)
    if size > MOST_BYTES or length > MOST_SECONDS:
        raise AxionError(
            f"{path.name} has {size:,} bytes and takes {length:.1f} s; at most {MOST_BYTES:,} and {MOST_SECONDS:g} s"
        )


def main() -> None:
    """Take the README's pictures, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", metavar="RELEASE", default=[])
    parser.add_argument("--all", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    try:
        with served(options.models) as server, chromium() as browser:
            if options.all:
                take_all(browser, server.address, options.all)
                return
            open_page(browser, server.address, WIDE).screenshot(path=PICTURE)
        with served(options.models, app=SLOW_APP) as server, chromium() as browser:
            take_film(browser, server.address, FILM)
    except AxionError as error:
        raise SystemExit(f"tools.pictures: {error}") from None


if __name__ == "__main__":
    main()
