"""app.py, except that the model waits between its tokens, so that a film can show the ribbon grow.

    python -m tests.support.slow_page --port PORT

The page tells the model's own speed all the same: a step's time counts the model's work alone.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from axion.inference import stream as generation

TOKENS_PER_SECOND = 8

model_stream = generation.stream


def slow_stream(*arguments: object, **named: object) -> Iterator[generation.Step]:
    """The model's steps, with a wait after each new token."""
    steps, worked = model_stream(*arguments, **named), 0.0
    while True:
        before = time.perf_counter()
        step = next(steps, None)
        worked += time.perf_counter() - before
        if step is None:
            return
        yield replace(step, seconds=worked)
        if not step.is_prompt:
            time.sleep(1 / TOKENS_PER_SECOND)


if __name__ == "__main__":
    generation.stream = slow_stream  # before the page's modules are imported, which take it from there
    from playground.server.launch import main

    main()
