"""How much the server does at a time, and how much one visitor may request."""

import math
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from playground.generate.refusal import Refusal

GENERATIONS_AT_ONCE = 2
"""Generations that run at the same time, on the page and, counted separately, in the HTTP API; further ones wait."""

MAX_WAITING = 32
"""Places in the page's queue; the next visitor is told that it is full."""
MAX_WAITING_CALLS = 64
"""Places in the HTTP API's queue; the next call gets a 503."""

STARTS_PER_MINUTE = 30
"""Generations that one visitor may start in the long run."""
BURST = 12
"""Generations that one visitor may start at once, after a pause."""

FORGET_SECONDS = 60.0 * BURST / STARTS_PER_MINUTE
"""After this long without a start a visitor's bucket is full again."""


class TooManyRequests(Refusal):
    """This visitor has to wait for `seconds`, rounded up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__("too_many", seconds=self.seconds)


class RateLimiter:
    """A token bucket for each visitor: BURST starts at once, and STARTS_PER_MINUTE in the long run.

    Args:
        limited: False admits everything, for a server that one person uses alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, limited: bool = True) -> None:
        self._clock, self._limited = clock, limited
        self._buckets: dict[str, tuple[float, float]] = {}  # address → (starts left, when that was so)
        self._lock = Lock()

    def __len__(self) -> int:
        """How many visitors are remembered."""
        return len(self._buckets)

    def admit(self, address: str, starts: int = 1) -> None:
        """Count `starts` generations, at most BURST, together or not at all.

        Raises:
            TooManyRequests: this visitor has too few starts left.
        """
        if not self._limited:
            return
        with self._lock:
            now, rate = self._clock(), STARTS_PER_MINUTE / 60
            left, then = self._buckets.get(address, (float(BURST), now))
            left = min(BURST, left + (now - then) * rate)
            if left < starts:
                raise TooManyRequests((starts - left) / rate)
            self._buckets[address] = (left - starts, now)
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop full buckets when there are many: a visitor without one starts with a full one."""
        if len(self._buckets) > 1000:
            self._buckets = {who: bucket for who, bucket in self._buckets.items() if now - bucket[1] < FORGET_SECONDS}


def address_of(visitor: Any) -> str:
    """The address that a request came from, by which visitors are counted.

    Args:
        visitor: a request of Gradio or Starlette; the server has already decided which proxies to believe.
    """
    return visitor.client.host if visitor.client else "unknown"
