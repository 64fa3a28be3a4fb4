"""From a recipe to token files: collect documents, split them, train the tokenizer, encode, write.

What `prepare` writes can be opened and read: train.txt and validation.txt have the documents, data.json the counts.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from axion.data.mixture import Mixture
from axion.data.recipe import DataRecipe, TokenizerRecipe
from axion.data.shards import Encoded, ShardCounts, ShardWriter, TokenDocuments
from axion.data.sources.base import Document, Source
from axion.data.split import HeldOut, Side
from axion.errors import AxionError
from axion.files import new_folder, read_json, scratch_folder, write_json, writing
from axion.pretrained_tokenizer import vocabulary_size
from axion.tokenizer import bos_and_eos, encode_texts, load_tokenizer, save_tokenizer, special_id

FORMAT = 1
"""Increase it when the same documents give other prepared files: their layout, tokens, order or counts."""

ENCODE_DOCUMENTS = 4096
ENCODE_CHARACTERS = 2**22
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
    """The content of data.json."""
    data: DataRecipe
    """The data section of the recipe, with the commit of every Hub data set filled in."""


def prepare(
    recipe: Recipe,
    root: Path = Path("data"),
    progress: bool = True,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Prepared:
    """Prepares the data of a recipe, or opens what an earlier call prepared.

    The folder is `root/NAME-FINGERPRINT`: data.json, train.txt and validation.txt (each document ends with a line
    `<eos>`), the tokenizer, and the shards of both splits. It is written under a temporary name and renamed when it is
    complete. If several processes prepare the same data at once, the first result is kept and all return it.

    Args:
        recipe: names the sources, the split and the tokenizer.
        root: the folder in which the data is kept.
        progress: whether to show a progress bar on standard error.
        tokenizer: encodes the documents, the one that the recipe names by `tokenizer.sha256`; otherwise one is trained
            on them.

    Raises:
        AxionError: a source cannot be read or has too little data, or the vocabulary is too small.
    """
    data = recipe.data.pinned()
    fingerprint = _fingerprint(recipe, data)
    folder = root / f"{recipe.name}-{fingerprint[:12]}"
    if prepared := _open(folder, fingerprint, data):
        return prepared

    with (
        writing(folder),
        new_folder(folder, is_complete=lambda: _open(folder, fingerprint, data) is not None) as staging,
        scratch_folder(root, folder.name) as spool,
        tqdm(total=3, desc="data", unit="step", disable=not progress) as bar,
    ):
        bar.set_postfix_str("collecting documents")
        mixture = Mixture(data, spool)
        bar.update()
        if tokenizer is None:
            bar.set_postfix_str("training the tokenizer")
            tokenizer = recipe.tokenizer.make(mixture.tokenizer_texts())
        save_tokenizer(tokenizer, staging)
        bar.update()
        bar.set_postfix_str("encoding")
        counts = {side: _write(staging, side, mixture.documents(side), tokenizer, data.kinds) for side in _SIDES}
        write_json(staging / DATA_FILE, _summarize(fingerprint, data, mixture, counts))
        bar.update()
    prepared = _open(folder, fingerprint, data)
    if prepared is None:
        raise AxionError(f"{folder} was changed while it was written; delete it and start again")
    return prepared


def data_fingerprint(recipe: Recipe, earlier: DataRecipe | None = None) -> str:
    """The fingerprint of the data that `prepare` would give, without making it; raises the same errors for sources."""
    return _fingerprint(recipe, recipe.data.pinned(earlier))


def data_versions(data: DataRecipe) -> dict[str, Any]:
    """The versions that enter the fingerprint, as JSON: where they differ, the same documents give other files."""
    sources = {source.kind: source.version for source in data.sources}
    return {"format": FORMAT, "sources": sources, "tokenizers": tokenizers.__version__}


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


class Counts:
    """Documents, bytes and tokens of one side of the split, by source and by language."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Counter[str]]] = {"by_source": {}, "by_language": {}}
        self._all: Counter[str] = Counter()
        self.plain: dict[str, Counter[str]] = {}
        """By source: bytes and tokens without those of special tokens, such as `<bos>` and `<|user|>`."""

    def add(self, document: Document, tokens: int) -> None:
        added = {"documents": 1, "bytes": len(document.text.encode()), "tokens": tokens}
        self._all.update(added)
        self._counts["by_source"].setdefault(document.source, Counter()).update(added)
        if document.language is not None:
            self._counts["by_language"].setdefault(document.language, Counter()).update(added)
        special = [span.text for span in document.spans if span.special]
        self.plain.setdefault(document.source, Counter()).update(
            bytes=added["bytes"] - len("".join(special).encode()),
            tokens=tokens - len(special) - len(("<bos>", "<eos>")),
        )

    def as_json(self) -> dict[str, Any]:
        tables = {name: {key: dict(row) for key, row in table.items()} for name, table in self._counts.items()}
        return {**self._all, **tables}


