"""The decoder's packed weights: when they are packed, and how close bf16 and int8 are."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from axion.kernels import pack
from axion.kernels.decoder import NativeDecoder
from axion.model.attention_axion import AxionAttention, AxionGroupedQueryAttention
from tests.kernels.conftest import ALL_SHAPES, FACTORS
from tests.kernels.decoding import PROMPT, assert_near, random_ids, reference


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
    packed, kept = weakref.ref(decoder._packed), len(pack._of_embeddings())
    del model, decoder
    gc.collect()
    assert packed() is None and len(pack._of_embeddings()) == kept - 1


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


@pytest.mark.parametrize("shape", ["odd widths, one head, dense first layer", FACTORS])
def test_int8_weights_are_scaled_for_each_output(shape, make_model, monkeypatch):
    """A model whose matrices are already rounded that way, except for the router, loses nothing more.

    But for grouped queries' keys and values, which are rounded to bf16 in the cache.
    """

    def attend(attention, query, *key_and_value, **rest):
        rounded = (each.bfloat16().float() for each in key_and_value[:2])
        return AxionAttention._attend(attention, query, *rounded, *key_and_value[2:], **rest)

    monkeypatch.setattr(AxionGroupedQueryAttention, "_attend", attend)
    model = make_model(**ALL_SHAPES[shape], tie_word_embeddings=False).eval()
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
    assert_near(decoder.logits(), reference(model, ids)[0][-1], 2e-3 if shape == FACTORS else 0.1)
