"""The rules that decide which documents train a model and which only measure it."""

import hashlib
import heapq
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from axion.data.holdout import shows_held_out

Item = TypeVar("Item")

RANKS = 2**64


class Side(StrEnum):
    """Where a document goes."""

    TRAIN = "train"
    VALIDATION = "validation"
    DROPPED = "dropped"
    """Neither side: training on it would show an operand pair that the arithmetic tests ask for."""


@dataclass(frozen=True)
class Split:
    """The split of a recipe: a hash of each document's text, the same on every machine."""

    fraction: float
    """Share of documents held out for validation."""
    seed: int
    holdout_fraction: float
    """Share of operand pairs that no training document may contain."""
    max_validation_bytes: int = 2**20
    """The most text of each source that is held out."""
    ranks: frozenset[int] | None = None
    """If given, exactly the documents of these ranks are held out, whatever `fraction` says."""

    def rank(self, text: str) -> int:
        """A hash of a document's text, below RANKS; documents of low rank are held out."""
        digest = hashlib.sha256(f"{self.seed}\n{text}".encode()).digest()
        return int.from_bytes(digest[:8], "big")

    def is_validation(self, text: str) -> bool:
        """Whether the document with this text is held out for validation."""
        rank = self.rank(text)
        return rank < self.fraction * RANKS if self.ranks is None else rank in self.ranks

    def side(self, text: str, marks: str = "") -> Side:
        """The side of real text: held out by its hash, and dropped from training if it contains a held-out pair.

        Args:
            text: the document's text, which alone decides about validation.
            marks: further text, not part of the document, that may contain a pair.
        """
        if self.is_validation(text):
            return Side.VALIDATION
        return Side.DROPPED if shows_held_out(f"{text}\n{marks}", self.holdout_fraction) else Side.TRAIN


class HeldOut(Generic[Item]):
    """The held-out documents of one source: those of the lowest ranks that fit into `max_validation_bytes`.

    They are what a smaller `val_fraction` would have held out, whatever their order. One document is always kept.
    """

    def __init__(self, split: Split):
        self._split = split
        self._heap: list[tuple[int, int, int, Item]] = []  # the highest rank first: ranks are negated
        self._bytes = self._added = 0
        self._lowest_dropped = RANKS

    def add(self, text: str, item: Item) -> None:
        """Adds the item of the document with this text."""
        self._added += 1
        if (rank := self._split.rank(text)) >= self._lowest_dropped:
            return  # it could fit where a longer document did not, but only if it came later
        size = len(text.encode())
        heapq.heappush(self._heap, (-rank, -self._added, size, item))
        self._bytes += size
        while self._bytes > self._split.max_validation_bytes and len(self._heap) > 1:
            dropped, _, size, _ = heapq.heappop(self._heap)
            self._bytes -= size
            self._lowest_dropped = -dropped

    def kept(self) -> list[Item]:
        """What was added for the documents that are kept, in its order."""
        return [item for _, _, _, item in sorted(self._heap, key=lambda entry: -entry[1])]

    @property
    def left_out(self) -> int:
        """How many documents are not kept."""
        return self._added - len(self._heap)
