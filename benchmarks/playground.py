"""How fast the page draws, in a real Chromium: `python -m benchmarks.playground [--runs N] [--json FILE] [--docs]`.

Everything that is compared is measured in turn in one run on one machine, and told as the median of several runs. The
targets are the page's own; --json writes every value, --docs writes docs/playground.json and the table of
docs/playground.md. See that page for what each row means.
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
from tests.support.browsers import chromium
from tests.support.servers import Server, served
from tests.support.steering import READY

if TYPE_CHECKING:  # where it is not installed, `chromium` says so in a line
    from playwright.sync_api import Browser, Page

FULL_SPEED = 1000
"""Tokens a second of the replay. The bundled model itself writes a whole text between two frames of the screen."""
START_SECONDS = 300.0
"""A page that replays lets its model write first."""
WAIT_SECONDS = 120.0
REST_SECONDS = 1.0

# From a click on, samples after each frame was painted: a message is delivered once the frame's work is done.
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

# The same, for the first moment when what SELECTOR finds has a size on the screen.
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
    """Frames in which more was shown than in the one before, over the time from the first to the last of them."""
    tokens_per_second: float
    """All tokens, over the time from the click to the last drawing."""
    lag_seconds: float
    """From the server's last token to the last drawing."""


class Log:
    """The file to which the served page adds a line for each generation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def next(self, after: float = 0.0) -> dict:
        """The line of the generation that ends next, or of the first that ended after a moment (`time.time()`).

        Raises:
            AxionError: none does in WAIT_SECONDS.
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
    """A page of `benchmarks.pages` and the log of its generations, for as long as the `with` block lasts."""
    with tempfile.TemporaryDirectory(prefix="axion-benchmark-") as folder:
        log = Path(folder) / "generations.jsonl"
        app = ("-m", "benchmarks.pages", name, "--log", str(log), *options)
        with served(app=app, start_seconds=START_SECONDS) as server:
            yield server, Log(log)


def measure_streaming(browser: "Browser", runs: int, *options: str) -> dict[str, list[Streamed]]:
    """Stream the same steps into the real page and into both Textboxes, in turn, `runs` times after a first one."""
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
                if run:  # the first one warmed model and browser up
                    results[name].append(streamed)
        for page, _, _ in pages.values():
            page.close()
    return results


def stream_once(page: "Page", log: Log, ours: bool) -> Streamed:
    """Press Generate, and wait until all of it is drawn."""
    page.bring_to_front()  # the others need not draw
    page.locator("#generate").click()
    ended = log.next()
    whole = VIEW_DONE if ours else f"{BOX_COUNT} === {ended['characters']}"
    page.wait_for_function(f"growth.done && {whole}", timeout=1000 * WAIT_SECONDS)
    page.wait_for_function("last => Date.now() > last + 300", arg=page.evaluate("Date.now()"))  # nothing may follow
    growth = page.evaluate("Object.assign(growth, { on: false })")
    moments = [moment for moment, shown in growth["changes"] if shown]  # without the emptying at the start
    last = max(moments[-1], growth["done"] if ours else 0)
    return Streamed(
        updates_per_second=(len(moments) - 1) / max(moments[-1] - moments[0], 1) * 1000,
        tokens_per_second=ended["tokens"] / (last - growth["clicked"]) * 1000,
        lag_seconds=last / 1000 - ended["last"],
    )


def open_page(browser: "Browser", server: Server) -> "Page":
    """The page in a context of its own, so with an empty cache."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * WAIT_SECONDS)
    page.goto(server.address)
    return page


@dataclass(frozen=True)
class Opened:
    """A page's first look with an empty cache."""

    seconds: float
    """From the navigation to the drawing of what was waited for."""
    transferred: int
    """Bytes that had come over the network until then, headers included."""


def measure_opening(browser: "Browser", address: str, selector: str, runs: int) -> list[Opened]:
    """Open the page `runs` times, each time with an empty cache, until `selector` is drawn."""
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


