"""A real Chromium, driven by Playwright, for tests, pictures and benchmarks."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from axion.errors import AxionError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class NoChromium(AxionError):
    """Chromium or Playwright is not installed; the message says how to install it."""


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start a browser, closed at the end of the `with` block. Raises NoChromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise NoChromium("playwright is not installed: pip install -r requirements-dev.txt") from None
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise NoChromium("Chromium is not installed; as root: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def set_pace(page: "Page", pace: str = "own") -> None:
    """Have the playground draw tokens at this pace; "own" is as they come. Visitors start with ten tokens a second."""
    script = f"localStorage.setItem('axion-pace', '{pace}');"
    page.add_init_script(f"try {{ {script} }} catch {{ /* about:blank has no storage */ }}")
