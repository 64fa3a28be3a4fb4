"""The validation loss against a plain loop over documents."""

import pytest
import torch

from axion.errors import AxionError
from axion.training.validation import document_losses, total_loss, validation_loss
from tests.training.test_optim import small_model


@pytest.fixture(autouse=True)
def _in_pytorch(monkeypatch):
    """Nothing is compiled for the small models here; tests/inference compares the kernels with PyTorch."""
    monkeypatch.setenv("AXION_BACKEND", "torch")


class Held:
    def __init__(self, ids, num_bytes, labels=None):
        self.ids, self.num_bytes, self.labels = ids, num_bytes, labels or ids


def test_validation_loss_counts_every_document_once_without_its_neighbours():
    model = small_model(initializer_range=0.2).eval()
    generator = torch.Generator().manual_seed(0)
    documents = [
        Held(torch.randint(0, 50, (length,), generator=generator).tolist(), 3 * length) for length in (5, 32, 33, 70)
    ]
    result = validation_loss(model, documents)
    nats, tokens = 0.0, 0
    with torch.no_grad():
        for document in documents:
            for start in range(0, len(document.ids) - 1, 31):  # the context is 32: chunks overlap by one token
                piece = torch.tensor([document.ids[start : start + 32]])
                logits = model(piece).logits[0, :-1]
                nats += torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="sum").item()
                tokens += piece.shape[1] - 1
    assert result.tokens == tokens == 4 + 31 + 32 + 69
    assert result.nats_per_token == pytest.approx(nats / tokens, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(nats / 0.6931471805599453 / (3 * 140), rel=1e-5)
    losses = document_losses(model, documents)
    assert [(loss.tokens, loss.bytes) for loss in losses] == [(4, 15), (31, 96), (32, 99), (69, 210)]
    assert [loss.nats for loss in losses] == pytest.approx(
        [document_losses(model, [document])[0].nats for document in documents], rel=1e-5
    )
    total = total_loss(losses)
    assert (total.tokens, total.bytes) == (result.tokens, result.bytes)
    assert total.bits_per_byte == pytest.approx(result.bits_per_byte, rel=1e-5)


def test_tokens_without_loss_are_only_context():
    model = small_model(initializer_range=0.2).eval()
    ids = torch.arange(1, 41).tolist()
    labels = [token if 5 < index < 9 or index == 35 else -100 for index, token in enumerate(ids)]
    masked = Held(ids, 4, labels)
    result = validation_loss(model, [masked, Held(ids[:6], 0, [-100] * 6)])
    with torch.no_grad():
        nats = 0.0
        for start, kept in ((0, (6, 7, 8)), (31, (35,))):
            logits = model(torch.tensor([ids[start : start + 32]])).logits[0].log_softmax(-1)
            nats -= sum(logits[index - 1 - start, ids[index]].item() for index in kept)
    assert (result.tokens, result.bytes) == (4, 4)
    assert result.nats_per_token == pytest.approx(nats / 4, rel=1e-5)
    assert document_losses(model, [masked])[0].nats == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("documents", [[], [Held([1, 2, 3], 0, [-100] * 3)], [Held([1, 2, 3], 0)], [Held([1], 1)]])
def test_documents_without_a_loss_are_refused_and_the_model_trains_on(documents):
    model = small_model().train()
    with pytest.raises(AxionError, match="no held-out document has text that carries loss"):
        validation_loss(model, documents)
    assert model.training


def test_a_failing_pass_leaves_the_model_in_training_mode(monkeypatch):
    model = small_model().train()
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        validation_loss(model, [Held([1, 2, 3], 3)])
    assert model.training
