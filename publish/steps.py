"""The steps of a publication, told as they end: one line each, with what was done and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Step:
    """A step that has ended well."""

    name: str
    did: str
    seconds: float
    skipped: bool

    def __str__(self) -> str:
        return f"{self.name:<10} {'skipped: ' if self.skipped else ''}{self.did} ({self.seconds:.1f} s)"


class Steps:
    """Tells each step as it ends, and remembers it."""

    def __init__(self, say: Callable[[str], None] = print):
        """`say` receives one line per step."""
        self._say = say
        self._done: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; it reports what it did by calling what this yields. A step that fails is not told.

        What starts with "skipped: " marks a step that had nothing to do.
        """
        started, told = time.perf_counter(), []
        yield told.append
        self._tell(name, "; ".join(told), time.perf_counter() - started)

    def skip(self, name: str, why: str) -> None:
        """Tell that a step had nothing to do."""
        self._tell(name, f"skipped: {why}", 0.0)

    def _tell(self, name: str, did: str, seconds: float) -> None:
        skipped = did.startswith("skipped: ")
        self._done.append(Step(name, did.removeprefix("skipped: "), seconds, skipped))
        self._say(str(self._done[-1]))

    def summary(self) -> list[dict]:
        """All steps so far, for JSON."""
        return [asdict(step) | {"seconds": round(step.seconds, 1)} for step in self._done]