def _write(
    folder: Path, side: Side, documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast, kinds: Sequence[str]
) -> tuple[Counts, ShardCounts]:
    """Writes one side of the split as text and as shards."""
    counts = Counts()
    with (
        (folder / f"{side}.txt").open("w", encoding="utf-8", newline="\n") as text,
        ShardWriter(folder, side, vocabulary_size(tokenizer)) as shards,
    ):
        for batch in _batches(documents):
            for document, encoded in zip(batch, encode(tokenizer, batch), strict=True):
                text.write(f"{document.text}\n<eos>\n")
                shards.write(encoded._replace(source=kinds.index(document.source)))
                counts.add(document, len(encoded.ids))
    return counts, shards.counts


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents in batches that are encoded at once, which takes 40 times the memory of their text."""
    batch, size = [], 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if len(batch) == ENCODE_DOCUMENTS or size >= ENCODE_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encode(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> Iterator[Encoded]:
    """The tokens of each document between `<bos>` and `<eos>`, and which of them carry loss.

    In a document with a mask, `<bos>` and `<eos>` carry none.
    """
    spans = [span for document in documents for span in document.spans if not span.special]
    encoded = iter(encode_texts(tokenizer, [span.text for span in spans]))
    bos, eos = bos_and_eos(tokenizer)
    for document in documents:
        ids, loss = [bos], [False]
        for span in document.spans:
            tokens = [special_id(tokenizer, span.text)] if span.special else next(encoded)
            ids += tokens
            loss += [span.has_loss] * len(tokens)
        mask = [*loss, False] if document.is_masked else None
        yield Encoded([*ids, eos], mask, document.num_bytes)


def _summarize(
    fingerprint: str, data: DataRecipe, mixture: Mixture, written: dict[Side, tuple[Counts, ShardCounts]]
) -> dict[str, Any]:
    sources = data.released()["sources"]
    return {
        "fingerprint": fingerprint,
        "sources": sources,
        "files": [file for source in sources for file in source.get("local_files") or ()],
        "dropped_for_held_out_pairs": mixture.dropped,
        "not_measured": mixture.not_measured,
        "bytes_per_token": _bytes_per_token([counts for counts, _ in written.values()]),
        "shards": {side.value: shards._asdict() for side, (_, shards) in written.items()},
        **{side.value: counts.as_json() for side, (counts, _) in written.items()},
    }


def _bytes_per_token(sides: Sequence[Counts]) -> dict[str, float]:
    """Mean bytes per token of each source, over both sides. Special tokens and their text don't count."""
    total: dict[str, Counter[str]] = {}
    for side in sides:
        for source, plain in side.plain.items():
            total.setdefault(source, Counter()).update(plain)
    return {source: round(plain["bytes"] / max(plain["tokens"], 1), 4) for source, plain in total.items()}


def validation_documents(data: DataRecipe, tokenizer: PreTrainedTokenizerFast) -> list[ValidationDocument]:
    """The held-out documents over which the loss is measured, read and encoded without prepared data.

    They are those of `Prepared.validation` for the same data, unless `max_documents` selected from them.

    Raises:
        AxionError: a source cannot be read.
    """
    documents = _held_out(data, data.headline_sources) or _held_out(data, data.sources)
    encoded = encode(tokenizer, documents)
    return [_validation_document(each, document.source) for each, document in zip(encoded, documents, strict=True)]


def _held_out(data: DataRecipe, sources: Sequence[Source]) -> list[Document]:
    documents = []
    for source in sources:
        held_out = HeldOut[Document](data.split)
        for document in source.documents(data.split, data.seed):
            if document.side is Side.VALIDATION:
                held_out.add(document.text, document)
        documents += held_out.kept()
    return documents


def _validation_document(document: Encoded, source: str) -> ValidationDocument:
    ids = np.array(document.ids, dtype=np.int64)  # a copy: torch warns of a read-only memory map
    return ValidationDocument(ids, document.labels(), document.num_bytes, source)


# --- The prepared folder ----------------------------------------------------------------------------------------------


def _open(folder: Path, fingerprint: str, data: DataRecipe) -> Prepared | None:
    """What an earlier `prepare` wrote; None if it is missing or incomplete."""
    try:
        summary = read_json(folder / DATA_FILE)
        if summary["fingerprint"] != fingerprint:
            return None
        counts = [ShardCounts(**summary["shards"][side]) for side in _SIDES]
        train, held_out = (TokenDocuments.open(folder, *each) for each in zip(_SIDES, counts, strict=True))
        kinds, headline = data.kinds, data.headline_kinds
        documents = [
            _validation_document(held_out[index], kinds[source]) for index, source in enumerate(held_out.sources)
        ]
        validation = [document for document in documents if document.source in headline] or documents
        tokenizer = load_tokenizer(folder)
    except Exception:  # whatever a missing or damaged file leads to; tokenizers raises bare Exceptions
        return None
    return Prepared(folder, tokenizer, train, held_out, validation, summary, data)
