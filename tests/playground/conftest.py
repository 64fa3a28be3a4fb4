"""A running playground on random models, and a real Chromium to look at it."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "${window.hacked=2}",
    "{{#with this}}{{window}}{{/with}}",
    "</script>",
]
CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 90


@pytest.fixture(scope="session")
def releases(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of releases: `plain`, `endless` (its text never ends), `hostile` (markup in its example), `broken`."""
    from axion.generation import Sampling, make_trace
    from axion.release import open_release

    root = tmp_path_factory.mktemp("playground")
    for name in ("plain", "endless", "hostile", "broken"):
        shutil.copytree(tiny_release, root / name)

    release = open_release(tiny_release)
    sampling = Sampling(temperature=0.8, max_new_tokens=len(HOSTILE), seed=3)
    trace = make_trace("plain", release.model, release.tokenizer, "# Pergunta:\n", sampling)
    _write(root / "plain" / "trace.json", trace)
    steps = [{**step, "t": text} for step, text in zip(trace["steps"], HOSTILE, strict=False)]
    steps[-1]["alt"] = [[7, text, 0.1] for text in HOSTILE]
    _write(root / "hostile" / "trace.json", {**trace, "steps": steps})

    _edit(root / "endless" / "config.json", max_position_embeddings=4096)
    _edit(root / "endless" / "generation_config.json", eos_token_id=10**6)  # no such token
    (root / "broken" / "config.json").write_text("{", encoding="utf-8")
    return root


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _edit(path: Path, **values: object) -> None:
    _write(path, json.loads(path.read_text(encoding="utf-8")) | values)


class Server(NamedTuple):
    """A playground that runs in a process of its own."""

    address: str
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time that the server has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def served(models: list[str]) -> Iterator[Server]:
    """`python app.py` on a free port for as long as the `with` block lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port), *(["--models", *models] if models else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urlopen(address, timeout=5).close()
                break
            except (URLError, OSError):
                assert process.poll() is None, f"app.py ended with exit code {process.returncode}"
                assert time.monotonic() < deadline, f"app.py did not answer within {START_SECONDS} s"
                time.sleep(0.2)
        yield Server(address, process.pid)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def server(releases: Path) -> Iterator[Server]:
    """A playground that offers the folders of `releases`, `plain` first."""
    with served([str(releases / name) for name in ("plain", "endless", "hostile", "broken")]) as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    """Chromium; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("Chromium is not installed (as root: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found[0], args=CHROMIUM_ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server: Server):
    """The playground as a visitor sees it first; the test fails if the page raised a script error."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(20_000)
    page.goto(server.address)
    page.wait_for_selector(".axion-view:not([data-state=empty])")
    yield page
    page.close()
    assert not errors
