"""The stream of steps: text, probabilities, reproducibility, routing, limits and errors."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList, MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper

from axion.errors import AxionError
from axion.inference.routing import route
from axion.inference.sampling import LIMITS, Sampling, Uniforms
from axion.inference.stream import make_trace, stream
from axion.inference.torch_reader import Sampler
from axion.kernels.dimensions import ALTERNATIVES
from axion.tokenizer import encode_documents
from tests.conftest import tiny_documents
from tests.inference.conftest import PROMPT

GREEDY = Sampling(temperature=0, max_new_tokens=24)


def new_tokens(release, sampling, prompt=PROMPT):
    return [s.token_id for s in stream(release.model, release.tokenizer, prompt, sampling) if not s.is_prompt]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("prompt", [PROMPT, "7", "ação 日本"])
def test_greedy_matches_generate(release, prompt, penalty):
    inputs = release.tokenizer(prompt, return_tensors="pt")
    expected = release.model.generate(**inputs, do_sample=False, max_new_tokens=24, repetition_penalty=penalty)[0]
    expected = [token for token in expected[inputs.input_ids.shape[1] :].tolist() if token != 2]
    assert new_tokens(release, replace(GREEDY, repetition_penalty=penalty), prompt) == expected


def test_the_same_seed_gives_the_same_steps_and_another_seed_another_text(release):
    sampling = Sampling(temperature=1.2, max_new_tokens=30, seed=7)
    first, second = (list(stream(release.model, release.tokenizer, PROMPT, sampling)) for _ in range(2))
    assert [replace(step, seconds=0) for step in first] == [replace(step, seconds=0) for step in second]
    assert new_tokens(release, sampling) != new_tokens(release, replace(sampling, seed=8))


def test_draws_follow_the_filtered_distribution(release):
    """Over many seeds, token frequencies match transformers' filtered probabilities."""
    inputs = release.tokenizer("7", return_tensors="pt")
    with torch.inference_mode():
        logits_1V = release.model(**inputs).logits[:, -1]
    filters = LogitsProcessorList([TemperatureLogitsWarper(0.9), TopKLogitsWarper(6), MinPLogitsWarper(0.05)])
    expected_V = filters(inputs.input_ids, logits_1V.clone()).softmax(-1)[0]
    draws, ids = 2000, inputs.input_ids[0].tolist()
    sample = Sampler(Sampling(temperature=0.9, top_k=6, min_p=0.05), len(ids), {2})
    counts_V = torch.zeros_like(expected_V)
    for seed in range(draws):
        counts_V[sample(ids, logits_1V[0], Uniforms(seed)[0])] += 1
    assert counts_V[expected_V == 0].sum() == 0 and (expected_V > 0).sum() > 3
    for token in expected_V.nonzero().flatten().tolist():
        p = expected_V[token].item()
        assert abs(counts_V[token].item() - draws * p) < 5 * math.sqrt(draws * p * (1 - p)) + 1


def test_top_k_of_one_is_greedy(release):
    assert new_tokens(release, Sampling(temperature=0.8, top_k=1, max_new_tokens=24)) == new_tokens(release, GREEDY)


def test_a_step_has_the_models_own_probability_and_alternatives(release):
    steps = list(stream(release.model, release.tokenizer, PROMPT, Sampling(temperature=0.8, max_new_tokens=10, seed=3)))
    ids = torch.tensor([[step.token_id for step in steps]])
    with torch.inference_mode():
        probabilities = release.model(ids).logits[0].softmax(-1)
    for before, step in zip(probabilities, steps[1:], strict=False):
        if step.is_prompt:
            assert step.probability is None and step.alternatives == []
            continue
        assert step.probability == pytest.approx(before[step.token_id].item(), abs=1e-5)
        top = before.topk(ALTERNATIVES)
        assert [p for _, _, p in step.alternatives] == pytest.approx(top.values.tolist(), abs=1e-5)
        assert [text for _, text, _ in step.alternatives] == [
            release.tokenizer.decode([token]) for token, _, _ in step.alternatives
        ]


