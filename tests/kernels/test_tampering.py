"""Changes to experts and attention heads: the compiled decoder and PyTorch compute the same."""

from __future__ import annotations

import pytest

from axion.inference.sampling import Sampling
from axion.inference.torch_reader import TorchReader
from axion.inference.variants import with_loops, with_tampering
from axion.kernels.decoder import NativeDecoder, draw_several
from axion.kernels.pack import PackedWeights
from axion.tampering import read_tampering
from tests.kernels.conftest import ALL_SHAPES, LOOPED_EXPERTS
from tests.kernels.decoding import assert_near, assert_routing, random_ids, reference

GROUPS = "groups, raw scores, scaled, two shared experts, yarn"
CHANGES = {
    "plain": [
        {"mute": "L2.E4"},
        {"force": "L1.E2"},
        {"top_experts": 1},
        {"top_experts": 4},
        {"bias": "off"},
        {"bias": "L1.E2=0.3,L2.E1=-0.4"},
        {"scale": "L1.E2=0.5,L2.E3=0,L2.E1=2"},
        {"mute_head": "L1.H2"},
        {
            "mute": "L2.E4",
            "force": "L1.E2,L1.E3",
            "top_experts": 3,
            "bias": "off,L2.E3=0.2",
            "scale": "L1.E2=0.5",
            "mute_head": "L1.H1,L2.H2",
        },
    ],
    GROUPS: [{"force": "L1.E4,L2.E12", "mute": "L1.E1", "top_experts": 4, "scale": "L2.E12=3", "mute_head": "L2.H1"}],
    LOOPED_EXPERTS: [{"mute": "L2.E1", "top_experts": 1, "bias": "off", "mute_head": "L2.H5,L3.H1"}],
    "grouped queries, dense, wider than a tile": [{"mute_head": "L1.H1,L1.H2,L2.H4"}],
}
CASES = [(shape, change) for shape, changes in CHANGES.items() for change in changes]


@pytest.mark.parametrize(("shape", "change"), CASES, ids=[str(read_tampering(change)) for _, change in CASES])
def test_the_kernels_and_pytorch_are_changed_alike(shape, change, make_model):
    model = make_model(**ALL_SHAPES[shape]).eval()
    variant = with_tampering(model, read_tampering(change))
    ids = random_ids(model, 60)
    logits_TV, routing = reference(variant, ids)
    assert (logits_TV - reference(model, ids)[0]).abs().max() > 1e-3

    decoder = NativeDecoder(variant)
    decoder.read(ids[:30])  # several tokens at once
    assert_near(decoder.logits(), logits_TV[29])
    for token in ids[30:50]:
        decoder.draw(forced=token)
    assert_near(decoder.logits(), logits_TV[49])
    decoder.rewind(20)
    decoder.read(ids[20:])
    assert_near(decoder.logits(), logits_TV[59])
    assert_routing(decoder, routing)

    reader = TorchReader(variant, Sampling(), 30, set())
    reader.read(ids[:30])
    for token in ids[30:33]:  # one token at a time is another path through latent attention
        reader.draw(token)
    assert_near(reader._find_next_logits(), logits_TV[32])

    # beside other texts, changed and not, with two threads
    several = [NativeDecoder(one, threads=2) for one in (variant, model, variant)]
    for length, one in zip((30, 20, 10), several, strict=True):
        one.read(ids[:length])
    alone = NativeDecoder(variant)
    alone.read(ids[:10])
    for _ in range(3):
        assert draw_several(several)[2] == alone.draw()
    assert_near(several[2].logits(), alone.logits())


def test_the_packed_weights_are_shared(release, monkeypatch):
    model = release.model
    NativeDecoder(model)

    def refuse(*_):
        raise AssertionError("packed again")

    monkeypatch.setattr(PackedWeights, "__init__", refuse)
    for number in (1, 2):
        NativeDecoder(with_tampering(model, read_tampering({"mute": f"L2.E{number}"})))


def test_a_draft_is_kept_as_far_as_the_changed_model_would_have_drawn_it(make_model):
    model = make_model(**ALL_SHAPES["a looped layer with experts, multi-token prediction"]).eval()
    model.attach_mtp()
    variant = with_loops(with_tampering(model, read_tampering({"mute": "L2.E2", "top_experts": 1})), 3)
    ids = random_ids(model, 20)
    alone, drafting = NativeDecoder(variant), NativeDecoder(variant)
    for decoder in (alone, drafting):
        decoder.read(ids)
    drawn = [alone.draw() for _ in range(4)]
    drafting.guess(drawn[0])
    assert len(drafting.verify([*drawn[:3], drawn[3] - 1], [0.0] * 4)) == 3
    logits_TV, routing = reference(variant, [*ids, *drawn[:3]])
    assert_near(drafting.logits(), logits_TV[-1])
    assert_routing(drafting, routing)
