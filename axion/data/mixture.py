"""The documents of all sources of a recipe, split into training and validation.

They are read from their sources whenever they are needed and never kept: for the tokenizer a bounded part of them, then
all of them to be encoded. Sources yield the same documents each time.
"""

import random
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from axion.data.chunks import pieces
from axion.data.recipe import DataRecipe
from axion.data.shards import Encoded
from axion.data.sources.base import Document, FileSource, Source
from axion.data.sources.hub import Cursor, Place
from axion.data.split import HeldOut, Side, Split
from axion.errors import AxionError

TOKENIZER_SAMPLE = 5
"""Where there is real text, the tokenizer is trained on every fifth generated document only."""

TOKENIZER_BYTES = 2**25
"""The tokenizer is trained on at most this much text of each source: 32 MiB."""


BEGINNING_SHARE = 1 / 64
"""At least this share of the beginning of a text is held out where only its beginning is: half a MiB of 32 MiB."""

Encode = Callable[[Iterable[tuple[Document, bool]]], Iterator[tuple[Document, Encoded | None]]]
"""Encodes documents, those whose tokens are wanted, and yields all of them in their order."""


class Mixture:
    """The documents of a recipe: first what the tokenizer is trained on, then `train`, then `validation`.

    Raises:
        AxionError: a source cannot be read, or `max_documents` leaves no document for one of the sides.
    """

    def __init__(self, data: DataRecipe):
        if data.max_documents and any(source.is_streamed for source in data.file_sources):
            raise AxionError(
                "data.max_documents chooses among all documents, and a stream has no end; "
                "give data.max_tokens, such as 1_000_000, instead"
            )
        self.data = data
        self._splits = [data.split] * len(data.sources) if data.validates_on_beginning else splits_of(data)
        self._chosen: dict[Side, Container[int]] = {}
        self._held_out: list[Document] = []
        self._cursor: Cursor | None = None
        self._clear()
        if data.max_documents:
            train = sum(1 for _ in self.documents())
            sizes = {Side.TRAIN: train, Side.VALIDATION: len(self._held_out)}
            check_sizes(*sizes.values())
            self._chosen = _choose(sizes, data.max_documents, data.seed)

    def _clear(self) -> None:
        self.dropped = 0
        """Documents left out of training because they contain a held-out pair."""
        self.not_measured = 0
        """Documents left out of both sides because validation has enough of their source."""
        self.last_source_begins: int | None = None
        """How many documents of training come before those of the last source; None before it is reached."""
        if not self.data.validates_on_beginning:
            self._held_out = []

    def settle(self) -> frozenset[int]:
        """Holds out documents of the beginning of every source, where the recipe `validates_on_beginning`.

        Of all others, only those with the same text are held out too.

        Returns:
            The ranks of those held out.

        Raises:
            AxionError: there are none.
        """
        share = max(self.data.split.fraction, BEGINNING_SHARE)
        split, ranks = replace(self.data.split, fraction=share), set()
        self._held_out = []
        for source in self.data.sources:
            held_out = HeldOut[Document](split)
            for document in self._beginning(source, split):
                ranks.add(split.rank(document.text))
                if document.side is Side.VALIDATION:
                    held_out.add(document.text, document)
            self._held_out += held_out.kept()
        if not self._held_out and (only := _with_lowest(split, ranks, self._beginnings)):
            self._held_out = [each for each in self._beginnings(only) if each.side is Side.VALIDATION]
        check_sizes(1, len(self._held_out))
        settled = frozenset(split.rank(document.text) for document in self._held_out)
        self.hold_out(settled)
        return settled

    def hold_out(self, ranks: frozenset[int]) -> None:
        """Holds out what an earlier `settle` did; `validation` does not have these documents again."""
        self._splits = [replace(self.data.split, ranks=ranks)] * len(self.data.sources)

    def train(
        self,
        encode: Encode,
        skip: int = 0,
        start: Place | None = None,
        dropped: int = 0,
        last_source_begins: int | None = None,
    ) -> Generator[tuple[Document, Encoded], None, None]:
        """The documents of training and their tokens, in the order of the sources.

        The held-out documents are collected on the way. What is read ahead of the documents that were taken does not
        count, so that a caller who stops early gets the same in every process.

        Args:
            encode: the encoder.
            skip: leave out so many documents at the start.
            start: begin there in the last source, which is a stream, instead of leaving out documents.
            dropped: with `start`, how many documents have been dropped before that.
            last_source_begins: with `start`, what the attribute of this name had become.
        """
        self._clear()
        self.dropped = dropped
        places, chosen = count(), self._chosen.get(Side.TRAIN)
        left, last = skip, len(self.data.sources) - 1

        def is_wanted(document: Document) -> bool:
            nonlocal left
            if document.side is not Side.TRAIN or (next(places) not in chosen if chosen is not None else False):
                return False
            left -= 1
            return left < 0

        for number, (source, split) in enumerate(zip(self.data.sources, self._splits, strict=True)):
            if start and number < last:
                continue
            held_out = HeldOut[Document](split)
            if number == last:
                self.last_source_begins = (last_source_begins or 0) if start else skip - left
                if self.data.validates_on_beginning and isinstance(source, FileSource):
                    self._cursor = Cursor(start or Place(0))
                    source = source.at(self._cursor)
            documents = source.documents(split, self.data.seed)
            try:
                for document, encoded in encode((each, is_wanted(each)) for each in documents):
                    if encoded is not None:
                        yield document, encoded
                    elif document.side is Side.VALIDATION:
                        held_out.add(document.text, document)
                    elif document.side is Side.DROPPED:
                        self.dropped += 1
            finally:
                if not self.data.validates_on_beginning:
                    self._held_out += held_out.kept()
                    self.not_measured += held_out.left_out

    def place(self, document: Document) -> Place | None:
        """Where a later `train` can start behind a document that this one has yielded; None where it has to skip."""
        return self._cursor.place(document.row) if document.row and self._cursor else None

    def documents(self) -> Iterator[Document]:
        """The documents of training without their tokens."""
        nothing = Encoded(())
        pairs = self.train(lambda documents: ((each, nothing if wanted else None) for each, wanted in documents))
        return (document for document, _ in pairs)

    def validation(self) -> list[Document]:
        """The held-out documents, in the order of the sources: those that `train` has passed, or of `settle`."""
        chosen = self._chosen.get(Side.VALIDATION)
        return [each for number, each in enumerate(self._held_out) if chosen is None or number in chosen]

    def tokenizer_texts(self) -> Iterator[str]:
        """What the tokenizer is trained on: the real training text and a sample of the generated.

        Generated text is repetitive: a sample shows all of its words, and real text then takes 3% fewer tokens.
        """
        has_real = any(source.is_real for source in self.data.sources)
        real = {source.kind for source in self.data.sources if source.is_real}
        generated = 0
        beginnings = chain.from_iterable(map(self._beginning, self.data.sources, self._splits))
        for document in self.documents() if self._chosen else beginnings:
            if document.side is not Side.TRAIN:
                continue
            if document.source not in real:
                generated += 1
                if has_real and generated % TOKENIZER_SAMPLE != 1:
                    continue
            yield from (piece for span in document.spans if not span.special for piece in pieces(span.text))

    def _beginning(self, source: Source, split: Split) -> Iterator[Document]:
        """The documents of a source, until those of training have `TOKENIZER_BYTES`.

        Several large files are read from the beginning of each, in proportion to their sizes.
        """
        for part, limit in _parts(source):
            size = 0
            for document in part.documents(split, self.data.seed):
                yield document
                if document.side is Side.TRAIN:
                    size += len(document.text.encode())
                    if size >= limit:
                        break

    def _beginnings(self, split: Split) -> Iterator[Document]:
        return chain.from_iterable(self._beginning(source, split) for source in self.data.sources)


