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

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from axion.errors import AxionError
from axion.labels import IGNORED

SHARD_TOKENS = 2**23
"""A shard is closed when it has this many tokens by default: 16 or 32 MB, which is what writing keeps in memory."""

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

    Args:
        folder: where the files go.
        split: the start of their names.
        vocab_size: decides their type.
        shard_tokens: a shard is closed when it has so many.
        finished: what an earlier writer has written already; the next shard follows it.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        vocab_size: int,
        shard_tokens: int = SHARD_TOKENS,
        finished: ShardCounts = ShardCounts(0, 0, 0, 0),  # noqa: B008 (a tuple)
    ):
        self._folder, self._split, self._shard_tokens = folder, split, shard_tokens
        self._vocab_size, self._type = vocab_size, token_type(vocab_size)
        self.counts = finished
        """What has been written; complete when the block has ended."""
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (self._rows or not self.counts.shards):
            self._flush()

    def write(self, document: Encoded) -> bool:
        """Adds a document; whether that has finished a shard.

        Raises:
            AxionError: an id is not in the vocabulary.
        """
        ids = np.asarray(document.ids)
        if ids.dtype != self._type:
            self._check(ids)
            ids = ids.astype(self._type)
        if document.loss is not None:
            if len(document.loss) != len(ids):
                raise ValueError(f"{len(ids)} tokens, but {len(document.loss)} entries in the loss mask")
            self._loss += b"\1" * (self._size - len(self._loss)) + np.asarray(document.loss, bool).tobytes()
        self._tokens += ids.tobytes()
        self._rows.extend((len(ids), document.num_bytes, document.source))
        self._size += len(ids)
        if is_full := self._size >= self._shard_tokens:
            self._flush()
        return is_full

    def _check(self, ids: np.ndarray) -> None:
        if len(ids) and not 0 <= ids.min() <= ids.max() < self._vocab_size:
            raise AxionError(f"a document has token ids that a vocabulary of {self._vocab_size} does not have")

    def _flush(self) -> None:
        before, columns = self.counts, len(DOCUMENT.names or ())
        stem = f"{self._split}-{before.shards:05d}"
        tokens = np.frombuffer(self._tokens, self._type)
        self._check(tokens)
        rows = np.frombuffer(self._rows, np.int64).reshape(-1, columns)
        table = np.empty(len(rows), DOCUMENT)
        for name, column in zip(DOCUMENT.names or (), rows.T, strict=True):
            table[name] = column
        loss = np.ones(self._size, bool)
        loss[: len(self._loss)] = np.frombuffer(self._loss, bool)
        parts = {"tokens": tokens, "documents": table}
        if is_masked := not loss.all():
            parts["loss"] = loss
        for part, content in parts.items():
            with (self._folder / f"{stem}.{part}.npy").open("wb") as file:
                np.save(file, content)
                file.flush()
                os.fsync(file.fileno())
        self.counts = ShardCounts(
            before.shards + 1, before.masked_shards + is_masked, before.documents + len(rows), before.tokens + len(loss)
        )
        del tokens, rows  # views of what is cleared
        self._clear()

    def _clear(self) -> None:
        self._tokens, self._loss, self._rows = bytearray(), bytearray(), array("q")
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
        self.shards: list[Shard] = []
        self.lengths, self.num_bytes, self.sources = (np.empty(0, DOCUMENT[name]) for name in DOCUMENT.names or ())
        self.first_documents = np.zeros(1, np.int64)
        """Of every shard the index of its first document; at the end the number of all documents."""
        self._add(shards, rows)

    def _add(self, shards: Sequence[Shard], rows: Sequence[np.ndarray]) -> None:
        self.shards += shards
        table = np.concatenate(rows) if rows else np.empty(0, DOCUMENT)
        self.lengths, self.num_bytes, self.sources = (
            np.concatenate([before, table[name]])
            for before, name in zip((self.lengths, self.num_bytes, self.sources), DOCUMENT.names or (), strict=True)
        )
        added = self.first_documents[-1] + np.cumsum([len(each) for each in rows], dtype=np.int64)
        self.first_documents = np.concatenate([self.first_documents, added])
        self.__dict__.pop("_starts", None)  # computed anew

    @classmethod
    def open(cls, folder: Path, split: str, expected: ShardCounts) -> Self:
        """Opens what a `ShardWriter` wrote; nothing but the table of documents is read.

        Args:
            expected: the writer's `counts`.

        Raises:
            OSError: a file is missing.
            ValueError: a file is broken, or the split has more or less than `expected`.
        """
        opened = cls([], [])
        opened.extend(folder, split, expected)
        return opened

    def extend(self, folder: Path, split: str, expected: ShardCounts) -> None:
        """Opens the shards that a `ShardWriter` has added meanwhile; raises as `open` does, and then adds nothing."""
        opened = [_open_shard(folder, f"{split}-{number:05d}") for number in range(len(self.shards), expected.shards)]
        before, shards = self.counts, [shard for shard, _ in opened]
        counts = ShardCounts(
            before.shards + len(opened),
            before.masked_shards + sum(shard.loss is not None for shard in shards),
            before.documents + sum(len(rows) for _, rows in opened),
            before.tokens + sum(len(shard.tokens) for shard in shards),
        )
        if counts != expected:
            raise ValueError(f"{split} has {counts}; it must have {expected}")
        self._add(shards, [rows for _, rows in opened])

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
        return starts - np.repeat(first_tokens, np.diff(self.first_documents))

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
        number = int(np.searchsorted(self.first_documents, index, side="right")) - 1
        shard, first = self.shards[number], int(self._starts[index])
        part = slice(first + start, first + stop)
        return shard.tokens[part], None if shard.loss is None else shard.loss[part]


def _open_shard(folder: Path, stem: str) -> tuple[Shard, np.ndarray]:
    """A shard and the table of its documents."""
    loss = folder / f"{stem}.loss.npy"
    shard = Shard(_map(folder / f"{stem}.tokens.npy"), _map(loss) if loss.is_file() else None)
    table = np.load(folder / f"{stem}.documents.npy")
    if table.dtype != DOCUMENT or not shard.has_length(table["tokens"].sum()):
        raise ValueError(f"{stem} is broken: its files do not match each other")
    return shard, table


def _map(path: Path) -> np.ndarray:
    """A memory map of a file; an empty array can't be mapped and is loaded."""
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:
        return np.load(path)
