"""The compiled decoder against the PyTorch model: logits, routing, sampling, rewinding, drafts, concurrency."""

import gc
import threading
import weakref
from dataclasses import replace

import pytest
import torch

from axion.errors import AxionError
from axion.inference.readers import pick_backend
from axion.inference.routing import RoutingRecorder, TokenRouting
from axion.inference.sampling import Sampler, Sampling, Uniforms
from axion.inference.stream import stream
from axion.inference.variants import with_loops
from axion.kernels import pack
from axion.kernels.build import Unavailable
from axion.kernels.decoder import NativeDecoder, draw_several
from axion.kernels.plain import unsupported_reason
from axion.release import open_release
from tests.conftest import ROOT
from tests.kernels.conftest import SHAPES, YARN
from tests.support.int8 import Int8Weight

DECODED_SHAPES = {
    # for these, applying the up-projections takes fewer products than absorbing them
    "wide latents": {"kv_lora_rank": 64, "q_lora_rank": 64},
    "grouped queries, odd widths, a dense layer, a looped one with experts": {
        "attention": "gqa",
        "vocab_size": 301,
        "hidden_size": 40,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "num_hidden_layers": 3,
        "first_k_dense_replace": 1,
        "intermediate_size": 50,
        "num_shared_layers": 1,
        "num_loops": 3,
        "rope_parameters": YARN,
        "tie_word_embeddings": False,
    },
    "low rank, dense, looped": {
        "attention": "gqa",
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_hidden_layers": 4,
        "first_k_dense_replace": 4,
        "intermediate_size": 48,
        "projection_rank": 5,
        "num_shared_layers": 2,
        "num_loops": 2,
        "dropout": 0.1,
    },
    "low rank as full matrices, one key": {
        "attention": "gqa",
        "num_key_value_heads": 1,
        "first_k_dense_replace": 2,
        "projection_rank": 24,
    },
}
"""Shapes that only decoding covers."""
LOOPED = "grouped queries, odd widths, a dense layer, a looped one with experts"

PREDICTS = {"num_nextn_predict_layers": 1, "first_k_dense_replace": 1}

PROMPT = "# Pergunta:\nQuanto é 47 + 38?\n--\n# Resposta:\n"
NEAR = 1e-5
"""Tolerance, relative to the largest logit."""


@pytest.fixture(scope="module")
def release():
    return open_release(ROOT / "releases" / "axion1-v0.1")


def random_ids(model, count, seed=0):
    return torch.randint(model.config.vocab_size, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def reference(model, ids):
    """The model's logits [T, V] and the routing of each token."""
    output = model(torch.tensor([ids]), output_router_logits=True)
    return output.logits[0], RoutingRecorder(model)(output.router_logits, len(ids))


def assert_near(logits_V, expected_V, tolerance=NEAR):
    torch.testing.assert_close(logits_V, expected_V, rtol=0, atol=tolerance * expected_V.abs().max().item())


def assert_routing(decoder, expected):
    for position, wanted in enumerate(expected):
        routing = TokenRouting(wanted.rows, **decoder.routing(position))
        assert (routing.experts, routing.displaced) == (wanted.experts, wanted.displaced)
        for layer_K, wanted_K in zip(routing.gates + routing.affinities, wanted.gates + wanted.affinities, strict=True):
            assert layer_K == pytest.approx(wanted_K, abs=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES, *DECODED_SHAPES])
def test_every_shape_gives_the_models_logits_and_routing(shape, make_model):
    model = make_model(**(SHAPES | DECODED_SHAPES)[shape]).eval()
    ids = random_ids(model, model.config.max_position_embeddings)
    expected_TV, routing = reference(model, ids)
    for threads in (1, 3):
        at_once = NativeDecoder(model, threads=threads)
        at_once.read(ids)
        assert_near(at_once.logits(), expected_TV[-1])
        assert_routing(at_once, routing)

        one_by_one = NativeDecoder(model, threads=threads)
        one_by_one.read(ids[:1])
        for token, expected_V in zip(ids[1:], expected_TV, strict=False):
            assert_near(one_by_one.logits(), expected_V)
            assert one_by_one.draw(forced=token) == token
        assert_routing(one_by_one, routing)


