"""The validation loss against a plain loop over documents."""

import pytest
import torch

from axion.training.validation import validation_loss
from tests.training.test_optim import small_model


class Held:
    def __init__(self, ids, num_bytes):
        self.ids, self.num_bytes = ids, num_bytes


def test_validation_loss_counts_every_document_once_whole_and_alone():
    model = small_model(initializer_range=0.2).eval()
    generator = torch.Generator().manual_seed(0)
    documents = [
        Held(torch.randint(0, 50, (length,), generator=generator).tolist(), 3 * length) for length in (5, 32, 33, 70)
    ]
    result = validation_loss(model, documents)
    nats, tokens = 0.0, 0
    with torch.no_grad():
        for document in documents:
            for start in range(0, len(document.ids) - 1, 31):  # the context is 32: pieces share one token
                piece = torch.tensor([document.ids[start : start + 32]])
                logits = model(piece).logits[0, :-1]
                nats += torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="sum").item()
                tokens += piece.shape[1] - 1
    assert result.tokens == tokens == 4 + 31 + 32 + 69
    assert result.nats_per_token == pytest.approx(nats / tokens, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(nats / 0.6931471805599453 / (3 * 140), rel=1e-5)
