"""Pictures of the playground in a real Chromium: `python -m tools.pictures [--models RELEASE …] [--all FOLDER]`.

Writes the README's picture, docs/playground.png, and the film docs/playground.webp, in which a text is generated.
With --all it writes a picture of every tab into a folder instead: light and dark, wide and narrow in
English, and wide and light in Portuguese.
"""

import argparse
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from axion.errors import AxionError
from axion.shipped import ROOT
from tests.support.browsers import chromium, set_pace
from tests.support.servers import served
from tests.support.steering import READY, open_tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Locator, Page, ViewportSize

Scheme = Literal["light", "dark"]

WIDE: "ViewportSize" = {"width": 1280, "height": 800}
NARROW: "ViewportSize" = {"width": 390, "height": 844}

PICTURE = ROOT / "docs" / "playground.png"
FILM = ROOT / "docs" / "playground.webp"
SLOW_APP = ("-m", "tests.support.slow_app", "--tokens-per-second", "8")
FILM_SIZE: "ViewportSize" = {"width": 1280, "height": 940}
FILM_SCALE = 1.5
"""Pixels of the film per CSS pixel of the page."""
FILM_COLOURS = 128
FILMED = "Word problem, step by step"
"""The preset whose text is generated."""
FILM_FRAMES = 10_000
"""The interval of key frames, longer than any film: only the first frame is written whole."""
TOKENS_PER_FRAME = 2
TOKENS_PER_SECOND = 14
"""In the film; the model's own speed would be too fast to follow."""
LAST_SECONDS = 2.5
"""How long the film shows the finished text before it starts again."""
MOST_BYTES = 600_000
MOST_SECONDS = 8.0
NEW_TOKENS = "document.querySelectorAll('.av-tok:not(.av-prompt)').length"
DONE = "document.querySelector('#trace .axion-view').dataset.state === 'done'"

# The page is drawn once nothing is pending, nothing moves, and its height has been stable for a while.
DRAWN = """() => {
  const height = document.documentElement.scrollHeight;
  if (height !== window.lastHeight) Object.assign(window, { lastHeight: height, since: Date.now() });
  const moving = document.getAnimations().some(({ playState, effect }) =>
    playState === "running" && effect.getComputedTiming().iterations !== Infinity);
  return !moving && !document.querySelector(".html-container.pending") && Date.now() - window.since > 600;
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


def tabs_of(page: "Page") -> Iterator[str]:
    """Open every tab of the page in turn; yields a file name once the content is drawn."""
    # Gradio keeps a hidden copy of the tab strip, which includes the tabs that a narrow page moves into a menu.
    names = page.locator(".ax-tabs > .tab-wrapper .visually-hidden button")
    for number in range(names.count()):
        page.wait_for_load_state("networkidle")
        name = (names.nth(number).text_content() or "").strip()
        open_tab(page, name)
        page.wait_for_load_state("networkidle")
        page.wait_for_function(DRAWN)
        letters = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
        yield f"{number + 1}-{re.sub('[^a-z]+', '-', letters)}"


def take_all(browser: "Browser", address: str, folder: Path) -> None:
    """Write a picture of every tab in every combination of size, scheme and language."""
    folder.mkdir(parents=True, exist_ok=True)
    looks: list[tuple[str, Scheme, str]] = [
        ("wide", "light", "en"),
        ("wide", "dark", "en"),
        ("narrow", "light", "en"),
        ("narrow", "dark", "en"),
        ("wide", "light", "pt"),
    ]
    for width, scheme, language in looks:
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
    box = find_box(view)
    room: FloatRect = {**box, "height": FILM_SIZE["height"] - box["y"]}  # the view may grow
    shots, shown = [], []
    done = False
    while not done:
        page.wait_for_function(f"least => {DONE} || {NEW_TOKENS} >= least", arg=(shown or [0])[-1] + TOKENS_PER_FRAME)
        done = page.evaluate(DONE)
        shown.append(page.evaluate(NEW_TOKENS))
        shots.append(page.screenshot(clip=room))
    share = min(1.0, find_box(view)["height"] / room["height"])
    page.close()
    seconds = [(later - tokens) / TOKENS_PER_SECOND for tokens, later in pairwise(shown)] + [LAST_SECONDS]
    write_film(path, [crop(shot, share) for shot in shots], seconds)


def find_box(view: "Locator") -> "FloatRect":
    """The view's bounding box."""
    box = view.bounding_box()
    if box is None:
        raise AxionError("the view is not on the page")
    return box


def crop(shot: bytes, share: float) -> Image.Image:
    """The upper `share` of a picture."""
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    return picture.crop((0, 0, picture.width, round(picture.height * share)))


def write_film(path: Path, frames: Sequence[Image.Image], seconds: Sequence[float]) -> None:
    """Write an animated WebP that loops. Raises AxionError when it is too large or too long."""
    # A page has few colours: with a palette a lossless film is half the size of a lossy one, and its text is sharp.
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
            f"{path.name} is {size:,} bytes and {length:.1f} s long; at most {MOST_BYTES:,} and {MOST_SECONDS:g} s"
        )


def main() -> None:
    """Take the README's pictures, or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
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
