"""Two generations at once, from one prompt and one seed: their events side by side."""

import time
from collections.abc import Iterator, Mapping

from axion.errors import AxionError
from playground.generate.events import MAX_SECONDS, live_events
from playground.generate.links import Wish

SIDES = ("a", "b")


def compared_events(wishes: Mapping[str, Wish | AxionError], max_seconds: float = MAX_SECONDS) -> Iterator[dict]:
    """The events of each side's generation, one of each in turn, so that both texts grow together.

    Every event carries its `side`. A step's seconds are those that its own side took, so that the speeds can be
    compared; together they have `max_seconds`. Closing this iterator closes every stream at once.

    Args:
        wishes: side → what it asks for, or why it can't be had, which is then that side's only event.
    """
    running = {side: _side_events(wish, max_seconds) for side, wish in wishes.items()}
    spent = dict.fromkeys(running, 0.0)
    try:
        while running:
            for side, events in list(running.items()):
                began = time.perf_counter()
                event = next(events, None)
                spent[side] += time.perf_counter() - began
                if event is None:
                    del running[side]
                    continue
                own_time = {"s": round(spent[side], 4)} if event["kind"] == "step" else {}
                yield {"side": side, **event, **own_time}
    finally:
        for events in running.values():
            events.close()


def _side_events(wish: Wish | AxionError, max_seconds: float) -> Iterator[dict]:
    if isinstance(wish, AxionError):
        yield {"kind": "error", "message": str(wish)}
    else:
        yield from live_events(wish.model, wish.request, max_seconds)
