"""Pictures of the playground in a real Chromium: `python docs/screenshots.py` writes docs/playground.png.

    python docs/screenshots.py [--models RELEASE …] [--all FOLDER]

With --all it writes every tab, light and dark, wide and narrow, into a folder, to be looked at. Needs playwright and
Chromium; the page is served by `app.py` on a free port for as long as the pictures take.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}
START_SECONDS = 90


@contextmanager
def served(models: list[str]) -> Iterator[str]:
    """The address of a playground that runs inside the `with` block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port), *(["--models", *models] if models else [])]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, server)
        yield address
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen) -> None:
    """Return when the page answers; raise when its server ended or START_SECONDS passed."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"app.py ended with exit code {server.returncode}")
        try:
            urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"app.py did not answer within {START_SECONDS} s")


def open_page(browser: Browser, address: str, size: dict, scheme: str = "light") -> Page:
    """A page that has drawn its first trace."""
    page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=2, reduced_motion="reduce")
    page.goto(address)
    page.wait_for_selector(".axion-view:not([data-state=empty])")
    page.evaluate("document.fonts.ready")
    return page


def main() -> None:
    """Take the README's picture, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", metavar="RELEASE", default=[])
    parser.add_argument("--all", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with served(options.models) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        if not options.all:
            open_page(browser, address, WIDE).screenshot(path=ROOT / "docs" / "playground.png")
            return
        options.all.mkdir(parents=True, exist_ok=True)
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            for scheme in ("light", "dark"):
                page = open_page(browser, address, size, scheme)
                page.screenshot(path=options.all / f"playground-{name}-{scheme}.png", full_page=name == "narrow")
                page.get_by_role("tab", name="Model").click()
                page.wait_for_selector(".ax-about", state="visible")
                page.screenshot(path=options.all / f"model-{name}-{scheme}.png", full_page=True)


if __name__ == "__main__":
    main()
