"""How fast the page draws, in a real Chromium: `python -m benchmarks.playground [--runs N] [--json FILE] [--docs]`.

Compared pages are measured in turn, in one run on one machine; each row is the median of several runs. --json writes
every value, --docs writes docs/playground.json and the table of docs/playground.md, which explains each row.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from axion.errors import AxionError
from benchmarks.report import Row, build_report, describe_machine, read_rows, to_markdown, write_docs, write_json
from tests.support.browsers import chromium, set_pace
from tests.support.servers import Server, served
from tests.support.steering import READY

if TYPE_CHECKING:  # optional: `chromium` reports if it is not installed
    from playwright.sync_api import Browser, Page

FULL_SPEED = 1000
"""Tokens per second of the replay. The bundled model alone would generate a whole text between two frames."""
START_SECONDS = 300.0
"""A page with a replay generates its text before it is served."""
WAIT_SECONDS = 120.0
REST_SECONDS = 1.0

# After a click, samples once per painted frame: the message is delivered after the frame's work.
WATCH_GROWTH = """({ count, done }) => {
  const read = { count: new Function(`return ${count}`), done: new Function(`return ${done}`) };
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    const { before, changes } = growth;
    const count = read.count();
    if (count !== (changes.at(-1)?.[1] ?? before)) changes.push([Date.now(), count]);
    if (!growth.done && read.done()) growth.done = Date.now();
  };
  const loop = () => {
    channel.port2.postMessage(0);
    if (growth.on) requestAnimationFrame(loop);
  };
  addEventListener("click", () => {
    window.growth = { on: true, clicked: Date.now(), before: read.count(), changes: [], done: 0 };
    requestAnimationFrame(loop);
  }, true);
}"""

# Likewise records when the element matching SELECTOR is first drawn.
WATCH_FIRST = """
  const channel = new MessageChannel();
  const waiting = () => window.firstDrawn === undefined;
  channel.port1.onmessage = () => {
    const found = document.querySelector("SELECTOR");
    if (waiting() && found?.getBoundingClientRect().height > 0) window.firstDrawn = performance.now();
  };
  const loop = () => {
    channel.port2.postMessage(0);
    if (waiting()) requestAnimationFrame(loop);
  };
  requestAnimationFrame(loop);
"""

CELL = ".av-col i"
FOOTER = "footer"
VIEW_COUNT = 'document.getElementsByClassName("av-tok").length'
VIEW_DONE = 'document.querySelector(".axion-view").dataset.state === "done"'
BOX_COUNT = 'document.querySelector("#box textarea").value.length'


@dataclass(frozen=True)
class Streamed:
    """One generation as the browser showed it."""

    updates_per_second: float
    """Frames that showed more than the previous one, divided by the time from the first to the last of them."""
    tokens_per_second: float
    """All tokens, divided by the time from the click to the last frame."""
    lag_seconds: float
    """From the server's last token to the last frame."""


class Log:
    """The file to which the served page appends a line per generation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def next(self, after: float = 0.0) -> dict:
        """The next generation in the log, or the next that ended after a moment (`time.time()`).

        Raises:
            AxionError: none ended within WAIT_SECONDS.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
            for line in map(json.loads, lines[self._read :]):
                self._read += 1
                if line["ended"] > after:
                    return line
            time.sleep(0.01)
        raise AxionError(f"no generation ended within {WAIT_SECONDS:g} s")


@contextmanager
def compared_page(name: str, *options: str) -> Iterator[tuple[Server, Log]]:
    """Serves a page of `benchmarks.pages`; yields its server and the log of its generations."""
    with tempfile.TemporaryDirectory(prefix="axion-benchmark-") as folder:
        log = Path(folder) / "generations.jsonl"
        app = ("-m", "benchmarks.pages", name, "--log", str(log), *options)
        with served(app=app, start_seconds=START_SECONDS) as server:
            yield server, Log(log)


