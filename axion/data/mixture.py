"""The documents of all sources of a recipe, split into training and validation.

They are spooled to disk as they come, because the tokenizer has to be trained before any of them can be encoded.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from axion.data.recipe import DataRecipe
from axion.data.sources.base import Document, Span
from axion.data.split import HeldOut, Side
from axion.errors import AxionError

TOKENIZER_SAMPLE = 5
"""Where there is real text, the tokenizer is trained on every fifth generated document only."""


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
        self._real = {source.kind for source in data.sources if source.is_real}
        counts, held_out = self._spool(data)
        self.dropped = counts[Side.DROPPED]
        """Documents left out of training because they contain a held-out pair."""
        self.not_measured = counts[Side.VALIDATION] - len(held_out)
        """Documents left out of both sides because validation has enough of their source."""
        self._kept: dict[Side, Sequence[int]] = {Side.TRAIN: range(counts[Side.TRAIN]), Side.VALIDATION: held_out}
        if data.max_documents:
            self._kept = _cap(self._kept, data.max_documents, data.seed)
        for side, name in ((Side.TRAIN, "training"), (Side.VALIDATION, "validation")):
            if not self._kept[side]:
                raise AxionError(f"no {name} documents; give the sources more data, or another data.val_fraction")

    def documents(self, side: Side) -> Iterator[Document]:
        """The documents of one side, in the order of the sources."""
        kept = self._kept[side]
        kept = kept if isinstance(kept, range) else set(kept)
        with self._paths[side].open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if number in kept:
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

    def _spool(self, data: DataRecipe) -> tuple[Counter[Side], list[int]]:
        """Writes all documents to disk; returns their number by side, and which of the held-out ones are kept."""
        counts: Counter[Side] = Counter()
        kept: list[int] = []
        with ExitStack() as stack:
            files = {side: stack.enter_context(path.open("w", encoding="utf-8")) for side, path in self._paths.items()}
            for source in data.sources:
                held_out = HeldOut[int](data.split)
                for document in source.documents(data.split, data.seed):
                    if document.side is Side.VALIDATION:
                        held_out.add(document.text, counts[Side.VALIDATION])
                    counts[document.side] += 1
                    if document.side in files:
                        row = [document.source, document.language, document.spans]
                        files[document.side].write(json.dumps(row, ensure_ascii=False) + "\n")
                kept += held_out.kept()
        return counts, kept


def _cap(kept: dict[Side, Sequence[int]], limit: int, seed: int) -> dict[Side, Sequence[int]]:
    """A random choice of `limit` documents in total, with both sides in proportion: the indices that are kept."""
    train, validation = (len(kept[side]) for side in (Side.TRAIN, Side.VALIDATION))
    if limit < 2:
        raise AxionError(f"data.max_documents is {limit}; it must be at least 2: one to train on, one to validate with")
    share = round(limit * validation / max(train + validation, 1))
    held_out = min(max(share, 1), validation, limit - 1)
    sizes = {Side.TRAIN: min(limit - held_out, train), Side.VALIDATION: held_out}
    rng = random.Random(f"cap {seed}")
    return {side: [kept[side][place] for place in rng.sample(range(len(kept[side])), sizes[side])] for side in sizes}
