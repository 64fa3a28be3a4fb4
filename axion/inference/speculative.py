"""Speculative decoding: something cheap guesses at tokens, and the model verifies several of them in one pass.

Unlike in Leviathan et al. (arXiv 2211.17192), nothing is resampled: a guess is drawn with the random number of its
position, as the model itself draws, and is kept where it is the token that the model draws. The text is therefore the
one that the model writes alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from axion.inference.readers import Drawn, NativeReader, Reader

DRAFT_LENGTH = 4
"""Tokens that are verified together, the first of which is the model's own."""


@dataclass
class Acceptance:
    """How many guesses were made, and how many of them were the tokens that the model drew."""

    guessed: int = 0
    accepted: int = 0

    @property
    def rate(self) -> float:
        """Accepted guesses as a share of all; 0 where there was none."""
        return self.accepted / self.guessed if self.guessed else 0.0


class Drafter(Protocol):
    """Guesses at the next tokens of a text."""

    def read(self, ids: Sequence[int]) -> None:
        """Reads tokens that the reader has read."""
        ...

    def guess(self, token: int, most: int) -> list[int]:
        """At most `most` guesses at the tokens after `token`, which follows what was read."""
        ...

    def rewind(self, length: int) -> None:
        """Forgets what follows the first `length` tokens, the reader's own; it may have read fewer."""
        ...


class ModelDrafter:
    """Another model, with the same tokenizer, that drafts. One with a shorter context stops when that is full.

    Args:
        reader: of that model, with the sampling of the reader that verifies.
    """

    def __init__(self, reader: Reader):
        self._reader = reader

    def read(self, ids: Sequence[int]) -> None:
        if ids := ids[: self._reader.room]:
            self._reader.read(ids)

    def guess(self, token: int, most: int) -> list[int]:
        if self._reader.room:
            self._reader.draw(token)
        guesses: list[int] = []
        while self._reader.room and len(guesses) < most and (drawn := self._reader.draw()) is not None:
            guesses.append(drawn.token)
        return guesses

    def rewind(self, length: int) -> None:
        self._reader.rewind(min(self._reader.length, length))


class NativeMTPDrafter:
    """The model's own layer of multi-token prediction: one guess, from what the model computed for the tokens so far.

    Args:
        reader: the one that verifies, of a model with that layer. It has the layer's cache too.

    Source: DeepSeek-V3 technical report, arXiv 2412.19437, sections 2.2 and 5.4.3.
    """

    def __init__(self, reader: NativeReader):
        self._reader = reader

    def read(self, ids: Sequence[int]) -> None:
        """Nothing: the next guess starts from what the reader has read."""

    def guess(self, token: int, most: int) -> list[int]:
        guess = self._reader.guess(token) if most > 0 else None
        return [] if guess is None else [guess]

    def rewind(self, length: int) -> None:
        """Nothing: the reader's own rewinding includes the layer."""


def speculate(
    reader: Reader, drafter: Drafter, acceptance: Acceptance, draft_length: int = DRAFT_LENGTH
) -> Iterator[Drawn]:
    """Yields what repeated `reader.draw()` would, until the text or the context ends.

    The first token of a draft is drawn from logits that the previous pass already computed; the drafter adds the rest.

    Args:
        reader: has read the prompt.
        drafter: has read the same tokens.
        acceptance: counts the guesses.
    """
    while reader.room and (token := reader.choose()) is not None:
        draft = [token, *drafter.guess(token, min(draft_length, reader.room) - 1)]
        kept = reader.verify(draft)
        drafter.rewind(reader.length)
        acceptance.guessed += len(draft) - 1
        acceptance.accepted += len(kept) - 1
        yield from kept