def measure_streaming(browser: "Browser", runs: int, *options: str) -> dict[str, list[Streamed]]:
    """Stream the same steps into the real page and both Textboxes, in turn, `runs` times after a warm-up run."""
    results: dict[str, list[Streamed]] = {name: [] for name in ("playground", "textbox", "textbox-each")}
    with ExitStack() as stack:
        pages = {}
        for name in results:
            server, log = stack.enter_context(compared_page(name, *options))
            page, ours = open_page(browser, server), name == "playground"
            page.wait_for_selector(READY if ours else "#box")
            count, done = (VIEW_COUNT, VIEW_DONE) if ours else (BOX_COUNT, "true")
            page.evaluate(WATCH_GROWTH, {"count": count, "done": done})
            pages[name] = page, log, ours
        for run in range(runs + 1):
            for name, opened in pages.items():
                streamed = stream_once(*opened)
                if run:  # the first run is the warm-up
                    results[name].append(streamed)
        for page, _, _ in pages.values():
            page.close()
    return results


def stream_once(page: "Page", log: Log, ours: bool) -> Streamed:
    """Press Generate and wait until everything is drawn."""
    page.bring_to_front()  # background pages do not draw
    page.locator("#generate").click()
    ended = log.next()
    whole = VIEW_DONE if ours else f"{BOX_COUNT} === {ended['characters']}"
    page.wait_for_function(f"growth.done && {whole}", timeout=1000 * WAIT_SECONDS)
    page.wait_for_timeout(300)  # for updates that should not come
    growth = page.evaluate("Object.assign(growth, { on: false })")
    moments = [moment for moment, shown in growth["changes"] if shown]  # without the clearing at the start
    last = max(moments[-1], growth["done"] if ours else 0)
    return Streamed(
        updates_per_second=(len(moments) - 1) / max(moments[-1] - moments[0], 1) * 1000,
        tokens_per_second=ended["tokens"] / (last - growth["clicked"]) * 1000,
        lag_seconds=last / 1000 - ended["last"],
    )


