"""The pages that `benchmarks.playground` compares, each in its own process: `python -m benchmarks.pages PAGE --port N`.

    playground     the page as app.py serves it
    textbox        a Gradio page with only a Textbox, updated as often as the real page
    textbox-each   the same, updated at every token
    empty          an empty Gradio page

All show the same steps of the same model, whatever their controls are set to. `--speed` replays recorded steps at that
many tokens per second, so that the page is the bottleneck, not the model; without it the text is endless. Each
generation appends a line to the file `--log`: when it began and ended, by the system clock, which the browser shares.
"""

import argparse
import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

from playground.server.launch import main as serve
from playground.server.launch import set_environment

set_environment()  # for all pages alike, and before torch is imported, as in app.py

from axion.inference.sampling import Sampling  # noqa: E402
from axion.inference.stream import Step, stream  # noqa: E402
from axion.release import Release, open_release  # noqa: E402

BUNDLED = "axion1-v0.1"
NEW_TOKENS = 480
"""Together with the prompt, this fills the bundled model's context."""
SAMPLING = Sampling(temperature=0.8, seed=1, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
ENDLESS_PAUSE = 0.01
"""Seconds between the tokens of an endless text. Without a pause it would outgrow the page before a busy machine finds
the Stop button."""
PAGES = ("playground", "textbox", "textbox-each", "empty")

Source = Callable[..., Generator[Step]]


def main() -> None:
    """Serve one page until the process is stopped."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("page", choices=PAGES)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--speed", type=float)
    options = parser.parse_args()
    source = logged(build_source(options.speed), options.log)
    if options.page == "playground":
        serve(["--port", str(options.port), "--models", BUNDLED], stream=source)
    else:
        serve_plain(options, source)


def build_source(speed: float | None) -> Source:
    """A replacement for `axion.inference.stream.stream`: the model in an endless loop, or a replay of it."""

    def endless(model, tokenizer, prompt, sampling, **_) -> Generator[Step]:
        while True:
            for step in stream(model, tokenizer, prompt, SAMPLING):
                yield step
                time.sleep(ENDLESS_PAUSE)

    recorded: list[Step] = []

    def replayed(model, tokenizer, prompt, sampling, **_) -> Generator[Step]:
        assert speed is not None
        start = time.perf_counter()
        for number, step in enumerate(recorded):
            seconds = number / speed
            time.sleep(max(0, start + seconds - time.perf_counter()))
            yield replace(step, seconds=seconds)

    if speed is None:
        return endless
    release = open_release(BUNDLED)
    recorded += stream(release.model, release.tokenizer, recorded_prompt(release), SAMPLING)
    return replayed


def recorded_prompt(release: Release) -> str:
    """The prompt of the release's recorded example."""
    assert release.trace is not None
    return release.trace["prompt"]


def logged(source: Source, log: Path | None) -> Source:
    """The same steps; each generation appends a line to `log` when it finishes or is closed."""

    def stream_and_log(*arguments, **named) -> Generator[Step]:
        times, text, tokens, finished = {"began": time.time()}, "", 0, False
        try:
            for step in source(*arguments, **named):
                times["last"] = time.time()
                text += step.text
                tokens += 1
                yield step
            finished = True
        finally:
            if log:
                shown = len(text.encode("utf-16-le")) // 2  # UTF-16 units, as in JavaScript
                line = {**times, "ended": time.time(), "tokens": tokens, "characters": shown, "finished": finished}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

    return stream_and_log


def serve_plain(options: argparse.Namespace, source: Source) -> None:
    """Serve a page with at most a button and a Textbox."""
    import gradio as gr

    with gr.Blocks(analytics_enabled=False) as page:
        if options.page != "empty":
            release = open_release(BUNDLED)
            box = gr.Textbox(lines=12, elem_id="box")
            button = gr.Button("Generate", elem_id="generate")
            write = growing_texts(release, source, every_token=options.page == "textbox-each")
            button.click(write, None, box, show_progress="hidden")
    page.launch(server_port=options.port, quiet=True, ssr_mode=False, enable_monitoring=False)


def growing_texts(release: Release, source: Source, every_token: bool) -> Callable[[], Iterator[str]]:
    """The Textbox's event handler: yields the text so far at every token, or as often as the real page is updated."""
    from playground.generate.events import UPDATES_PER_SECOND

    def write() -> Iterator[str]:
        text, sent = "", -float("inf")
        for step in source(release.model, release.tokenizer, recorded_prompt(release), SAMPLING):
            text += step.text
            if every_token or time.monotonic() - sent >= 1 / UPDATES_PER_SECOND:
                yield text
                sent = time.monotonic()
        yield text

    return write


if __name__ == "__main__":
    main()
