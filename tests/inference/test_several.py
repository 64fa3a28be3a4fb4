"""Many texts written or scored at once: the same as one at a time, on the kernels and in PyTorch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from axion.data.format import prompt
from axion.data.sources.word_problems import word_problems
from axion.errors import AxionError
from axion.inference import readers, several
from axion.inference.readers import SharedDraws
from axion.inference.sampling import Sampling
from axion.inference.scoring import log_probabilities
from axion.inference.several import texts_at_once, write_texts
from axion.inference.stream import encode_prompt, end_tokens, stream
from axion.inference.variants import with_weights
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import Release, open_release
from axion.tokenizer import encode_documents
from tests.conftest import ROOT, TINY

QUESTIONS = ["7", "Quanto é 5 + 3?", "What is 12 - 4?", "Ann has 12 pens and buys 3. How many pens?", "0 + 0?"]
GREEDY = Sampling(max_new_tokens=24)
SAMPLED = Sampling(temperature=1.2, top_k=40, repetition_penalty=1.1, min_new_tokens=3, max_new_tokens=24)


@pytest.fixture(scope="module")
def prompts(release):
    return [
        encode_prompt(release.tokenizer, prompt(question, reasoning=number % 2 == 1))
        for number in range(3)
        for question in QUESTIONS[number:]
    ]


def alone(release, ids, sampling):
    return list(stream(release.model, release.tokenizer, ids, sampling))


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_texts_are_those_that_streams_write_whatever_is_beside_them(release, prompts, backend, sampling, monkeypatch):
    # more tokens that end a text, so that texts end at different times
    monkeypatch.setattr(release.model.generation_config, "eos_token_id", [2, *range(29, 320, 29)])
    seeds, ends = list(range(100, 100 + len(prompts))), end_tokens(release.model, release.tokenizer)

    def write(order):
        asked = [prompts[number] for number in order]
        texts = write_texts(release.model, asked, sampling, ends, [seeds[number] for number in order], backend)
        return dict(zip(order, texts, strict=True))

    together = write(range(len(prompts)))
    assert len({len(tokens) for tokens in together.values()}) > 2
    monkeypatch.setattr(several, "TEXTS_AT_ONCE", 2)
    monkeypatch.setattr(several, "PROMPT_TOKENS_PER_BATCH", 40)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert write(range(len(prompts))[::-1]) == together
    assert write([4]) == {4: together[4]}
    for number, tokens in together.items():
        steps = alone(release, prompts[number], replace(sampling, seed=seeds[number]))
        assert tokens == [step.token_id for step in steps if not step.is_prompt]


def test_texts_end_with_the_context_and_prompts_that_fill_it_are_not_continued(release, backend):
    room = [0, 1, 5]
    prompts = [[], *([20 + i % 200 for i in range(128 - left)] for left in room), [20] * 200]
    counts = []
    texts = write_texts(release.model, prompts, Sampling(max_new_tokens=50), set(), backend=backend, done=counts.append)
    assert [len(tokens) for tokens in texts] == [0, *room, 0]
    assert sum(counts) == len(prompts)
    assert write_texts(release.model, [], GREEDY, set(), backend=backend) == []


def test_a_token_that_the_model_lacks_is_one_line(release, native):
    with pytest.raises(AxionError, match="the model has no token 320; its tokens are 0 to 319"):
        write_texts(release.model, [[1, 320], [1]], GREEDY, set(), backend="native")


def test_fewer_texts_are_written_at_once_where_their_caches_are_large(release):
    assert texts_at_once(release.model) == several.TEXTS_AT_ONCE
    with torch.device("meta"):
        large = AxionForCausalLM(AxionConfig(**TINY | {"max_position_embeddings": 500_000}))
    assert texts_at_once(large) == several.CACHE_BYTES // (4 * 500_000 * (2 * (8 + 4) + 32))


def test_streams_that_take_turns_draw_together(release, prompts, native, monkeypatch):
    """Each has the text and the routing that it has alone, also if others end before it or are closed."""
    drawn = []

    def draw_several(decoders, uniforms, usual=readers.draw_several):
        drawn.append(len(decoders))
        return usual(decoders, uniforms)

    monkeypatch.setattr(readers, "draw_several", draw_several)
    ids, lengths = prompts[3], (24, 3, 24, 200, 12)
    settings = [replace(SAMPLED, seed=seed, max_new_tokens=length) for seed, length in enumerate(lengths)]
    shared = SharedDraws()
    running = [
        (number, stream(release.model, release.tokenizer, ids, sampling, shared=shared))
        for number, sampling in enumerate(settings)
    ]
    found = [[] for _ in settings]
    while running:
        for number, steps in tuple(running):
            if (step := next(steps, None)) is None or (number, step.position) == (2, len(ids) + 7):
                steps.close()
                running.remove((number, steps))
            else:
                found[number].append(step)
    assert max(drawn) == len(settings) and shared._readers == [] and shared._drawn == {}
    monkeypatch.undo()
    for number, (steps, sampling) in enumerate(zip(found, settings, strict=True)):
        expected = alone(release, ids, sampling)[: len(ids) + 7 if number == 2 else None]
        assert [step.token_id for step in steps] == [step.token_id for step in expected]
        assert [step.routing.experts for step in steps] == [step.routing.experts for step in expected]


# --- Scores -----------------------------------------------------------------------------------------------------------


def test_log_probabilities_are_the_models(release, prompts, backend):
    texts = [*prompts, np.array([5]), list(range(20, 148))]
    scores = log_probabilities(release.model, texts, backend)
    for ids, scores_T in zip(texts, scores, strict=True):
        with torch.inference_mode():
            logits_TV = release.model(torch.tensor([[*map(int, ids)]])).logits[0, :-1]
        expected = logits_TV.log_softmax(-1).gather(1, torch.tensor([*map(int, ids[1:])])[:, None])[:, 0]
        np.testing.assert_allclose(scores_T, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(AxionError, match="cannot read 129 tokens"):
        log_probabilities(release.model, [[1] * 129], backend)
    with pytest.raises(AxionError, match="cannot read 0 tokens"):
        log_probabilities(release.model, [[]], backend)


# --- Rounded weights --------------------------------------------------------------------------------------------------


def test_a_variant_with_other_weights_is_read_with_them_by_the_kernels_alone(release, native, monkeypatch):
    rounded = with_weights(release.model, "bf16")
    assert with_weights(rounded, "bf16") is rounded
    assert with_weights(release.model, "fp32") is release.model
    ids = list(range(20, 60))
    [fp32], [bf16] = (log_probabilities(model, [ids], "native") for model in (release.model, rounded))
    assert 0 < np.abs(fp32 - bf16).max() < 0.1
    with pytest.raises(AxionError, match="weights must be one of fp32, bf16, int8, not 'int4'"):
        with_weights(release.model, "int4")
    needs = "bf16 weights need the native kernels, which cannot be used: PyTorch was requested"
    with pytest.raises(AxionError, match=needs):
        log_probabilities(rounded, [ids], "torch")
    monkeypatch.setenv("AXION_BACKEND", "torch")
    with pytest.raises(AxionError, match=needs):
        Release(release.name, release.folder).with_weights("bf16")


def test_rounded_weights_lose_little_on_unseen_problems(native):
    """In nats per token, of the bundled model."""
    bundled = open_release(ROOT / "releases" / "axion1-v0.1")
    problems = word_problems(60, seed=1_000_003, holdout=0.0)
    documents = encode_documents(bundled.tokenizer, [problem.document() for problem in problems])

    def loss(weights):
        return -np.concatenate(log_probabilities(bundled.with_weights(weights).model, documents, "native")).mean()

    fp32 = loss("fp32")
    for weights in ("bf16", "int8"):
        assert 0 < abs(loss(weights) - fp32) < 0.005
