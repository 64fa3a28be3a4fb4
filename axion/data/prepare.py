"""From a recipe to token files: collect documents, split them, train the tokenizer, encode, write.

What `prepare` writes can be opened and read: train.txt and validation.txt have the documents, data.json the counts.
Documents are read as a stream, so memory does not grow with their number.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedRandom
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from axion.data.encoding import DocumentEncoder
from axion.data.mixture import Mixture, check_sizes, splits_of
from axion.data.progress import (
    PROGRESS_FILE,
    Counts,
    Progress,
    Written,
    bytes_per_token,
    read_progress,
    write_progress,
)
from axion.data.recipe import DataRecipe, TokenizerRecipe
from axion.data.shards import Encoded, ShardCounts, ShardWriter, TokenDocuments
from axion.data.sources.base import Document
from axion.data.split import HeldOut, Side
from axion.errors import AxionError
from axion.files import continued_folder, delete_partial, read_json, write_json, writing
from axion.pretrained_tokenizer import check_round_trip
from axion.tokenizer import load_tokenizer, save_tokenizer

FORMAT = 1
"""Increase it when the same documents give other prepared files: their layout, tokens, order or counts."""

TEXT_BYTES = 2**26
"""How much of each side is written as text too, for people to read: the first 64 MiB."""

FOLDER_DIGITS = 12
"""How many digits of the fingerprint are in the folder's name."""

TRIES = 4
"""How often to prepare again if another process damages the finished folder."""

KEPT = "finished shards are kept, and the same command continues from there"

DATA_FILE = "data.json"
_SIDES = (Side.TRAIN, Side.VALIDATION)


class Recipe(Protocol):
    """What the data depends on of an `axion.recipe.Recipe`."""

    @property
    def name(self) -> str: ...

    @property
    def data(self) -> DataRecipe: ...

    @property
    def tokenizer(self) -> TokenizerRecipe: ...


@dataclass(frozen=True)
class ValidationDocument:
    """A held-out document."""

    ids: np.ndarray
    """int64 token ids `[tokens]`, `<bos>` and `<eos>` included."""
    labels: np.ndarray
    """int64 `[tokens]`, not shifted; −100 where a token carries no loss."""
    num_bytes: int
    """Bytes of its text that carry loss."""
    source: str
    """The kind of its source."""


@dataclass(frozen=True)
class Prepared:
    """What training and evaluation need."""

    folder: Path
    tokenizer: PreTrainedTokenizerFast
    train: TokenDocuments
    held_out: TokenDocuments
    """All held-out documents, of every source."""
    validation: list[ValidationDocument]
    """Those over which the loss is measured: of the headline sources, or of all where these have none."""
    summary: dict[str, Any]
    """The content of data.json; while shards are missing, of those that are there."""
    last_source_begins: int | None
    """How many documents of `train` come before those of the last source; None where it is not reached."""
    data: DataRecipe
    """The data section of the recipe, with the commit of every Hub data set filled in."""

    @property
    def reaches_last_source(self) -> bool:
        """Whether some of `train` is of the last source."""
        return self.last_source_begins is not None and self.last_source_begins < len(self.train)


