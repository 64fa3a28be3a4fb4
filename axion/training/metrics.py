"""What a run measures: the validation loss, and metrics.csv, one row every few steps."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from axion.errors import AxionError
from axion.files import staged
from axion.inference.routing import TOKENS_PER_BATCH, batches_by_length

MAX_ROWS = 400


class Document(Protocol):
    """A held-out document: its token ids, `<bos>` and `<eos>` included, and the bytes of its text."""

    ids: Sequence[int]
    num_bytes: int


@dataclass(frozen=True)
class ValidationResult:
    """A loss over whole documents; tokens are those predicted, so all but each `<bos>`."""

    nats_per_token: float
    bits_per_byte: float
    tokens: int
    bytes: int


@torch.inference_mode()
def validation_loss(model: torch.nn.Module, documents: Iterable[Document]) -> ValidationResult:
    """The loss over every document once, whole and alone, from `<bos>` to `<eos>`.

    A document longer than the model's context goes on in a second piece that starts with the first one's last token.
    Bits per byte are the same loss over the bytes of the documents' text, which makes vocabularies comparable.
    """
    documents = list(documents)
    was_training = model.training
    model.eval()
    nats, tokens = 0.0, 0
    pieces = _pieces(documents, model.config.max_position_embeddings)
    for batch in batches_by_length(pieces, TOKENS_PER_BATCH):
        longest = max(len(pieces[index]) for index in batch)
        inputs = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full((len(batch), longest), -100)
        for row, index in enumerate(batch):
            ids = torch.as_tensor(pieces[index], dtype=torch.long)
            inputs[row, : len(ids)] = labels[row, : len(ids)] = ids
        inputs, labels = inputs.to(model.device), labels.to(model.device)
        predicted = sum(len(pieces[index]) - 1 for index in batch)
        # padding stands on the right of a causal model, so it needs no mask: no real token sees it
        nats += model(inputs, labels=labels, use_cache=False).loss.item() * predicted
        tokens += predicted
    model.train(was_training)
    num_bytes = sum(document.num_bytes for document in documents)
    return ValidationResult(nats / tokens, nats / math.log(2) / num_bytes, tokens, num_bytes)


def _pieces(documents: list[Document], context: int) -> list[Sequence[int]]:
    """The documents' ids in pieces of at most `context` tokens; pieces of one document share a token."""
    return [
        document.ids[start : start + context]
        for document in documents
        for start in range(0, len(document.ids) - 1, context - 1)
    ]


class MetricsFile:
    """metrics.csv: at most 400 rows, appended one by one, cut back to the step that a resumed run starts from."""

    COLUMNS = ("step", "epoch", "tokens", "seconds", "tokens_per_second", "lr", "train_loss")
    VALIDATION = ("val_loss", "val_bits_per_byte")

    def __init__(self, path: Path, layers: int, row_every: int = 1):
        self.path = path
        self.row_every = row_every
        self.columns = [*self.COLUMNS, *self.VALIDATION, *(f"max_violation_layer_{i + 1}" for i in range(layers))]

    def start(self, step: int = 0) -> float:
        """Keeps the rows up to `step` and returns the seconds that they took; a new file has none.

        Raises:
            AxionError: the rows of a resumed run are gone.
        """
        rows = [row for row in self._read() if int(row["step"]) <= step]
        if step > 0 and not rows and step >= self.row_every:
            raise AxionError(f"{self.path} is missing or lost its rows; restore it, or start anew with --out DIR")
        with staged(self.path) as staging, staging.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return float(rows[-1]["seconds"]) if rows else 0.0

    def append(self, row: dict) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def _read(self) -> list[dict]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            # a row cut off by a crash has no last column; it lies behind the last checkpoint anyway
            return [row for row in csv.DictReader(file) if None not in row.values()]


def row_interval(steps: int) -> int:
    """Steps between two rows, so that a run of `steps` fills at most 400."""
    return math.ceil(steps / MAX_ROWS)
