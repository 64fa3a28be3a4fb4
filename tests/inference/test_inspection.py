"""What is found of one token: equal in both backends, and equal to what the stream says of it."""

import numpy as np
import pytest

from axion.errors import AxionError
from axion.inference.inspection import inspect
from axion.inference.rows import layer_passes
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from tests.inference.conftest import PROMPT


def test_an_inspection_agrees_with_the_stream(release, backend):
    sampling = Sampling(temperature=0.9, seed=4, max_new_tokens=8)
    steps = list(stream(release.model, release.tokenizer, PROMPT, sampling, backend=backend))
    ids = [step.token_id for step in steps]
    for step in (steps[0], steps[7], steps[-1]):
        found = inspect(release.model, ids, step.position, backend=backend)
        heads = release.config.num_attention_heads
        assert found.attention_PHT.shape == (len(layer_passes(release.config)), heads, step.position + 1)
        assert found.attention_PHT.sum(axis=-1) == pytest.approx(1, abs=1e-5)
        for experts_K, affinities_K, affinities_E in zip(
            step.routing.experts, step.routing.affinities, found.affinities_LE, strict=True
        ):
            assert affinities_E[experts_K] == pytest.approx(affinities_K, abs=1e-5)
        assert (found.logits_before_V is None) == (step.position == 0)
    before_V = found.logits_before_V
    assert before_V is not None
    chances_V = np.exp(before_V - np.logaddexp.reduce(before_V))
    assert chances_V[steps[-1].token_id] == pytest.approx(steps[-1].probability, rel=1e-3)


def test_a_text_that_cannot_be_inspected_is_an_error(release):
    ids = release.tokenizer(PROMPT).input_ids
    for wrong, position in ((ids, len(ids)), (ids, -1), ([], 0)):
        with pytest.raises(AxionError, match="no token at position"):
            inspect(release.model, wrong, position)
    with pytest.raises(AxionError, match="the model has no token"):
        inspect(release.model, [release.config.vocab_size], 0)
    with pytest.raises(AxionError, match="fit into"):
        inspect(release.model, [1] * 600, 599)
