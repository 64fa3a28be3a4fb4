"""Two generations side by side, from one prompt and one seed."""

import time
from collections.abc import Generator, Mapping
from typing import Any

from axion.errors import AxionError
from playground.generate.catalogue import Catalogue
from playground.generate.events import MAX_SECONDS, live_events
from playground.generate.refusal import tell
from playground.generate.request import DEFAULTS, LIMITS, Request
from playground.locales import DEFAULT, Language

SIDES = ("a", "b")
SHARED = ("max_new_tokens", "min_new_tokens", "seed")
"""The settings that both sides have in common."""

SHARED = ("max_new_tokens", "min_new_tokens", "seed")
OWN = tuple(name for name in LIMITS if name not in SHARED)
"""The settings that each side has separately."""

START = {
    "a": DEFAULTS | {"max_new_tokens": 120, "seed": 1},
    "b": DEFAULTS | {"max_new_tokens": 120, "seed": 1, "temperature": 0.8},
}
"""Greedy decoding against sampling: the first question about sampling."""


def compared_events(
    catalogue: Catalogue,
    requests: Mapping[str, Request | AxionError],
    max_seconds: float = MAX_SECONDS,
    language: Language = DEFAULT,
) -> Generator[dict[str, Any], None, None]:
    """The events of each side's generation, one of each in turn, so that both texts grow together.

    Every event carries its `side`. A step's seconds count the work of its own side, so that speeds can be compared;
    `max_seconds` is for both together. Closing this iterator closes every stream at once.

    Args:
        requests: side → its request, or the error that becomes that side's only event.
        language: of the error messages, where they are translated.
    """
    running = {side: _side_events(catalogue, request, max_seconds, language) for side, request in requests.items()}
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


def _side_events(
    catalogue: Catalogue, request: Request | AxionError, max_seconds: float, language: Language
) -> Generator[dict[str, Any], None, None]:
    if isinstance(request, AxionError):
        yield {"kind": "error", "message": tell(request, language)}
    else:
        yield from live_events(catalogue.open(request.model), request, max_seconds, language=language)