def measure_rest(browser: "Browser", runs: int) -> tuple[list[float], list[float], list[float]]:
    """Stop an endless generation, and close the tab of another.

    Returns:
        Seconds from Stop to the model's rest, seconds from a closed tab to it, and the cores that are busy after that.
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
    """A page that shows a text without an end."""
    page = open_page(browser, server)
    page.wait_for_selector(READY)
    page.locator("#generate").click()
    page.wait_for_function(f"document.querySelector('[data-state=running]') && {VIEW_COUNT} > 40")
    return page


def busy_cores(server: Server) -> float:
    """Processor seconds a second that the server uses now."""
    before = server.cpu_seconds()
    time.sleep(REST_SECONDS)
    return (server.cpu_seconds() - before) / REST_SECONDS


def measure(runs: int) -> dict:
    """Every row, in a report."""
    with chromium() as browser:
        replayed = measure_streaming(browser, runs, "--speed", str(FULL_SPEED))
        with served() as ours, compared_page("empty") as (empty, _):
            opened = measure_opening(browser, ours.address, CELL, runs)
            opened_empty = measure_opening(browser, empty.address, FOOTER, runs)
        stopped, closed, busy = measure_rest(browser, runs)
        version = browser.version
    rows = [
        *streaming_rows(replayed, f"{FULL_SPEED:,} tokens/s replayed"),
        *opening_rows(opened, opened_empty),
        Row("Stop until the model rests", tuple(stopped), "s", at_most=2),
        Row("closed tab until the model rests", tuple(closed), "s", at_most=2),
        Row("processor cores busy after that", tuple(busy), "", at_most=0.2),
    ]
    return build_report(rows, chromium=version, runs=runs)


def streaming_rows(results: dict[str, list[Streamed]], source: str) -> Iterator[Row]:
    """The rows of one source of steps; a run's ratio is that of runs of the same number."""

    def column(name: str, field: str) -> tuple[float, ...]:
        return tuple(getattr(run, field) for run in results[name])

    speeds = {name: column(name, "tokens_per_second") for name in results}

    def ratio(name: str) -> tuple[float, ...]:
        return tuple(ours / theirs for ours, theirs in zip(speeds["playground"], speeds[name], strict=True))

    yield Row(f"visible updates, {source}", column("playground", "updates_per_second"), "/s", at_least=25)
    yield Row(f"last token until all is drawn, {source}", column("playground", "lag_seconds"), "s", at_most=0.3)
    yield Row(f"tokens shown, {source}", speeds["playground"], "/s")
    yield Row(f"… by a Textbox with as many updates, {source}", speeds["textbox"], "/s")
    yield Row(f"… by a Textbox with an update a token, {source}", speeds["textbox-each"], "/s")
    yield Row(f"page ÷ Textbox with as many updates, {source}", ratio("textbox"), "×", at_least=0.7)
    yield Row(f"page ÷ Textbox with an update a token, {source}", ratio("textbox-each"), "×", at_least=0.7)


def opening_rows(opened: Sequence[Opened], empty: Sequence[Opened]) -> Iterator[Row]:
    """The rows about the first look."""
    yield Row("navigation until the ribbon is drawn, empty cache", tuple(run.seconds for run in opened), "s", at_most=2)
    yield Row("… until an empty Gradio page is drawn", tuple(run.seconds for run in empty), "s")
    added = tuple((ours.transferred - theirs.transferred) / 1e6 for ours, theirs in zip(opened, empty, strict=True))
    yield Row("transferred until then, beyond an empty Gradio page", added, "MB", at_most=1)


def docs_block(report: dict) -> str:
    """The lines that docs/playground.md has between its markers."""
    where = f"{describe_machine(report)[:-1]}; Chromium {report['chromium']}; {report['runs']} runs each."
    return f"{to_markdown(read_rows(report))}\n{where}\n"


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="repetitions of everything (default %(default)s)")
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