@pytest.mark.parametrize("shape", [LOOPED, "low rank, dense, looped"])
def test_every_shape_rewinds_and_verifies_drafts(shape, make_model):
    model = make_model(**DECODED_SHAPES[shape]).eval()
    ids = random_ids(model, 40)
    decoder, fresh = NativeDecoder(model), NativeDecoder(model)
    decoder.read(ids)
    text = [decoder.draw() for _ in range(12)]
    decoder.rewind(45)
    assert_near(decoder.logits(), reference(model, [*ids, *text[:5]])[0][-1])
    decoder.rewind(11)  # into the prompt, where the last layer was not computed to its end
    assert_near(decoder.logits(), reference(model, ids[:11])[0][-1])
    fresh.read(ids)
    wrong = (text[7] + 1) % model.config.vocab_size
    assert len(fresh.verify([*text[:7], wrong, *text[8:]], [0.0] * 12)) == 7
    assert [fresh.draw() for _ in range(5)] == text[7:]
    assert_routing(fresh, reference(model, [*ids, *text])[1])


def test_loops_are_chosen_at_the_call_and_share_the_weights(make_model):
    model = make_model(**DECODED_SHAPES[LOOPED]).eval()
    ids = random_ids(model, 30)
    with torch.no_grad():
        model.model.loop_gate.fill_(-0.7)
    decoders = {}
    for loops in (1, 2, 5):
        variant = with_loops(model, loops)
        expected_TV, routing = reference(variant, ids)
        decoder = decoders[loops] = NativeDecoder(variant)
        decoder.read(ids[:-1])
        decoder.draw(forced=ids[-1])
        assert_near(decoder.logits(), expected_TV[-1])
        assert_routing(decoder, routing)
        assert len(routing[0].rows) == 2 + (loops - 1)
    assert decoders[1]._packed is decoders[5]._packed


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", ["plain", LOOPED])
def test_several_texts_are_written_together_as_alone(shape, threads, make_model):
    model = make_model(**(SHAPES | DECODED_SHAPES)[shape]).eval()
    prompts = [random_ids(model, length, seed=length) for length in (3, 40, 17, 1, 29)]
    ends = {random_ids(model, 200)[0]}
    pairs = []
    for prompt in prompts:
        sampling = Sampling(temperature=1.0, repetition_penalty=1.2, max_new_tokens=20)
        pairs.append([decoder_for(model, sampling, prompt, ends, threads=threads) for _ in range(2)])
    pairs[2][1].choose()  # its logits are there already
    uniforms = Uniforms(3)
    for index in range(20):
        numbers = [uniforms[5 * index + text] for text in range(len(pairs))]
        alone = [one.draw(number) for (one, _), number in zip(pairs, numbers, strict=True)]
        assert draw_several([one for _, one in pairs], numbers) == alone
        for one, together in pairs:
            assert together.probabilities().top_ids == one.probabilities().top_ids
    for one, together in pairs:
        assert_near(together.logits(), one.logits(), 1e-4)
        assert [one.routing(i)["experts"] for i in range(one.length)] == [
            together.routing(i)["experts"] for i in range(together.length)
        ]