def test_the_routing_matches_one_pass_over_the_whole_text(release):
    steps = list(stream(release.model, release.tokenizer, PROMPT, GREEDY))
    ids = torch.tensor([[step.token_id for step in steps]])
    with torch.inference_mode():
        logits = release.model(ids, output_router_logits=True).router_logits
    routing = route(release.model, logits)
    assert all(step.routing.rows == tuple(routing) for step in steps)
    for index, (gates_TK, experts_TK) in enumerate(routing.values()):
        assert [step.routing.experts[index] for step in steps] == experts_TK.tolist()
        gates = torch.tensor([step.routing.gates[index] for step in steps])
        torch.testing.assert_close(gates, gates_TK, atol=1e-5, rtol=0)


def test_the_texts_of_the_steps_add_up_even_within_characters(release):
    prompt = "é日🦊é"  # the tiny tokenizer encodes these as single bytes
    steps = list(stream(release.model, release.tokenizer, prompt, replace(GREEDY, max_new_tokens=1)))
    prompt_steps = [step for step in steps if step.is_prompt]
    assert "".join(step.text for step in prompt_steps) == prompt
    assert len(prompt_steps) > len(prompt) + 1 and "" in [step.text for step in prompt_steps[1:]]
    assert [step.position for step in steps] == list(range(len(steps)))


def test_it_stops_at_the_end_of_text_without_yielding_it(release, monkeypatch):
    first, second, *_ = new_tokens(release, GREEDY)
    monkeypatch.setattr(release.model.generation_config, "eos_token_id", [2, second])
    assert new_tokens(release, GREEDY) == [first]
    at_least_five = new_tokens(release, replace(GREEDY, min_new_tokens=5))
    assert len(at_least_five) >= 5 and second not in at_least_five[:5]


def test_it_stops_at_the_end_of_the_context(release, monkeypatch):
    monkeypatch.setattr("axion.inference.stream.end_tokens", lambda *_: set())
    steps = list(stream(release.model, release.tokenizer, PROMPT, Sampling(temperature=0.8, max_new_tokens=1000)))
    assert len(steps) == release.config.max_position_embeddings


def test_a_prompt_that_fills_the_context_is_refused_at_the_call(release):
    with pytest.raises(AxionError, match=r"201 tokens.*context 128.*shorten it to 127"):
        stream(release.model, release.tokenizer, "5" * 200, GREEDY)
    assert len(list(stream(release.model, release.tokenizer, "5" * 126, GREEDY))) <= 128


@pytest.mark.parametrize("prompt", ["", "\udcff"])
def test_a_prompt_that_is_not_text_is_refused(release, prompt):
    with pytest.raises(AxionError, match="the prompt is"):
        stream(release.model, release.tokenizer, prompt, GREEDY)


def test_a_prompt_without_tokens_is_refused(release):
    with pytest.raises(AxionError, match="the prompt has no token"):
        stream(release.model, release.tokenizer, [], Sampling())


def test_stopping_and_closing_end_the_generation(release, monkeypatch):
    calls, decoder = [], release.model.model
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    steps = stream(release.model, release.tokenizer, PROMPT, GREEDY)
    for step in steps:
        if not step.is_prompt:
            break
    steps.close()
    assert len(calls) == 2 and next(steps, None) is None

    calls.clear()
    stopped = stream(release.model, release.tokenizer, PROMPT, GREEDY, stop=lambda: len(calls) > 3)
    assert sum(not step.is_prompt for step in stopped) == 3


def test_grad_mode_between_steps_is_the_callers(release):
    for _ in stream(release.model, release.tokenizer, "7", replace(GREEDY, max_new_tokens=2)):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, bad) for name in LIMITS for bad in (float("nan"), float("inf"), -1, "1", None, True, 1e30)),
        ("temperature", 0.001),
        ("temperature", 5.1),
        ("top_k", 1.5),
        ("top_p", 0),
        ("top_p", 1.01),
        ("min_p", 1.01),
        ("repetition_penalty", 0),
        ("max_new_tokens", 0),
        ("seed", 2**53),
    ],
)
def test_an_invalid_setting_is_refused_and_named(field, value):
    with pytest.raises(AxionError, match=field) as error:
        Sampling(**{field: value})
    assert "\n" not in str(error.value)


def test_integers_may_be_given_as_floats():
    sampling = Sampling(top_k=5.0, seed=3.0, temperature=1)
    assert asdict(sampling) == asdict(Sampling(top_k=5, seed=3, temperature=1.0))
    assert type(sampling.top_k) is int and type(sampling.temperature) is float


def test_min_new_tokens_must_fit():
    with pytest.raises(AxionError, match=r"min_new_tokens \(5\)"):
        Sampling(max_new_tokens=4, min_new_tokens=5)


