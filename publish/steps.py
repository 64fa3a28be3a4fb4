"""Progress of a publication: one line per step, with what it did and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Step:
    """A step that has completed."""

    name: str
    did: str
    """What it did, or why it was skipped."""
    seconds: float
    skipped: bool

    def __str__(self) -> str:
        return f"{self.name:<10} {'skipped: ' if self.skipped else ''}{self.did} ({self.seconds:.1f} s)"


class Steps:
    """Reports each step when it completes and keeps a record of it."""

    def __init__(self, report: Callable[[str], None] = print):
        """
        Args:
            report: called with one line per step.
        """
        self._report = report
        self._completed: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step. A step that raises is not reported.

        Yields:
            A function to call with a summary of what was done. A summary that starts with "skipped: " marks a step that
            had nothing to do. Several summaries are joined with "; ".
        """
        started, summaries = time.perf_counter(), []
        yield summaries.append
        self._add(name, "; ".join(summaries), time.perf_counter() - started)

    def skip(self, name: str, reason: str) -> None:
        """Report a step that had nothing to do."""
        self._add(name, f"skipped: {reason}", 0.0)

    def _add(self, name: str, did: str, seconds: float) -> None:
        skipped = did.startswith("skipped: ")
        self._completed.append(Step(name, did.removeprefix("skipped: "), seconds, skipped))
        self._report(str(self._completed[-1]))

    def as_json(self) -> list[dict]:
        """The completed steps, for `--json`: name, did, seconds (rounded to tenths), skipped."""
        return [asdict(step) | {"seconds": round(step.seconds, 1)} for step in self._completed]
