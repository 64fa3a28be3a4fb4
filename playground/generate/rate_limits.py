"""How much the server does at a time, and how much one visitor may request."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
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
"""Generations that one visitor may start in the long run, unless the operator says otherwise."""
BURST = 12
"""Generations that one visitor may start at once, after a pause."""
SHARING = 40
"""As many visitors may share an address, such as a class behind one router; together they have as much as so many."""

FORGET_SECONDS = 60.0 * BURST / STARTS_PER_MINUTE
"""After this long without a start a visitor's bucket is full again."""

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers of a proxy. Behind one that does not name the client, everybody would seem to sit at this machine."""


class TooManyRequests(Refusal):
    """This visitor has to wait for `seconds`, rounded up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__("too_many", seconds=self.seconds)


@dataclass(frozen=True)
class Visitor:
    """Who makes a request."""

    address: str
    own: str = ""
    """What tells visitors of one address apart; they are counted together where it is empty."""
    here: bool = False
    """Whether it comes from this machine."""


class RateLimiter:
    """A token bucket for each visitor: BURST starts at once, and `per_minute` in the long run.

    A visitor can choose what tells it apart from others of its address, so all of an address have a bucket together,
    which is SHARING times as large.

    Args:
        per_minute: 0 admits everything, for a server that one person uses alone.
        open_here: whether requests from this machine are admitted without a limit.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        per_minute: float = STARTS_PER_MINUTE,
        open_here: bool = False,
    ) -> None:
        self._clock, self._rate, self._open_here = clock, per_minute / 60, open_here
        self._buckets: dict[tuple[str, ...], tuple[float, float]] = {}  # visitor → (share left, when that was so)
        self._lock = Lock()

    def __len__(self) -> int:
        """How many buckets are remembered."""
        return len(self._buckets)

    def admit(self, visitor: Visitor, starts: int = 1) -> None:
        """Count `starts` generations, at most BURST, together or not at all.

        Raises:
            TooManyRequests: this visitor, or all of its address together, have too few starts left.
        """
        if not self._rate or (self._open_here and visitor.here):
            return
        shares: dict[tuple[str, ...], float] = {(visitor.address, visitor.own): starts / BURST}
        if visitor.own:
            shares[(visitor.address,)] = starts / BURST / SHARING
        with self._lock:
            now, rate = self._clock(), self._rate / BURST  # all buckets fill up in the same time
            left = {}
            for bucket in shares:
                before, then = self._buckets.get(bucket, (1.0, now))
                left[bucket] = min(1.0, before + (now - then) * rate)
            missing = max(share - left[bucket] for bucket, share in shares.items())
            if missing > 1e-9:
                raise TooManyRequests(round(missing / rate, 6))
            for bucket, share in shares.items():
                self._buckets[bucket] = (left[bucket] - share, now)
            self._forget(now, 1 / rate)

    def _forget(self, now: float, seconds: float) -> None:
        """Drop full buckets when there are many: a visitor without one starts with a full one."""
        if len(self._buckets) > 1000:
            self._buckets = {who: bucket for who, bucket in self._buckets.items() if now - bucket[1] < seconds}


def page_visitor(request: Any) -> Visitor:
    """Who uses the page: its session in the browser. `request` is Gradio's."""
    return _visitor(request, str(getattr(request, "session_hash", None) or ""))


def program_visitor(request: Any) -> Visitor:
    """Which program calls: that of an API key, whatever it says, else all programs of the address.

    Args:
        request: of Gradio or Starlette; the server has already decided which proxies to believe.
    """
    return _visitor(request, request.headers.get("authorization") or "")


def _visitor(request: Any, own: str) -> Visitor:
    address = request.client.host if request.client else "unknown"
    here = _is_loopback(address) and not any(name in request.headers for name in FORWARDED)
    return Visitor(address, hashlib.sha256(own.encode()).hexdigest()[:16] if own else "", here)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
