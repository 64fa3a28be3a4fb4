"""What a figure is made of, item by item, so that releases can be compared on the same items.

A task keeps them under `OUTCOMES` in the dict that has the figures, its result or one of its "scores": a list in the
order of the rows that `axion.evaluation.results` makes of it, None where a row has none. They are many and only
compared, so results that are written or shown don't have them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from axion.evaluation.intervals import bootstrap_interval, wilson_interval
from axion.training.validation import DocumentLoss

OUTCOMES = "outcomes"
"""The key of a list of outcomes."""


@dataclass(frozen=True)
class Outcomes:
    """A figure item by item: it is `sum(parts) / sum(sizes)`. The lists have one entry for each item."""

    ids: Sequence[str]
    """What names an item in the results of every release: a question, or the text of a document."""
    parts: Sequence[float]
    """1 for a right answer, 0 for a wrong one, a share for one among equals; or a document's loss in bits."""
    sizes: Sequence[float]
    """1 for an answer; or a document's bytes."""
    is_share: bool
    """Whether the figure is a share of right answers, where more is better; else it is bits per byte."""

    @classmethod
    def of_answers(cls, ids: Sequence[str], correct: Sequence[float]) -> Outcomes:
        """Those of a share of right answers."""
        return cls(ids, [float(each) for each in correct], [1.0] * len(ids), True)

    @classmethod
    def of_losses(cls, ids: Sequence[str], losses: Sequence[DocumentLoss]) -> Outcomes:
        """Those of bits per byte over documents."""
        return cls(ids, [loss.nats / math.log(2) for loss in losses], [float(loss.bytes) for loss in losses], False)

    def of_items(self, places: Sequence[int]) -> Outcomes:
        """Those at some places, in their order."""
        parts, sizes = ([values[place] for place in places] for values in (self.parts, self.sizes))
        return Outcomes([self.ids[place] for place in places], parts, sizes, self.is_share)

    @property
    def value(self) -> float:
        """The figure."""
        return sum(self.parts) / sum(self.sizes)

    def interval(self) -> list[float] | None:
        """Its 95% interval: Wilson's of a share, else by bootstrap over documents, which takes two of them."""
        if self.is_share:
            return wilson_interval(sum(self.parts), len(self.parts))
        return bootstrap_interval(self.parts, self.sizes)


def on_shared_items(several: Sequence[Outcomes]) -> list[Outcomes]:
    """The outcomes on the items that all have, in the order of the first; an id that recurs counts as often."""
    places = [{key: place for place, key in enumerate(_numbered(each.ids))} for each in several]
    shared = [key for key in places[0] if all(key in other for other in places[1:])]
    return [each.of_items([at[key] for key in shared]) for each, at in zip(several, places, strict=True)]


def _numbered(ids: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each id with how often it came before."""
    seen: Counter[str] = Counter()
    for each in ids:
        yield each, seen[each]
        seen[each] += 1


def without_outcomes(results: Any) -> Any:
    """Results, as JSON, without the outcomes in them."""
    if isinstance(results, dict):
        return {key: without_outcomes(value) for key, value in results.items() if key != OUTCOMES}
    return [without_outcomes(each) for each in results] if isinstance(results, list) else results