def splits_of(data: DataRecipe) -> list[Split]:
    """The split of each source: that of the recipe, fitted to the amount of its text.

    Of a large source a smaller share is held out, about `max_validation_bytes`: nothing would read the rest. It stays
    as it is where training reads but a part of the sources. Where no document of all the sources is held out, as may be
    of a short text, it is the one of the lowest rank.

    Raises:
        AxionError: a source cannot be read.
    """
    splits = [_share(source, data) for source in data.sources]
    ranks: set[int] = set()
    for source, split in zip(data.sources, splits, strict=True):
        for document in source.documents(split, data.seed):
            if document.side is Side.VALIDATION:
                return splits
            ranks.add(split.rank(document.text))

    def documents(split: Split) -> Iterator[Document]:
        return chain.from_iterable(source.documents(split, data.seed) for source in data.sources)

    only = _with_lowest(data.split, ranks, documents)
    return [only] * len(splits) if only else splits


def _with_lowest(split: Split, ranks: set[int], documents: Callable[[Split], Iterable[Document]]) -> Split | None:
    """The split that holds out the document of the lowest rank alone; None where there are no two different ones.

    None too where every document always trains, as problems of one digit do.
    """
    all_of_them = replace(split, fraction=1.0, ranks=None)
    if len(ranks) < 2 or all(document.side is not Side.VALIDATION for document in documents(all_of_them)):
        return None
    for rank in sorted(ranks):
        only = replace(split, ranks=frozenset({rank}))
        if any(document.side is Side.VALIDATION for document in documents(only)):
            return only  # else it is a second form of another document, whose rank decides
    return None


def _share(source: Source, data: DataRecipe) -> Split:
    split, size = data.split, None if data.max_tokens else source.num_bytes()
    return replace(split, fraction=min(split.fraction, split.max_validation_bytes / size)) if size else split


def check_sizes(train: int, validation: int) -> None:
    """Raises AxionError where one side of the split has no documents."""
    for size, name in ((train, "training"), (validation, "validation")):
        if not size:
            raise AxionError(f"no {name} documents; give the sources more data, or another data.val_fraction")


def _parts(source: Source) -> list[tuple[Source, int]]:
    """A source as it is, or its files one by one where they are large, and how many bytes of each are read."""
    paths = source.local_paths()
    sizes = [Path(path).stat().st_size if Path(path).is_file() else 0 for path in paths]
    if len(paths) < 2 or not isinstance(source, FileSource) or sum(sizes) <= TOKENIZER_BYTES:
        return [(source, TOKENIZER_BYTES)]
    return [
        (source.model_copy(update={"files": [path]}), TOKENIZER_BYTES * size // sum(sizes) + 1)
        for path, size in zip(paths, sizes, strict=True)
        if size
    ]


def _choose(sizes: dict[Side, int], limit: int, seed: int) -> dict[Side, Container[int]]:
    """A random choice of `limit` documents in total, with both sides in proportion: the places of those chosen."""
    train, validation = (sizes[side] for side in (Side.TRAIN, Side.VALIDATION))
    if limit < 2:
        raise AxionError(f"data.max_documents is {limit}; it must be at least 2: one to train on, one to validate with")
    share = round(limit * validation / max(train + validation, 1))
    held_out = min(max(share, 1), validation, limit - 1)
    counts = {Side.TRAIN: min(limit - held_out, train), Side.VALIDATION: held_out}
    rng = random.Random(f"cap {seed}")
    return {side: set(rng.sample(range(sizes[side]), count)) for side, count in counts.items()}
