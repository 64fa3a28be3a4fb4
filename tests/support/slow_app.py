"""The playground with a pause at every token, so that a generation can be watched, stopped or left.

    python -m tests.support.slow_app [--tokens-per-second N] [options of app.py]

Without pauses a text is complete before a browser can react. With `--tokens-per-second`, which is for films, only new
tokens are delayed, and the page still shows the model's own speed.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from axion.inference.stream import Step, stream
from playground.server.launch import main

START_PAUSE = 0.2
"""Seconds before the first token."""
PAUSE = 0.008
"""Seconds after each of the first tokens."""
LATER, LATER_PAUSE = 128, 0.02
"""After this many tokens the pause is longer, so that long texts take many seconds."""


def slow_stream(*arguments, **named) -> Iterator[Step]:
    """`axion.inference.stream.stream` with pauses. Like it, checks its arguments at the call."""
    return _pausing(stream(*arguments, **named))


def _pausing(steps: Iterator[Step]) -> Iterator[Step]:
    try:
        time.sleep(START_PAUSE)
        for step in steps:
            yield step
            time.sleep(PAUSE if step.position < LATER else LATER_PAUSE)
    finally:
        steps.close()


def paced_stream(*arguments, tokens_per_second: float, **named) -> Iterator[Step]:
    """`stream` at a fixed number of new tokens per second; a step's seconds only count the model's work."""
    steps, worked = stream(*arguments, **named), 0.0
    while True:
        before = time.perf_counter()
        step = next(steps, None)
        worked += time.perf_counter() - before
        if step is None:
            return
        yield replace(step, seconds=worked)
        if not step.is_prompt:
            time.sleep(1 / tokens_per_second)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--tokens-per-second", type=float)
    options, others = parser.parse_known_args()
    pace = options.tokens_per_second
    main(others, stream=partial(paced_stream, tokens_per_second=pace) if pace else slow_stream)