def test_texts_that_cannot_be_written_together_are_refused(release):
    one, bf16, new = NativeDecoder(release.model), NativeDecoder(release.model, "bf16"), NativeDecoder(release.model)
    one.read([1])
    bf16.read([1])
    for decoders, message in (
        ([], "1 to 96 different decoders, not 0"),
        ([one, one], "different decoders"),
        ([one, bf16], "the same weights"),
        ([one, new], "nothing was read"),
    ):
        with pytest.raises(AxionError, match=message):
            draw_several(decoders)
    with pytest.raises(AxionError, match="1 texts need as many random numbers, not 2"):
        draw_several([one], [0.0, 0.1])
    assert one.length == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_guesses_are_those_of_the_layer_of_multi_token_prediction(threads, make_model):
    """Against one pass over the whole text; the norms of the two heads differ."""
    model = make_model(**PREDICTS).eval()
    torch.manual_seed(3)
    layer = model.attach_mtp().eval()
    for name, weight in layer.state_dict().items():
        if "norm" in name:
            weight.uniform_(0.5, 1.5)
    decoder, text = NativeDecoder(model, threads=threads), random_ids(model, 60)

    def expected(token):
        with torch.no_grad():
            hidden = model.model(torch.tensor([text])).last_hidden_state
            best = model.lm_head(model.mtp_hidden(torch.tensor([[*text[1:], token]]), hidden))[0, -1].topk(2).values
            assert best[0] - best[1] > 1e-4
            return model.lm_head(model.mtp_hidden(torch.tensor([[*text[1:], token]]), hidden))[0, -1].argmax().item()

    decoder.read(text[:-1])
    decoder.draw(forced=text[-1])
    for token in (5, 5, 6):  # the last one replaces what followed the last position
        assert decoder.guess(token) == expected(token)
    for token in (7, 8):
        decoder.draw(forced=token)
        text.append(token)
    assert decoder.guess(9) == expected(9)
    assert len(decoder.verify([wrong := (decoder.choose() + 1) % 320], [0.0])) == 0
    assert decoder.guess(wrong) == expected(wrong)
    decoder.rewind(20)
    del text[20:]
    assert decoder.guess(11) == expected(11)
    decoder.set_sampling(ends=[expected(11)])
    assert decoder.guess(11) is None
    assert_near(decoder.logits(), reference(model, text)[0][-1])
    with pytest.raises(AxionError, match="no token 320"):
        decoder.guess(320)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_a_prompt_can_be_read_in_pieces(threads, release):
    ids = random_ids(release.model, 300)
    expected_TV, routing = reference(release.model, ids)
    decoder = NativeDecoder(release.model, threads=threads)
    for start, end in [(0, 1), (1, 6), (6, 213), (213, 299), (299, 300)]:
        decoder.read(ids[start:end])
        assert_near(decoder.logits(), expected_TV[end - 1])
    assert_routing(decoder, routing)
    assert decoder.length == 300


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


def decoder_for(model, sampling, prompt, ends, weights="fp32", threads=1):
    decoder = NativeDecoder(model, weights, threads)
    decoder.set_sampling(
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        sampling.repetition_penalty,
        len(prompt) + sampling.min_new_tokens,
        sorted(ends),
    )
    decoder.read(prompt)
    return decoder


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


def test_a_full_context_is_an_error_and_rewinding_restarts(release):
    model = release.model
    context = model.config.max_position_embeddings
    ids = random_ids(model, context)
    decoder = NativeDecoder(model)
    decoder.read(ids[:-1])
    decoder.draw(forced=ids[-1])
    full = decoder.logits()
    for work in (lambda: decoder.draw(), lambda: decoder.read([1])):
        with pytest.raises(AxionError, match=r"context"):
            work()
    assert torch.equal(decoder.logits(), full)
    decoder.rewind(0)
    for work in (decoder.draw, decoder.choose, decoder.logits, lambda: decoder.verify([1], [0.0])):
        with pytest.raises(AxionError, match="nothing was read"):
            work()
    decoder.read(ids[:50])
    assert_near(decoder.logits(), reference(model, ids[:50])[0][-1])


