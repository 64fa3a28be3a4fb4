"""How much one visitor may ask for, so that nobody keeps the page from everybody else."""

import math
import time
from collections.abc import Callable
from threading import Lock

from playground.generate.request import Refusal

STARTS_PER_MINUTE = 30
BURST = 12
"""So many starts a visitor may save up."""

MAX_WAITING = 32
"""Visitors of the page in the queue; the next one is told that it is full."""

FORGET_SECONDS = 60.0 * BURST / STARTS_PER_MINUTE


class TooManyRequests(Refusal):
    """This visitor has to wait; `seconds` says how long, rounded up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__("too_many", seconds=self.seconds)


class Visitors:
    """Counts each visitor's generations: BURST at once, and STARTS_PER_MINUTE in the long run (a token bucket)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # address → (starts left, when that was so)
        self._lock = Lock()

    def __len__(self) -> int:
        """How many visitors are remembered."""
        return len(self._buckets)

    def admit(self, address: str, starts: int = 1) -> None:
        """Count so many starts, at most BURST, or none. Raises TooManyRequests when this visitor has too few left."""
        with self._lock:
            now, rate = self._clock(), STARTS_PER_MINUTE / 60
            left, then = self._buckets.get(address, (float(BURST), now))
            left = min(BURST, left + (now - then) * rate)
            if left < starts:
                raise TooManyRequests((starts - left) / rate)
            self._buckets[address] = (left - starts, now)
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Whoever was away long enough has a full bucket again, which needs no memory."""
        if len(self._buckets) > 1000:
            self._buckets = {who: kept for who, kept in self._buckets.items() if now - kept[1] < FORGET_SECONDS}
