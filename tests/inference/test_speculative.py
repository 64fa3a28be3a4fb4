"""Speculative decoding gives the text of plain decoding, in fewer passes with better drafts."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from tests.conftest import TINY
from tests.inference.conftest import PROMPT

SAMPLINGS = [
    Sampling(max_new_tokens=24),
    Sampling(temperature=1.0, top_k=50, max_new_tokens=24, seed=3),
    Sampling(temperature=1.3, top_p=0.95, repetition_penalty=1.3, min_new_tokens=20, max_new_tokens=24, seed=2**53 - 1),
]


@pytest.fixture(scope="module")
def noisy(release):
    """The tiny model with noise in its weights, which drafts some tokens right and some wrong."""
    model = deepcopy(release.model)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    return model


def smaller(**changes):
    torch.manual_seed(4)
    return AxionForCausalLM(AxionConfig(**TINY | {"num_hidden_layers": 1} | changes)).eval()


def generate(release, sampling, prompt=PROMPT, **options):
    return list(stream(release.model, release.tokenizer, prompt, sampling, **options))


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        same = {"probability": 0.0, "alternatives": [], "routing": None, "seconds": 0.0}
        assert replace(one, **same) == replace(other, **same)
        assert (one.routing.experts, one.routing.displaced) == (other.routing.experts, other.routing.displaced)
        assert [id_ for id_, _, _ in one.alternatives] == [id_ for id_, _, _ in other.alternatives]
        assert (one.probability or 0) == pytest.approx(other.probability or 0, rel=1e-3)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled", "penalised"])
def test_the_text_is_that_of_plain_decoding(sampling, backend, release, noisy):
    plain = generate(release, sampling, backend=backend)
    assert_same(generate(release, sampling, backend=backend, draft_model=noisy), plain)
    forced = [30, 31, plain[-1].token_id]
    assert_same(
        generate(release, sampling, backend=backend, draft_model=noisy, forced=forced),
        generate(release, sampling, backend=backend, forced=forced),
    )


def test_a_smaller_model_can_draft_and_good_drafts_save_passes(release, noisy, monkeypatch):
    passes = []
    forward = release.model.forward
    monkeypatch.setattr(release.model, "forward", lambda *args, **named: passes.append(1) or forward(*args, **named))
    counts = {}
    for name, draft_model in {
        "none": None,
        "smaller": smaller(),
        "noisy": noisy,
        "same": deepcopy(noisy).eval(),
    }.items():
        if name == "same":
            draft_model.load_state_dict(release.model.state_dict())
        passes.clear()
        steps = generate(release, SAMPLINGS[2], backend="torch", draft_model=draft_model)
        counts[name] = len(passes)
        if name == "none":
            plain = steps
        assert_same(steps, plain)
    tokens = sum(not step.is_prompt for step in plain)
    assert counts["none"] == 1 + tokens
    assert counts["same"] <= 2 + tokens // 4
    assert counts["same"] < counts["noisy"] < counts["smaller"] <= counts["none"]


def test_the_text_ends_where_it_would_without_drafts(release, noisy, monkeypatch, backend):
    sampling = replace(SAMPLINGS[0], max_new_tokens=1000)
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: set())
    prompt = list(range(20, 130))
    plain = generate(release, sampling, prompt, backend=backend)
    assert len(plain) == release.config.max_position_embeddings
    assert_same(generate(release, sampling, prompt, backend=backend, draft_model=noisy), plain)
    ends = {plain[-8].token_id}
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: ends)
    ended = generate(release, sampling, prompt, backend=backend)
    assert len(prompt) <= len(ended) < len(plain)
    assert_same(generate(release, sampling, prompt, backend=backend, draft_model=noisy), ended)


def test_a_draft_model_with_a_shorter_context_stops_drafting(release):
    prompt = len(release.tokenizer(PROMPT).input_ids)
    drafter = smaller(max_position_embeddings=prompt + 10)
    plain = generate(release, SAMPLINGS[1], backend="torch")
    assert_same(generate(release, SAMPLINGS[1], backend="torch", draft_model=drafter), plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 319}, r"the draft model has 319 tokens, the model 320; both must share a tokenizer"),
        ({"max_position_embeddings": 8}, r"the prompt has \d+ tokens, the draft model's context 8; shorten it"),
    ],
)
def test_a_draft_model_that_does_not_fit_is_refused_at_the_call(changes, message, release):
    with pytest.raises(AxionError, match=message):
        stream(release.model, release.tokenizer, PROMPT, SAMPLINGS[0], draft_model=smaller(**changes))