def prepare(
    recipe: Recipe,
    root: Path = Path("data"),
    progress: bool | tqdm = True,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Prepared:
    """Prepares the data of a recipe, or opens what an earlier call prepared.

    The folder is `root/NAME-FINGERPRINT`: data.json, train.txt and validation.txt (the first 64 MiB of the documents,
    each of which ends with a line `<eos>`), the tokenizer, and the shards of both splits. It is written under a hidden
    name and renamed when it is complete. After a full disk, a dead connection or a kill, the next call goes on behind
    the last finished shard. If several processes prepare the same data at once, one does and the others wait for it.

    Args:
        recipe: names the sources, the split and the tokenizer.
        root: the folder in which the data is kept.
        progress: whether to show a progress bar on standard error, or the bar.
        tokenizer: encodes the documents, the one that the recipe names by `tokenizer.sha256`; otherwise one is trained
            on them.

    Raises:
        AxionError: a source cannot be read or has too little data, or the vocabulary is too small.
    """
    folder, fingerprint, data = locate(recipe, root)

    def is_complete() -> bool:
        return _open(folder, fingerprint, data) is not None

    for _ in range(TRIES):
        if prepared := _open(folder, fingerprint, data):
            return prepared
        mixture = Mixture(data)  # refuses most of what cannot be read before anything is written
        with writing(folder, KEPT), continued_folder(folder, is_complete) as staging:
            if staging is not None:
                delete_partial(folder, f"{recipe.name}-{'?' * FOLDER_DIGITS}")
                try:
                    _make(staging, recipe, mixture, fingerprint, tokenizer, progress)
                finally:
                    if not (staging / PROGRESS_FILE).is_file() and not (staging / DATA_FILE).is_file():
                        shutil.rmtree(staging, ignore_errors=True)  # there is nothing to go on from
    raise AxionError(f"{folder} was changed while it was written; delete it and start again")


def _make(
    folder: Path,
    recipe: Recipe,
    mixture: Mixture,
    fingerprint: str,
    tokenizer: PreTrainedTokenizerFast | None,
    progress: bool | tqdm,
) -> None:
    """Writes all prepared files that an interrupted call has not written yet."""
    data = mixture.data
    with progress if isinstance(progress, tqdm) else progress_bar(disable=not progress) as bar:
        done = read_progress(folder, fingerprint)
        if done is None:
            held_out = mixture.settle() if data.validates_on_beginning else frozenset()
            if tokenizer is None:
                bar.set_postfix_str("training the tokenizer")
                tokenizer = recipe.tokenizer.make(mixture.tokenizer_texts())
            if recipe.tokenizer.kind == "hub":
                check_round_trip(str(recipe.tokenizer.id), tokenizer, mixture.tokenizer_texts())
            save_tokenizer(tokenizer, folder)
            done = Progress(fingerprint, held_out=held_out)
        elif data.validates_on_beginning:
            mixture.hold_out(done.held_out)
        tokenizer = load_tokenizer(folder)
        with DocumentEncoder(tokenizer) as encoder:
            bar.set_postfix_str("encoding")

            def write_validation() -> Written:
                encoded = encoder.encode((document, True) for document in mixture.validation())
                pairs = ((document, tokens) for document, tokens in encoded if tokens is not None)
                return _write(folder, Side.VALIDATION, pairs, encoder, data, Written(), bar)

            if data.validates_on_beginning and done.validation is None:
                done = replace(done, validation=write_validation())
                write_progress(folder, done)
            started = done

            def record(train: Written, last: Document) -> None:
                place, dropped, begins = mixture.place(last), mixture.dropped, mixture.last_source_begins
                reached = replace(started, train=train, place=place, dropped=dropped, last_source_begins=begins)
                write_progress(folder, reached)

            if done.place:
                passed = done.dropped, done.last_source_begins
                documents = mixture.train(encoder.encode, 0, done.place, *passed)
            else:
                documents = mixture.train(encoder.encode, skip=done.train.counts.documents)
            train = _write(folder, Side.TRAIN, documents, encoder, data, done.train, bar, record)
            documents.close()  # what comes after the last token that is wanted
            validation = done.validation or write_validation()
            check_sizes(train.counts.documents, validation.counts.documents)
        whole = Progress(
            fingerprint, train, validation, dropped=mixture.dropped, last_source_begins=mixture.last_source_begins
        )
        write_json(folder / DATA_FILE, summarize(whole, data.released()["sources"], mixture.not_measured))
        (folder / PROGRESS_FILE).unlink(missing_ok=True)


def progress_bar(disable: bool = False) -> tqdm:
    """A bar that counts bytes of text."""
    return tqdm(desc="data", unit="B", unit_scale=True, disable=disable)


def locate(recipe: Recipe, root: Path) -> tuple[Path, str, DataRecipe]:
    """The folder of a recipe's prepared data, its fingerprint, and the pinned section that it comes from."""
    data = recipe.data.pinned()
    fingerprint = _fingerprint(recipe, data)
    return root / f"{recipe.name}-{fingerprint[:FOLDER_DIGITS]}", fingerprint, data


def data_fingerprint(recipe: Recipe, earlier: DataRecipe | None = None) -> str:
    """The fingerprint of the data that `prepare` would give, without making it; raises the same errors for sources."""
    return _fingerprint(recipe, recipe.data.pinned(earlier))


def data_versions(data: DataRecipe) -> dict[str, Any]:
    """The versions that enter the fingerprint, as JSON: where they differ, the same documents give other files."""
    sources = {source.kind: source.version for source in data.sources}
    validation = {"validation": "beginning"} if data.validates_on_beginning else {}
    return {"format": FORMAT, "sources": sources, "tokenizers": tokenizers.__version__, **validation}


def _fingerprint(recipe: Recipe, data: DataRecipe) -> str:
    """A hash of everything that determines the prepared files. Of the code, only the version numbers enter."""
    inputs = {
        "format": FORMAT,
        "data": data.identity(),
        "tokenizer": recipe.tokenizer.identity(),
        "tokenizers": tokenizers.__version__,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


# --- Encode and write -------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    side: Side,
    documents: Iterable[tuple[Document, Encoded]],
    encoder: DocumentEncoder,
    data: DataRecipe,
    done: Written,
    bar: tqdm,
    record: Callable[[Written, Document], None] = lambda written, last: None,
) -> Written:
    """Writes one side of the split as shards, and its beginning as text.

    Args:
        folder: where to.
        side: the names of the files begin with it.
        documents: those that are to be written, with their tokens.
        encoder: what made these.
        data: has the order of the sources, and how many tokens training wants.
        done: what is there already.
        bar: shows the bytes.
        record: receives what is there after every shard, and the last document of it.
    """
    sources = {kind: number for number, kind in enumerate(data.kinds)}
    counts, text_bytes, tokens = Counts(done.rows), done.text_bytes, done.counts.tokens
    wanted = data.max_tokens if side is Side.TRAIN else None
    with (
        _continued_text(folder / f"{side}.txt", text_bytes) as text,
        ShardWriter(folder, side, encoder.vocab_size, data.shard_tokens, done.counts) as shards,
    ):
        for document, encoded in documents if wanted is None or tokens < wanted else ():
            if text_bytes < TEXT_BYTES:
                text_bytes += text.write(f"{document.text}\n<eos>\n".encode())
            bar.update(counts.add(document, len(encoded.ids)))
            tokens += len(encoded.ids)
            if shards.write(encoded._replace(source=sources[document.source])):
                text.flush()
                record(Written(shards.counts, counts.rows, text_bytes), document)
            if wanted is not None and tokens >= wanted:
                break
    return Written(shards.counts, counts.rows, text_bytes)


@contextmanager
def _continued_text(path: Path, num_bytes: int) -> Iterator[BufferedRandom]:
    """A file open for writing behind its first `num_bytes`."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(num_bytes)
        file.seek(num_bytes)
        yield file


def summarize(progress: Progress, sources: list[dict[str, Any]], not_measured: int = 0) -> dict[str, Any]:
    """The content of data.json for what is written.

    Args:
        progress: what that is.
        sources: as a release records them.
        not_measured: see `Mixture.not_measured`.
    """
    written = {Side.TRAIN: progress.train, Side.VALIDATION: progress.validation or Written()}
    counts = {side.value: Counts(each.rows) for side, each in written.items()}
    return {
        "fingerprint": progress.fingerprint,
        "sources": sources,
        "files": [file for source in sources for file in source.get("local_files") or ()],
        "dropped_for_held_out_pairs": progress.dropped,
        "not_measured": not_measured,
        "last_source_begins": progress.last_source_begins,
        "bytes_per_token": bytes_per_token(counts.values()),
        "shards": {side.value: each.counts._asdict() for side, each in written.items()},
        **{side: counted.as_json() for side, counted in counts.items()},
    }


def validation_documents(data: DataRecipe, tokenizer: PreTrainedTokenizerFast) -> list[ValidationDocument]:
    """The held-out documents over which the loss is measured, read and encoded without prepared data.

    They are those of `Prepared.validation` for the same data, unless `max_documents` selected from them.

    Raises:
        AxionError: a source cannot be read.
    """
    with DocumentEncoder(tokenizer) as encoder:
        if data.validates_on_beginning:
            (mixture := Mixture(data)).settle()
            held_out = mixture.validation()
            documents = [each for each in held_out if each.source in data.headline_kinds] or held_out
        elif data.max_tokens:
            held_out = _held_out_of_part(data, data.max_tokens, encoder)
            documents = [each for each in held_out if each.source in data.headline_kinds] or held_out
        else:
            documents = _held_out(data, data.headline_kinds) or _held_out(data, data.kinds)
        encoded = encoder.encode((document, True) for document in documents)
        return [_validation_document(each, document.source) for document, each in encoded if each is not None]


def _held_out_of_part(data: DataRecipe, max_tokens: int, encoder: DocumentEncoder) -> list[Document]:
    """What is held out of that part of the sources of which training has `max_tokens`."""
    mixture, tokens = Mixture(data), 0
    documents = mixture.train(encoder.encode)
    for _, encoded in documents:
        tokens += len(encoded.ids)
        if tokens >= max_tokens:
            break
    documents.close()
    return mixture.validation()


def _held_out(data: DataRecipe, kinds: Container[str]) -> list[Document]:
    documents = []
    for source, split in zip(data.sources, splits_of(data), strict=True):
        if source.kind not in kinds:
            continue
        held_out = HeldOut[Document](split)
        for document in source.documents(split, data.seed):
            if document.side is Side.VALIDATION:
                held_out.add(document.text, document)
        documents += held_out.kept()
    return documents


def _validation_document(document: Encoded, source: str) -> ValidationDocument:
    ids = np.array(document.ids, dtype=np.int64)  # a copy: torch warns of a read-only memory map
    return ValidationDocument(ids, document.labels(), document.num_bytes, source)


# --- The prepared folder ----------------------------------------------------------------------------------------------


def read_summary(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The content of data.json; None where it is missing, damaged, or that of other data."""
    try:
        summary = read_json(folder / DATA_FILE)
        return summary if summary["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _open(folder: Path, fingerprint: str, data: DataRecipe) -> Prepared | None:
    """What an earlier `prepare` wrote; None if it is missing or incomplete."""
    try:
        summary = read_summary(folder, fingerprint)
        return open_shards(folder, data, summary) if summary else None
    except Exception:  # whatever a missing or damaged file leads to; tokenizers raises bare Exceptions
        return None


def open_shards(folder: Path, data: DataRecipe, summary: dict[str, Any]) -> Prepared:
    """Opens the shards that a summary counts, and the tokenizer; raises whatever a missing or damaged file leads to."""
    documents, held_out = (TokenDocuments.open(folder, side, shard_counts(summary, side)) for side in _SIDES)
    measured = [
        _validation_document(held_out[index], data.kinds[source]) for index, source in enumerate(held_out.sources)
    ]
    headline = [document for document in measured if document.source in data.headline_kinds]
    first = last_source_begins(summary)
    return Prepared(folder, load_tokenizer(folder), documents, held_out, headline or measured, summary, first, data)


def shard_counts(summary: dict[str, Any], side: Side) -> ShardCounts:
    """The size of a split that a summary records."""
    return ShardCounts(**summary["shards"][side])


def last_source_begins(summary: dict[str, Any]) -> int | None:
    """See `Prepared.last_source_begins`."""
    return summary.get("last_source_begins", 0 if len(summary["sources"]) == 1 else None)  # earlier ones lack it