@pytest.mark.parametrize("threads", [1, 3])
def test_logits_after_a_rewind_match_a_fresh_decoder(threads, release):
    ids = random_ids(release.model, 150)
    rewound, fresh = (NativeDecoder(release.model, threads=threads) for _ in range(2))
    rewound.read(ids[:100])
    for token in ids[100:]:
        rewound.draw(forced=token)
    fresh.read(ids[:100])
    for token in ids[100:120]:
        fresh.draw(forced=token)
    for length in (120, 100):
        rewound.rewind(length)
        fresh.rewind(length)
        assert torch.equal(rewound.logits(), fresh.logits())
        assert_near(rewound.logits(), reference(release.model, ids[:length])[0][-1])
    other = random_ids(release.model, 60, seed=1)
    rewound.read(other)
    expected_TV, routing = reference(release.model, ids[:100] + other)
    assert_near(rewound.logits(), expected_TV[-1])
    assert_routing(rewound, routing)
    for length in (-1, 161):
        with pytest.raises(AxionError, match=f"cannot rewind to {length} tokens; 160 were read"):
            rewound.rewind(length)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_a_draft_is_accepted_up_to_the_first_difference(kind, threads, release):
    sampling = Sampling(temperature=1.5, repetition_penalty=1.4, min_new_tokens=200, max_new_tokens=200)
    prompt, ends = release.tokenizer(PROMPT).input_ids, {2, 300}
    uniforms = Uniforms(5)
    plain, drafted = (decoder_for(release.model, sampling, prompt, ends, kind, threads) for _ in range(2))
    text, probabilities = [], []
    for index in range(130):
        text.append(plain.draw(uniforms[index]))
        probabilities.append(plain.probabilities())
    done = 0
    for good, bad in [(0, 3), (5, 0), (3, 4), (1, 1), (105, 7), (2, 0)]:  # 105 tokens are read by several threads
        wrong = [(token + 1) % 1024 for token in text[done + good : done + good + bad]]
        draft = text[done : done + good] + wrong
        assert drafted.choose(uniforms[done]) == text[done]
        kept = drafted.verify(draft, [uniforms[done + index] for index in range(len(draft))])
        for found, wanted in zip(kept, probabilities[done : done + good], strict=True):
            assert found.top_ids == wanted.top_ids
            assert [found.probability, *found.top_probabilities] == pytest.approx(
                [wanted.probability, *wanted.top_probabilities], rel=1e-3
            )
        done += good
        assert drafted.length == len(prompt) + done
        assert drafted.choose(uniforms[done]) == text[done]
    fresh = NativeDecoder(release.model, kind)
    fresh.read([*prompt, *text[:done]])
    assert_near(drafted.logits(), fresh.logits(), 1e-4)
    assert [drafted.routing(position)["experts"] for position in range(drafted.length)] == [
        fresh.routing(position)["experts"] for position in range(fresh.length)
    ]


def test_an_end_of_text_token_is_never_accepted(release):
    prompt = release.tokenizer(PROMPT).input_ids
    free = decoder_for(release.model, Sampling(), prompt, set())
    text = [free.draw() for _ in range(6)]
    first = text.index(text[3])
    decoder = decoder_for(release.model, Sampling(), prompt, {text[3]})
    assert len(decoder.verify(text, [0.0] * 6)) == first
    assert decoder.choose() is None and decoder.draw() is None
    with pytest.raises(AxionError, match="2 tokens need as many random numbers, not 1"):
        decoder.verify(text[:2], [0.0])


@pytest.mark.parametrize("ids", [[], [-1], [1024], [5, 10**9]])
def test_tokens_outside_the_vocabulary_are_refused(ids, release):
    decoder = NativeDecoder(release.model)
    with pytest.raises(AxionError, match="0 tokens" if not ids else f"no token {ids[-1]}"):
        decoder.read(ids)
    decoder.read([1])
    with pytest.raises(AxionError, match="no token 1024"):
        decoder.draw(forced=1024)


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


def test_weights_are_packed_once_and_again_after_a_change(make_model):
    model = make_model()
    ids = random_ids(model, 20)
    first, second = NativeDecoder(model), NativeDecoder(model)
    assert first._packed is second._packed
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.mul_(1.5)
        model.model.layers[0].mlp.gate.e_score_correction_bias.add_(torch.arange(4.0))
    changed = NativeDecoder(model)
    assert changed._packed is not first._packed
    changed.read(ids)
    assert_near(changed.logits(), reference(model, ids)[0][-1])
    assert NativeDecoder(model)._packed is changed._packed  # requesting router logits changed nothing


def test_weights_are_packed_again_for_a_changed_config(make_model, monkeypatch):
    """Other dimensions have another library and another layout; a longer context has more rotary angles."""
    monkeypatch.setattr(pack, "PackedWeights", lambda *_: object())
    model = make_model()
    first, other = (pack.packed_weights(model, library) for library in ("one", "another"))
    model.config.max_position_embeddings *= 2
    longer = pack.packed_weights(model, "one")
    assert len({first, other, longer}) == 3
    assert pack.packed_weights(model, "one") is longer


def test_packed_weights_are_freed_with_the_model(make_model):
    model = make_model()
    decoder = NativeDecoder(model)
    packed, kept = weakref.ref(decoder._packed), len(pack._cache)
    del model, decoder
    gc.collect()
    assert packed() is None and len(pack._cache) == kept - 1


