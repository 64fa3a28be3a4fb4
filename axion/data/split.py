"""The rules that decide which documents train a model and which only measure it."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from axion.data.holdout import shows_held_out


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
    """Share of operand pairs that no training document may show."""

    def is_validation(self, text: str) -> bool:
        """Whether the document with this text is held out for validation."""
        digest = hashlib.sha256(f"{self.seed}\n{text}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.fraction * 2**64

    def side(self, text: str, marks: str = "") -> Side:
        """The side of real text: held out by its hash, and dropped from training if it shows a held-out pair.

        Args:
            text: the document's text, which alone decides about validation.
            marks: further text, not part of the document, that may show a pair.
        """
        if self.is_validation(text):
            return Side.VALIDATION
        return Side.DROPPED if shows_held_out(f"{text}\n{marks}", self.holdout_fraction) else Side.TRAIN
