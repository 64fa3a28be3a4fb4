"""The compiled decoder reads as the PyTorch model does: logits and routing, loops, rewinding, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from axion.errors import AxionError
from axion.inference.readers import pick_backend
from axion.inference.variants import with_loops
from axion.kernels.build import Unavailable
from axion.kernels.decoder import NativeDecoder
from axion.kernels.plain import unsupported_reason
from tests.kernels.conftest import ALL_SHAPES, DECODED_SHAPES, FACTORS, FAMILY_SHAPES, LOOPED_EXPERTS, SHAPES
from tests.kernels.decoding import assert_near, assert_routing, random_ids, reference
from tests.support.int8 import Int8Weight


@pytest.mark.parametrize("shape", [*SHAPES, LOOPED_EXPERTS, FACTORS, *DECODED_SHAPES])
def test_every_shape_gives_the_models_logits_and_routing(shape, make_model):
    model = make_model(**ALL_SHAPES[shape]).eval()
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


def test_loops_are_chosen_at_the_call_and_share_the_weights(make_model):
    model = make_model(**FAMILY_SHAPES[LOOPED_EXPERTS]).eval()
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


def test_attention_that_ignores_most_tokens_gives_the_models_logits(make_model):
    """Weights that would be denormal numbers, which are slow to multiply, are zero."""
    model = make_model().eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_b_proj.weight.mul_(300)
    ids, decoder = random_ids(model, 128), NativeDecoder(model)
    decoder.read(ids)
    assert_near(decoder.logits(), reference(model, ids)[0][-1], 1e-3)  # small errors of the scores grow too


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


@pytest.mark.parametrize("ids", [[], [-1], [1024], [5, 10**9]])
def test_tokens_outside_the_vocabulary_are_refused(ids, release):
    decoder = NativeDecoder(release.model)
    with pytest.raises(AxionError, match="0 tokens" if not ids else f"no token {ids[-1]}"):
        decoder.read(ids)
    decoder.read([1])
    with pytest.raises(AxionError, match="no token 1024"):
        decoder.draw(forced=1024)


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