@pytest.mark.parametrize(("kind", "near", "lost"), [("bf16", 0.08, 1e-3), ("int8", 0.15, 5e-3)])
def test_rounded_weights_are_close(kind, near, lost, release):
    ids = release.tokenizer(PROMPT * 8).input_ids[:256]
    expected_TV, _ = reference(release.model, ids)
    decoder = NativeDecoder(release.model, kind)
    decoder.read(ids[:1])
    divergences = []
    for token, expected_V in zip(ids[1:], expected_TV, strict=False):
        logits_V = decoder.logits()
        assert_near(logits_V, expected_V, near)
        log_p, log_q = expected_V.log_softmax(-1), logits_V.log_softmax(-1)
        divergences.append((log_p.exp() * (log_p - log_q)).sum().item())
        decoder.draw(forced=token)
    assert sum(divergences) / len(divergences) < lost
    decoder.rewind(0)
    decoder.read(ids)
    assert_near(decoder.logits(), expected_TV[-1], near)


@pytest.mark.parametrize("shape", ["odd widths, one head, dense first layer", "low rank, dense, looped"])
def test_int8_weights_are_scaled_for_each_output(shape, make_model):
    """A model whose matrices are already rounded that way, except for the router, loses nothing more."""
    model = make_model(**(SHAPES | DECODED_SHAPES)[shape], tie_word_embeddings=False).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.fill_(1)
            elif weight.dim() > 1 and "embed" not in name and "gate.weight" not in name:
                scale = weight.abs().amax(-1, keepdim=True) / 127
                weight.copy_((weight / scale).round() * scale)
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight.bfloat16())
    ids = random_ids(model, 60)
    decoder = NativeDecoder(model, "int8")
    decoder.read(ids[:-1])
    decoder.draw(forced=ids[-1])
    assert_near(decoder.logits(), reference(model, ids)[0][-1], 1e-4 if shape.startswith("low rank") else 0.1)


def test_multi_token_prediction_that_is_not_loaded_changes_nothing(make_model):
    model = make_model(**PREDICTS).eval()
    decoder, ids = NativeDecoder(model), random_ids(model, 20)
    decoder.read(ids)
    assert_near(decoder.logits(), reference(model, ids)[0][-1])
    with pytest.raises(AxionError, match="no layer of multi-token prediction"):
        decoder.guess(1)


def test_modified_models_use_pytorch(make_model):
    model = make_model()
    assert unsupported_reason(model) is None
    handle = model.model.layers[0].register_forward_hook(lambda *_: None)
    assert "layers.0" in unsupported_reason(model)
    handle.remove()
    assert unsupported_reason(model) is None
    layer = model.model.layers[1].self_attn
    layer.o_proj = torch.nn.Sequential(layer.o_proj)
    assert "o_proj" in unsupported_reason(model)
    with pytest.raises(Unavailable, match="unmodified models"):
        NativeDecoder(model)
    assert "float64 on cpu" in unsupported_reason(make_model().double())


def test_weights_in_a_tensor_subclass_are_left_to_pytorch(make_model):
    model = make_model()
    projection = model.model.layers[0].self_attn.kv_b_proj
    projection.weight = torch.nn.Parameter(Int8Weight(projection.weight.data), requires_grad=False)
    assert unsupported_reason(model) == (
        "the kernels read float32 parameters on the CPU, and model.layers.0.self_attn.kv_b_proj.weight is a Int8Weight"
    )
    assert pick_backend(model).name == "torch"


@pytest.mark.parametrize(
    ("arguments", "word"), [({"weights": "int4"}, "fp32, bf16, int8, not 'int4'"), ({"threads": 0}, "threads")]
)
def test_other_weights_and_threads_are_refused(arguments, word, release):
    with pytest.raises(AxionError, match=word):
        NativeDecoder(release.model, **arguments)


def test_attention_that_ignores_most_tokens_gives_the_models_logits(make_model):
    """Weights that would be denormal numbers, which are slow to multiply, are zero."""
    model = make_model().eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_b_proj.weight.mul_(300)
    ids, decoder = random_ids(model, 128), NativeDecoder(model)
    decoder.read(ids)
    assert_near(decoder.logits(), reference(model, ids)[0][-1], 1e-3)  # small errors of the scores grow too
