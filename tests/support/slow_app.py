"""The playground, whose models pause before every token: their texts last long enough to be watched, stopped and left.

`python -m tests.support.slow_app`, with the options of app.py. Without the pause a text is done before a browser has
moved the mouse.
"""

import time
from collections.abc import Iterator

from axion.inference import stream as generation

START_PAUSE = 0.2
"""Seconds before the first token, in which the page waits for it."""
PAUSE = 0.008
"""Seconds before every other token: four for a text of 512."""

model_stream = generation.stream


def slow_stream(*arguments, **named) -> Iterator[generation.Step]:
    """`axion.inference.stream.stream`, which has checked its arguments before the first pause."""
    steps = model_stream(*arguments, **named)
    return _pausing(steps)


def _pausing(steps: Iterator[generation.Step]) -> Iterator[generation.Step]:
    try:
        time.sleep(START_PAUSE)
        for step in steps:
            yield step
            time.sleep(PAUSE)
    finally:
        steps.close()


if __name__ == "__main__":
    generation.stream = slow_stream  # before the page's modules are imported, which take it from there
    from playground.server.launch import main

    main()
