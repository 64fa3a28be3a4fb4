"""The compiled decoder draws tokens as transformers does, and streams like the PyTorch model."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from axion.inference.sampling import Sampling, Uniforms
from axion.inference.stream import stream
from axion.inference.torch_reader import Sampler
from axion.kernels.decoder import NativeDecoder
from tests.kernels.decoding import PROMPT, decoder_for, reference


def test_256_greedy_tokens_match_the_model(release):
    ids = release.tokenizer(PROMPT).input_ids
    decoder = NativeDecoder(release.model)
    decoder.read(ids)
    written = [decoder.draw() for _ in range(256)]
    # Each token must be the model's own choice, unless two are nearly tied.
    best = reference(release.model, [*ids, *written])[0][len(ids) - 1 : -1].topk(2)
    for token, (first, second), (likeliest, _) in zip(written, best.values, best.indices, strict=True):
        if first - second < 1e-4:
            break
        assert token == likeliest
    else:
        return
    pytest.fail(f"two logits near {first:.4f} are closer than 1e-4; use another prompt")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 1},
        {"temperature": 1.3, "top_k": 40},
        {"temperature": 1.0, "top_k": 5000},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 2.5, "top_p": 0.05},
        {"temperature": 4.0, "top_p": 0.999},
        {"temperature": 1.5, "min_p": 0.02},
        {"temperature": 1.5, "min_p": 1.0},
        {"temperature": 1.2, "top_k": 30, "top_p": 0.95, "min_p": 0.01},
        {"repetition_penalty": 1.3},
        {"temperature": 1.1, "repetition_penalty": 0.8, "top_p": 0.9},
        {"temperature": 3.0, "min_new_tokens": 20},
        {"min_new_tokens": 40, "repetition_penalty": 1.2},
        {"temperature": 0.01},
    ],
    ids=str,
)
def test_draws_match_transformers_filters(settings, release):
    """Both use the decoder's logits, so that only filters and sampling can differ."""
    ends = {2, 260, 300, 10**6}  # the last is not in the vocabulary
    prompt = release.tokenizer(PROMPT).input_ids
    for seed in range(3):
        sampling = Sampling(max_new_tokens=60, seed=seed, **settings)
        sample, uniforms = Sampler(sampling, len(prompt), ends), Uniforms(seed)
        decoder, sequence = decoder_for(release.model, sampling, prompt, ends), list(prompt)
        for index in range(60):
            logits_V = decoder.logits()
            expected = sample(sequence, logits_V, uniforms[index])
            token = decoder.draw(uniforms[index])
            assert token == (None if expected in ends else expected)
            if token is None:
                break
            sequence.append(token)
            probability, top_ids, top_probabilities = decoder.probabilities()
            probabilities_V = logits_V.softmax(-1)
            assert probability == pytest.approx(probabilities_V[token].item(), rel=1e-4)
            assert top_ids == probabilities_V.topk(5).indices.tolist()
            assert top_probabilities == pytest.approx(probabilities_V.topk(5).values.tolist(), rel=1e-4)


def test_ties_are_filtered_as_in_transformers(make_model):
    """All tokens are equally likely. top-p is excluded, since torch.sort does not define which ties it keeps."""
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    for settings in ({}, {"top_k": 7}, {"min_p": 1.0}):
        sampling = Sampling(temperature=1.0, seed=1, **settings)
        sample, uniforms = Sampler(sampling, 2, set()), Uniforms(1)
        decoder = decoder_for(model, sampling, [5, 6], set())
        for index in range(20):
            assert decoder.draw(uniforms[index]) == sample([5], torch.zeros(model.config.vocab_size), uniforms[index])
    assert decoder_for(model, Sampling(), [5], set()).draw() == 0


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.8, "top_p": 0.95, "seed": 4}, {"repetition_penalty": 1.2, "min_new_tokens": 30}],
    ids=str,
)
def test_the_stream_matches_pytorch(settings, release):
    sampling = Sampling(max_new_tokens=40, **settings)
    forced = [300, 20, 21]
    for tokens in ((), forced):
        torch_steps, native_steps = (
            list(stream(release.model, release.tokenizer, PROMPT, sampling, forced=tokens, backend=backend))
            for backend in ("torch", "native")
        )
        assert len(torch_steps) == len(native_steps)
        for slow, fast in zip(torch_steps, native_steps, strict=True):
            rounded = ("probability", "alternatives", "routing", "seconds")
            same = {name: getattr(slow, name) for name in rounded}
            assert replace(fast, **same) == slow
            exact = ("rows", "experts", "displaced")
            assert [getattr(fast.routing, name) for name in exact] == [getattr(slow.routing, name) for name in exact]
            if not slow.is_prompt:
                assert fast.probability == pytest.approx(slow.probability, rel=1e-3)
            assert [id_ for id_, _, _ in fast.alternatives] == [id_ for id_, _, _ in slow.alternatives]
            weights = (step.routing.gates + step.routing.affinities for step in (fast, slow))
            for fast_K, slow_K in zip(*weights, strict=True):
                assert fast_K == pytest.approx(slow_K, abs=5e-5)


def test_concurrent_streams_are_independent(release):
    samplings = [Sampling(temperature=1.0, max_new_tokens=100, min_new_tokens=100, seed=seed) for seed in range(4)]

    def write(sampling):
        return [step.token_id for step in stream(release.model, release.tokenizer, PROMPT, sampling, backend="native")]

    alone = [write(sampling) for sampling in samplings]
    together: dict[int, list[int]] = {}
    threads = [
        threading.Thread(target=lambda index=index: together.update({index: write(samplings[index])}))
        for index in range(len(samplings))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(len(samplings))] == alone
