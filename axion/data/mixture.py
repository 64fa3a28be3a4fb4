"""The documents of all sources of a recipe, split into training and validation.

They are spooled to disk as they come, because the tokenizer has to be trained before any of them can be encoded.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from axion.data.recipe import DataRecipe
from axion.data.sources.base import Document, Span
from axion.data.split import Side
from axion.errors import AxionError

TOKENIZER_SAMPLE = 5
"""Beside real text, every fifth generated document trains the tokenizer."""


class Mixture:
    """The documents of a recipe; each pass over a side reads them from disk in the same order.

    Args:
        data: what to collect.
        folder: an existing folder for the spool, which the caller deletes.

    Raises:
        AxionError: a source cannot be read, or no document is left for one of the sides.
    """

    def __init__(self, data: DataRecipe, folder: Path):
        self._paths = {side: folder / f"{side}.jsonl" for side in (Side.TRAIN, Side.VALIDATION)}
        self._kept: dict[Side, set[int]] | None = None
        self._real = {source.kind for source in data.sources if source.is_real}
        counts = self._spool(data)
        self.dropped = counts[Side.DROPPED]
        """Documents left out of training because they show a held-out pair."""
        if data.max_documents:
            self._kept = _cap(counts, data.max_documents, data.seed)
        for side, name in ((Side.TRAIN, "training"), (Side.VALIDATION, "validation")):
            if not counts[side]:
                raise AxionError(f"no {name} documents; give the sources more data, or another data.val_fraction")

    def documents(self, side: Side) -> Iterator[Document]:
        """The documents of one side, in the order of the sources."""
        kept = self._kept and self._kept[side]
        with self._paths[side].open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if kept is None or number in kept:
                    source, language, spans = json.loads(line)
                    yield Document(tuple(Span(*span) for span in spans), source, side, language)

    def tokenizer_texts(self) -> Iterator[str]:
        """What the tokenizer is trained on: the real training text and a sample of the generated.

        Generated text is repetitive: a sample shows all of its words, and real text then takes 3% fewer tokens.
        """
        generated = 0
        for document in self.documents(Side.TRAIN):
            if document.source not in self._real:
                generated += 1
                if self._real and generated % TOKENIZER_SAMPLE != 1:
                    continue
            yield from (span.text for span in document.spans if not span.special)

    def _spool(self, data: DataRecipe) -> Counter[Side]:
        counts: Counter[Side] = Counter()
        with ExitStack() as stack:
            files = {side: stack.enter_context(path.open("w", encoding="utf-8")) for side, path in self._paths.items()}
            for source in data.sources:
                for document in source.documents(data.split, data.seed):
                    counts[document.side] += 1
                    if document.side in files:
                        row = [document.source, document.language, document.spans]
                        files[document.side].write(json.dumps(row, ensure_ascii=False) + "\n")
        return counts


def _cap(counts: Counter[Side], limit: int, seed: int) -> dict[Side, set[int]]:
    """A random choice of `limit` documents in all, both sides in proportion: the indices that are kept."""
    train, validation = counts[Side.TRAIN], counts[Side.VALIDATION]
    if limit < 2:
        raise AxionError(f"data.max_documents is {limit}; it must be at least 2: one to train on, one to validate with")
    share = round(limit * validation / max(train + validation, 1))
    held_out = min(max(share, 1), validation, limit - 1)
    rng = random.Random(f"cap {seed}")
    sizes = {Side.TRAIN: (train, min(limit - held_out, train)), Side.VALIDATION: (validation, held_out)}
    return {side: set(rng.sample(range(total), size)) for side, (total, size) in sizes.items()}