def open_page(browser: "Browser", server: Server) -> "Page":
    """Open the page in a new browser context, so with an empty cache."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * WAIT_SECONDS)
    set_pace(page)
    page.goto(server.address)
    return page


@dataclass(frozen=True)
class Opened:
    """A page load with an empty cache."""

    seconds: float
    """From navigation until the awaited element is drawn."""
    transferred: int
    """Bytes received until then, headers included."""


def measure_opening(browser: "Browser", address: str, selector: str, runs: int) -> list[Opened]:
    """Open the page `runs` times with an empty cache, until `selector` is drawn."""
    opened = []
    for _ in range(runs):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.add_init_script(WATCH_FIRST.replace("SELECTOR", selector))
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        sizes: list[float] = []
        session.on("Network.loadingFinished", lambda event, sizes=sizes: sizes.append(event["encodedDataLength"]))
        page.goto(address, wait_until="commit")
        page.wait_for_function("window.firstDrawn !== undefined", timeout=1000 * WAIT_SECONDS)
        opened.append(Opened(page.evaluate("window.firstDrawn") / 1000, int(sum(sizes))))
        context.close()
    return opened


def measure_starting(browser: "Browser", runs: int) -> list[float]:
    """Seconds from `python app.py` until the ribbon is drawn in a browser that waits for the page."""
    taken = []
    for _ in range(runs):
        start = time.monotonic()
        with served() as server:
            measure_opening(browser, server.address, CELL, 1)
            taken.append(time.monotonic() - start)
    return taken


def measure_stopping(browser: "Browser", runs: int) -> tuple[list[float], list[float], list[float]]:
    """Stop an endless generation with the button, and another by closing its tab.

    Returns:
        Seconds from the click until the model stops, seconds from closing the tab until it stops, and the cores that
        are still busy afterwards.
    """
    stopped, closed, busy = [], [], []
    with compared_page("playground") as (server, log):
        for _ in range(runs):
            page = start_endless(browser, server)
            page.evaluate("addEventListener('click', () => (window.stopped = Date.now()), true)")
            page.locator("#stop").click()
            moment = page.evaluate("stopped") / 1000
            stopped.append(log.next(moment)["ended"] - moment)
            busy.append(busy_cores(server))
            page.close()
            page = start_endless(browser, server)
            moment = time.time()
            page.close()
            closed.append(log.next(moment)["ended"] - moment)
            busy.append(busy_cores(server))
    return stopped, closed, busy


def start_endless(browser: "Browser", server: Server) -> "Page":
    """Open a page and start an endless text."""
    page = open_page(browser, server)
    page.wait_for_selector(READY)
    page.locator("#generate").click()
    page.wait_for_function(f"document.querySelector('[data-state=running]') && {VIEW_COUNT} > 40")
    return page


def busy_cores(server: Server) -> float:
    """CPU seconds per second that the server uses at the moment."""
    before = server.cpu_seconds()
    time.sleep(REST_SECONDS)
    return (server.cpu_seconds() - before) / REST_SECONDS


def measure(runs: int) -> dict:
    """Measure everything; returns the report."""
    with chromium() as browser:
        replayed = measure_streaming(browser, runs, "--speed", str(FULL_SPEED))
        with served() as ours, compared_page("empty") as (empty, _):
            opened = measure_opening(browser, ours.address, CELL, runs)
            opened_empty = measure_opening(browser, empty.address, FOOTER, runs)
        stopped, closed, busy = measure_stopping(browser, runs)
        started = measure_starting(browser, runs)
        version = browser.version
    rows = [
        *streaming_rows(replayed, f"replay at {FULL_SPEED:,} tokens/s"),
        *opening_rows(opened, opened_empty),
        Row("`python app.py` until the ribbon is drawn", tuple(started), "s"),
        Row("click on Stop until the model stops", tuple(stopped), "s", at_most=2),
        Row("tab closed until the model stops", tuple(closed), "s", at_most=2),
        Row("CPU cores busy after that", tuple(busy), "", at_most=0.2),
    ]
    return build_report(rows, chromium=version, runs=runs)


def streaming_rows(results: dict[str, list[Streamed]], source: str) -> Iterator[Row]:
    """The rows for one source of steps; ratios are computed run by run."""

    def column(name: str, field: str) -> tuple[float, ...]:
        return tuple(getattr(run, field) for run in results[name])

    speeds = {name: column(name, "tokens_per_second") for name in results}

    def ratio(name: str) -> tuple[float, ...]:
        return tuple(ours / theirs for ours, theirs in zip(speeds["playground"], speeds[name], strict=True))

    yield Row(f"visible updates, {source}", column("playground", "updates_per_second"), "/s", at_least=25)
    yield Row(f"last token until everything is drawn, {source}", column("playground", "lag_seconds"), "s", at_most=0.3)
    yield Row(f"tokens shown, {source}", speeds["playground"], "/s")
    yield Row(f"… in a Textbox updated as often, {source}", speeds["textbox"], "/s")
    yield Row(f"… in a Textbox updated at every token, {source}", speeds["textbox-each"], "/s")
    yield Row(f"page ÷ Textbox updated as often, {source}", ratio("textbox"), "×", at_least=0.7)
    yield Row(f"page ÷ Textbox updated at every token, {source}", ratio("textbox-each"), "×", at_least=0.7)


def opening_rows(opened: Sequence[Opened], empty: Sequence[Opened]) -> Iterator[Row]:
    """The rows about opening the page."""
    yield Row("page load until the ribbon is drawn, empty cache", tuple(run.seconds for run in opened), "s", at_most=2)
    yield Row("… until an empty Gradio page is drawn", tuple(run.seconds for run in empty), "s")
    added = tuple((ours.transferred - theirs.transferred) / 1e6 for ours, theirs in zip(opened, empty, strict=True))
    yield Row("bytes transferred until then, beyond an empty Gradio page", added, "MB", at_most=1)


def docs_block(report: dict) -> str:
    """The generated block of docs/playground.md."""
    where = f"{describe_machine(report)[:-1]}; Chromium {report['chromium']}; {report['runs']} runs each."
    return f"{to_markdown(read_rows(report))}\n{where}\n"


def main() -> None:
    """Measure, print the table, and write the requested files."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often to repeat everything (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    try:
        report = measure(options.runs)
    except AxionError as error:
        raise SystemExit(f"benchmarks.playground: {error}") from None
    print(docs_block(report))
    if options.json:
        write_json(options.json, report)
    if options.docs:
        write_docs("playground.md", "playground", report, docs_block(report))


if __name__ == "__main__":
    main()
