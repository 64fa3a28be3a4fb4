"""Pictures of the playground in a real Chromium: `python -m tools.pictures [--models RELEASE …] [--all FOLDER]`.

Writes the README's picture, docs/playground.png, and the film docs/playground.webp, in which a text is generated.
They are accompanied by playground/server/preview.png, which a link to the page shows. With --all it writes a picture of
every scene of tests/support/scenes.py into a folder instead, every tab and popover among them: light and dark, 1280 and
390 pixels wide, in both languages. --only limits them to the names that contain one of its words.
"""

import argparse
import io
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from axion.errors import AxionError
from axion.shipped import ROOT
from playground.locales import LANGUAGES
from playground.server.front_page import PREVIEW_SIZE
from playground.server.page import PICTURE as PREVIEW_PICTURE
from tests.support.browsers import chromium
from tests.support.scenes import Scheme, open_page, scenes_of
from tests.support.servers import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Locator, Page, ViewportSize

WIDE: "ViewportSize" = {"width": 1280, "height": 800}
WIDTHS: dict[str, "ViewportSize"] = {"1280": WIDE, "390": {"width": 390, "height": 844}}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

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


def take_all(browser: "Browser", address: str, folder: Path, only: Sequence[str] = ()) -> None:
    """Write a picture of every scene in every combination of width, scheme and language.

    Args:
        only: parts of the names of the pictures to write; all without any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for (width, size), scheme, language in product(WIDTHS.items(), SCHEMES, LANGUAGES):
        page = open_page(browser, address, size, scheme, language, scale=1)
        for scene in scenes_of(page, language):
            path = folder / f"{scene}-{width}-{scheme}-{language}.png"
            if not only or any(part in path.name for part in only):
                page.screenshot(path=path, full_page=True)
        page.close()


def take_preview(page: "Page", path: Path) -> None:
    """Write the picture of a link to the page."""
    width, height = PREVIEW_SIZE
    shot = page.screenshot(clip={"x": 0, "y": 0, "width": WIDE["width"], "height": WIDE["width"] * height / width})
    picture = Image.open(io.BytesIO(shot)).convert("RGB").resize(PREVIEW_SIZE, Image.Resampling.LANCZOS)
    picture.quantize(FILM_COLOURS).save(path, optimize=True)


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
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[])
    options = parser.parse_args()
    try:
        with served(options.models) as server, chromium() as browser:
            if options.all:
                take_all(browser, server.address, options.all, options.only)
                return
            page = open_page(browser, server.address, WIDE)
            page.screenshot(path=PICTURE)
            take_preview(page, PREVIEW_PICTURE)
        with served(options.models, app=SLOW_APP) as server, chromium() as browser:
            take_film(browser, server.address, FILM)
    except AxionError as error:
        raise SystemExit(f"tools.pictures: {error}") from None


if __name__ == "__main__":
    main()
