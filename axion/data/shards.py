"""Tokenized documents on disk: plain .npy files, written as a stream and read as memory maps.

A split is one or more shards, numbered from 0. Each has up to three files that `numpy.load` opens:

- `train-00000.tokens.npy`: the token ids of its documents in a row, uint16 where the vocabulary has at most 65,536
  entries, uint32 otherwise
- `train-00000.documents.npy`: one row per document, its number of `tokens`, of `bytes`, and the index of its `source`
- `train-00000.loss.npy`: one bool per token, whether it carries loss; left out where all do

A document is never split between shards. How many shards there are, and how many of them have a mask, is recorded
beside them (`ShardCounts`): files that are lost would otherwise be a smaller set, or one without a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from axion.errors import AxionError
from axion.labels import IGNORED

SHARD_TOKENS = 2**23
"""A shard is closed when it has this many tokens: 16 or 32 MB, which is what writing keeps in memory."""

DOCUMENT = np.dtype([("tokens", np.int64), ("bytes", np.int64), ("source", np.uint8)])


def token_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id of a vocabulary, 16 or 32 bits."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


class Encoded(NamedTuple):
    """One document as tokens, `<bos>` and `<eos>` included."""

    ids: Sequence[int] | np.ndarray
    loss: Sequence[bool] | np.ndarray | None = None
    """Whether each token carries loss; None where all do."""
    num_bytes: int = 0
    """Bytes of the text that carries loss."""
    source: int = 0
    """Index of its source."""

    def labels(self) -> np.ndarray:
        """int64 `[tokens]`: the ids, and −100 where there is no loss."""
        ids = np.asarray(self.ids, dtype=np.int64)
        return ids if self.loss is None else np.where(self.loss, ids, IGNORED)


class ShardCounts(NamedTuple):
    """The size of a split, which is checked when it is opened."""

    shards: int
    masked_shards: int
    """Those in which some token carries no loss."""
    documents: int
    tokens: int


class ShardWriter:
    """Writes the documents of one split to shards; memory is bounded by one shard.

    Use it as a context manager: the last shard is written when the block ends.
    """

    def __init__(self, folder: Path, split: str, vocab_size: int, shard_tokens: int = SHARD_TOKENS):
        self._folder, self._split, self._shard_tokens = folder, split, shard_tokens
        self._vocab_size, self._type = vocab_size, token_type(vocab_size)
        self.counts = ShardCounts(0, 0, 0, 0)
        """What has been written; complete when the block has ended."""
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (self._rows or not self.counts.shards):
            self._flush()

    def write(self, document: Encoded) -> None:
        """Adds a document. Raises AxionError where an id is not in the vocabulary."""
        ids = np.asarray(document.ids, dtype=np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < self._vocab_size:
            raise AxionError(f"a document has token ids that a vocabulary of {self._vocab_size} does not have")
        self._tokens.append(ids.astype(self._type))
        loss = np.ones(len(ids), bool) if document.loss is None else np.asarray(document.loss, bool)
        if len(loss) != len(ids):
            raise ValueError(f"{len(ids)} tokens, but {len(loss)} entries in the loss mask")
        self._loss.append(loss)
        self._rows.append((len(ids), document.num_bytes, document.source))
        self._size += len(ids)
        if self._size >= self._shard_tokens:
            self._flush()

    def _flush(self) -> None:
        before = self.counts
        stem = f"{self._split}-{before.shards:05d}"
        empty = np.empty(0, self._type)
        np.save(self._folder / f"{stem}.tokens.npy", np.concatenate([empty, *self._tokens]))
        np.save(self._folder / f"{stem}.documents.npy", np.array(self._rows, dtype=DOCUMENT))
        loss = np.concatenate([np.empty(0, bool), *self._loss])
        if is_masked := not loss.all():
            np.save(self._folder / f"{stem}.loss.npy", loss)
        self.counts = ShardCounts(
            before.shards + 1,
            before.masked_shards + is_masked,
            before.documents + len(self._rows),
            before.tokens + self._size,
        )
        self._clear()

    def _clear(self) -> None:
        self._tokens: list[np.ndarray] = []
        self._loss: list[np.ndarray] = []
        self._rows: list[tuple[int, int, int]] = []
        self._size = 0


@dataclass(frozen=True)
class Shard:
    """One shard, its tokens and mask as memory maps."""

    tokens: np.ndarray
    loss: np.ndarray | None

    def has_length(self, tokens: int) -> bool:
        """Whether it has this many tokens, and its mask as many entries."""
        return all(part.shape == (tokens,) for part in (self.tokens, self.loss) if part is not None)


class TokenDocuments(Sequence[Encoded]):
    """The documents of a split: `documents[i]` reads document i from disk."""

    def __init__(self, shards: Sequence[Shard], rows: Sequence[np.ndarray]):
        """
        Args:
            shards: in their order.
            rows: per shard its documents, an array of `DOCUMENT`.
        """
        self.shards = list(shards)
        table = np.concatenate(rows) if rows else np.empty(0, DOCUMENT)
        self.lengths, self.num_bytes, self.sources = (table[name].copy() for name in ("tokens", "bytes", "source"))
        self._first_documents = np.cumsum([0, *map(len, rows)])

    @classmethod
    def open(cls, folder: Path, split: str, expected: ShardCounts) -> Self:
        """Opens what a `ShardWriter` wrote; nothing but the table of documents is read.

        Args:
            expected: the writer's `counts`.

        Raises:
            OSError: a file is missing.
            ValueError: a file is broken, or the split has more or less than `expected`.
        """
        shards, rows = [], []
        for number in range(expected.shards):
            stem = f"{split}-{number:05d}"
            loss = folder / f"{stem}.loss.npy"
            shard = Shard(_map(folder / f"{stem}.tokens.npy"), _map(loss) if loss.is_file() else None)
            table = np.load(folder / f"{stem}.documents.npy")
            if table.dtype != DOCUMENT or not shard.has_length(table["tokens"].sum()):
                raise ValueError(f"{stem} is broken: its files do not match each other")
            shards.append(shard)
            rows.append(table)
        opened = cls(shards, rows)
        if opened.counts != expected:
            raise ValueError(f"{split} has {opened.counts}; it must have {expected}")
        return opened

    @classmethod
    def in_memory(cls, documents: Sequence[Sequence[int]], loss: Sequence[Sequence[bool]] | None = None) -> Self:
        """Documents that are not on disk, for tests and small sets."""
        tokens = np.array([token for document in documents for token in document], dtype=np.int64)
        mask = None if loss is None else np.array([carries for row in loss for carries in row], dtype=bool)
        rows = np.array([(len(document), 0, 0) for document in documents], dtype=DOCUMENT)
        return cls([Shard(tokens, mask)], [rows])

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where in its shard each document begins."""
        starts = np.cumsum(self.lengths) - self.lengths
        first_tokens = np.cumsum([0, *(len(shard.tokens) for shard in self.shards)])[:-1]
        return starts - np.repeat(first_tokens, np.diff(self._first_documents))

    @property
    def counts(self) -> ShardCounts:
        """How much there is."""
        masked = sum(shard.loss is not None for shard in self.shards)
        return ShardCounts(len(self.shards), masked, len(self), int(self.lengths.sum()))

    @property
    def is_masked(self) -> bool:
        """Whether some token carries no loss."""
        return any(shard.loss is not None for shard in self.shards)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        ids, loss = self.read(index, 0, int(self.lengths[index]))
        return Encoded(ids, loss, int(self.num_bytes[index]), int(self.sources[index]))

    def __iter__(self) -> Iterator[Encoded]:
        return (self[index] for index in range(len(self)))

    def read(self, index: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Tokens `start` to `stop` of document `index` and their loss mask, as views of the memory maps."""
        number = int(np.searchsorted(self._first_documents, index, side="right")) - 1
        shard, first = self.shards[number], int(self._starts[index])
        part = slice(first + start, first + stop)
        return shard.tokens[part], None if shard.loss is None else shard.loss[part]


def _map(path: Path) -> np.ndarray:
    """A memory map of a file; an empty array can't be mapped and is loaded."""
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:
        return np.load(path)
