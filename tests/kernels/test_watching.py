"""The compiled decoder's attention weights and router scores of one token are those of the PyTorch model."""

from __future__ import annotations

import numpy as np
import pytest

from axion.errors import AxionError
from axion.inference.inspection import inspect
from axion.kernels.decoder import NativeDecoder
from tests.kernels.conftest import ALL_SHAPES, FACTORS, LOOPED_EXPERTS
from tests.kernels.decoding import random_ids


@pytest.mark.parametrize("shape", ["plain", "wide latents", LOOPED_EXPERTS, FACTORS])
def test_attention_and_scores_are_the_models(shape, make_model):
    model = make_model(**ALL_SHAPES[shape]).eval()
    ids = random_ids(model, 50)
    for position in (0, 1, 17, 49):
        found, expected = (inspect(model, ids, position, backend=backend) for backend in ("native", "torch"))
        np.testing.assert_allclose(found.attention_PHT, expected.attention_PHT, atol=1e-5)
        np.testing.assert_allclose(found.affinities_LE, expected.affinities_LE, atol=1e-5)
        np.testing.assert_allclose(found.logits_after_V, expected.logits_after_V, atol=1e-4)


def test_several_threads_and_single_tokens_give_the_same(make_model):
    model = make_model(**ALL_SHAPES[LOOPED_EXPERTS]).eval()
    ids = random_ids(model, 40)
    attention_PHT, affinities_LE = _watch_last(NativeDecoder(model), ids)
    for threads in (1, 3):
        decoder = NativeDecoder(model, threads=threads)
        decoder.read(ids[:1])
        for token in ids[1:-1]:
            decoder.draw(forced=token)
        again = decoder.read_watched(ids[-1])
        np.testing.assert_allclose(again[0], attention_PHT, atol=1e-5)
        np.testing.assert_allclose(again[1], affinities_LE, atol=1e-5)


def test_what_is_read_afterwards_is_not_watched(make_model):
    model = make_model().eval()
    ids, decoder = random_ids(model, 40), NativeDecoder(model)
    attention_PHT, _ = _watch_last(decoder, ids[:20])
    kept = attention_PHT.copy()
    decoder.read(ids[20:30])
    decoder.rewind(19)
    decoder.read(ids[19:])
    assert np.array_equal(attention_PHT, kept)
    with pytest.raises(AxionError, match="has no token"):
        decoder.read_watched(model.config.vocab_size)


def _watch_last(decoder, ids):
    decoder.read(ids[:-1])
    return decoder.read_watched(ids[-1])
