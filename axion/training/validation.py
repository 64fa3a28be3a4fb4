"""The validation loss: over whole held-out documents, in nats per token and bits per byte."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from axion.data.batches import TOKENS_PER_BATCH, batches_by_length
from axion.errors import AxionError
from axion.inference.scoring import log_probabilities
from axion.labels import IGNORED, count_predicted
from axion.model.modeling_axion import AxionForCausalLM


class Document(Protocol):
    """A held-out document."""

    @property
    def ids(self) -> Sequence[int] | np.ndarray:
        """Token ids, `<bos>` and `<eos>` included."""
        ...

    @property
    def labels(self) -> Sequence[int] | np.ndarray:
        """The ids, not shifted, and −100 where a token carries no loss."""
        ...

    @property
    def num_bytes(self) -> int:
        """Bytes of the text that carries loss."""
        ...


@dataclass(frozen=True)
class ValidationResult:
    """The loss over a set of documents."""

    nats_per_token: float
    bits_per_byte: float
    tokens: int
    """Predicted tokens: all that carry loss, except each document's `<bos>`."""
    bytes: int


@dataclass(frozen=True)
class DocumentLoss:
    """The summed loss of one document."""

    nats: float
    tokens: int
    """Predicted tokens."""
    bytes: int


@torch.no_grad()  # not inference mode: FSDP keeps weights that it gathers here for the next training step
def validation_loss(model: AxionForCausalLM, documents: Iterable[Document]) -> ValidationResult:
    """Computes the loss over every document once, each on its own, from `<bos>` to `<eos>`.

    A document longer than the model's context is split into pieces; each piece starts with the last token of the one
    before it. Bits per byte divide the same loss by the length of the text, so they can be compared across
    vocabularies.

    Raises:
        AxionError: no document has a predicted token, or none has text that carries loss.
    """
    documents = list(documents)
    check_documents(documents)
    with evaluating(model):
        nats, tokens = _sum_loss(model, documents)
    return _result(nats, tokens, sum(document.num_bytes for document in documents))


def document_losses(model: AxionForCausalLM, documents: Iterable[Document]) -> list[DocumentLoss]:
    """The loss of each document, as `validation_loss` has it up to rounding; on the decoding kernels where possible.

    Raises:
        AxionError: as `validation_loss`.
    """
    documents = list(documents)
    check_documents(documents)
    context = model.config.max_position_embeddings
    pieces = _split([document.ids for document in documents], context)
    with evaluating(model):
        scores = iter(log_probabilities(model, pieces))
    losses = []
    for document in documents:
        starts = _starts(document.ids, context)
        scores_T = np.concatenate([next(scores) for _ in starts] or [np.empty(0)])
        is_predicted_T = np.asarray(document.labels[1:]) != IGNORED
        nats = -scores_T[is_predicted_T].sum(dtype=np.float64)
        losses.append(DocumentLoss(float(nats), int(is_predicted_T.sum()), document.num_bytes))
    return losses


def total_loss(losses: Sequence[DocumentLoss]) -> ValidationResult:
    """The loss over all documents together."""
    return _result(*(sum(getattr(each, name) for each in losses) for name in ("nats", "tokens", "bytes")))


def _result(nats: float, tokens: int, num_bytes: int) -> ValidationResult:
    return ValidationResult(nats / tokens, nats / math.log(2) / num_bytes, tokens, num_bytes)


@contextmanager
def evaluating(model: AxionForCausalLM) -> Iterator[None]:
    """Puts a model into eval mode for the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def check_documents(documents: Iterable[Document]) -> None:
    """Raises AxionError where no document has a predicted token and text, over which a loss would be measured."""
    if not any(document.num_bytes and (np.asarray(document.labels[1:]) != IGNORED).any() for document in documents):
        raise AxionError("no held-out document has text that carries loss; hold out more data (data.val_fraction)")


def _sum_loss(model: AxionForCausalLM, documents: Sequence[Document]) -> tuple[float, int]:
    """The summed loss of all predicted tokens in nats, and their number."""
    nats, tokens = 0.0, 0
    for inputs_BS, labels_BS in _batches(model, documents):
        predicted = int(count_predicted(labels_BS))
        nats += model(inputs_BS, labels=labels_BS, use_cache=False).loss.item() * predicted
        tokens += predicted
    return nats, tokens


def _batches(model: AxionForCausalLM, documents: Sequence[Document]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of pieces of similar length that have predicted tokens: ids and labels.

    Right padding needs no mask in a causal model: no real token attends to it.
    """
    context = model.config.max_position_embeddings
    pieces = _split([document.ids for document in documents], context)
    labels = _split([document.labels for document in documents], context)
    for batch in batches_by_length(pieces, TOKENS_PER_BATCH):
        longest = max(len(pieces[index]) for index in batch)
        inputs_BS = torch.zeros(len(batch), longest, dtype=torch.long)
        labels_BS = torch.full((len(batch), longest), IGNORED)
        for row, index in enumerate(batch):
            length = len(pieces[index])
            inputs_BS[row, :length] = torch.as_tensor(pieces[index], dtype=torch.long)
            labels_BS[row, :length] = torch.as_tensor(labels[index], dtype=torch.long)
        if int(count_predicted(labels_BS)):
            yield inputs_BS.to(model.device), labels_BS.to(model.device)


def _split(documents: Sequence[Sequence[int] | np.ndarray], context: int) -> list[Sequence[int] | np.ndarray]:
    """The documents in pieces of at most `context` tokens; consecutive pieces share a token."""
    return [document[start : start + context] for document in documents for start in _starts(document, context)]


def _starts(document: Sequence[int] | np.ndarray, context: int) -> range:
    return range(0, len(document) - 1, context - 1)