@given(
    temperature=st.floats(0.01, 5),
    top_k=st.integers(0, 400),
    top_p=st.floats(0.001, 1),
    min_p=st.floats(0, 1),
    penalty=st.floats(0.1, 10),
    seed=st.integers(0, 2**53 - 1),
)
@settings(max_examples=40)
def test_any_valid_sampling_gives_tokens_of_the_vocabulary(release, temperature, top_k, top_p, min_p, penalty, seed):
    sampling = Sampling(temperature, top_k, top_p, min_p, penalty, max_new_tokens=2, seed=seed)
    for step in stream(release.model, release.tokenizer, "7", sampling):
        assert 0 <= step.token_id < 320
        assert step.is_prompt or 0 <= step.probability <= 1


def test_the_trace_is_compact_json_of_the_stream(release):
    documents = encode_documents(release.tokenizer, tiny_documents())
    trace = make_trace("axion-tiny", release.model, release.tokenizer, PROMPT, GREEDY, documents)
    assert trace == json.loads(json.dumps(trace, allow_nan=False))
    steps = list(stream(release.model, release.tokenizer, PROMPT, GREEDY))
    assert trace["steps"] == [step.to_record() for step in steps]
    assert (trace["format"], trace["model"], trace["prompt"]) == (1, "axion-tiny", PROMPT)
    assert trace["rows"] == [[1, 1], [2, 1]]
    assert (trace["layers"], trace["experts"], trace["experts_per_token"]) == (2, 4, 2)
    assert Sampling(**trace["sampling"]) == GREEDY
    assert len(trace["favourites"]) == 8
    record = trace["steps"][-1]
    assert set(record) == {"i", "id", "t", "prompt", "p", "alt", "e", "g", "a", "d"}
    assert record["p"] == pytest.approx(steps[-1].probability, rel=1e-3)
    assert record["a"][0] == pytest.approx(steps[-1].routing.affinities[0], rel=1e-3)
    assert record["d"] == steps[-1].routing.displaced


def test_forcing_the_tokens_that_would_have_been_drawn_changes_nothing(release):
    sampling = Sampling(temperature=1.0, max_new_tokens=20, seed=4)
    free = list(stream(release.model, release.tokenizer, PROMPT, sampling))
    drawn = [step.token_id for step in free if not step.is_prompt]
    for kept in (1, 7, len(drawn)):
        forced = list(stream(release.model, release.tokenizer, PROMPT, sampling, forced=drawn[:kept]))
        assert [replace(step, seconds=0) for step in forced] == [replace(step, seconds=0) for step in free]


def test_the_text_continues_from_a_forced_token(release):
    drawn = new_tokens(release, GREEDY)
    other = 20 if drawn[2] != 20 else 21
    forced = [*drawn[:2], other]
    steps = [s for s in stream(release.model, release.tokenizer, PROMPT, GREEDY, forced=forced) if not s.is_prompt]
    assert [step.token_id for step in steps[:3]] == forced
    assert steps[2].probability < steps[2].alternatives[0][2]  # the greedy token was more likely
    ids = [*release.tokenizer(PROMPT).input_ids, *forced]
    rest = stream(release.model, release.tokenizer, ids, replace(GREEDY, max_new_tokens=GREEDY.max_new_tokens - 3))
    assert [step.token_id for step in steps[3:]] == [step.token_id for step in rest if not step.is_prompt]


def test_a_forced_end_ends_the_text_and_the_limit_counts_forced_tokens(release):
    drawn = new_tokens(release, GREEDY)
    ended = stream(
        release.model, release.tokenizer, PROMPT, GREEDY, forced=[*drawn[:2], release.tokenizer.eos_token_id]
    )
    assert [step.token_id for step in ended if not step.is_prompt] == drawn[:2]
    short = stream(release.model, release.tokenizer, PROMPT, replace(GREEDY, max_new_tokens=3), forced=drawn[:5])
    assert [step.token_id for step in short if not step.is_prompt] == drawn[:3]


@pytest.mark.parametrize("token", [-1, 320, 10**9])
def test_a_forced_token_outside_of_the_vocabulary_is_refused(release, token):
    with pytest.raises(AxionError, match=f"no token {token}"):
        stream(release.model, release.tokenizer, PROMPT, GREEDY, forced=[token])
