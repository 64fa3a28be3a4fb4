"""The value that says what is changed in a model: its texts, and which models it fits. Reading with it is in
tests/kernels/test_tampering.py."""

import numpy as np
import pytest

from axion.errors import AxionError
from axion.model.shape_axion import AxionShape
from axion.tampering import NAMES, NOTHING, Expert, Head, Tampering, read_tampering

V01 = AxionShape()
GROUPS = AxionShape(n_routed_experts=12, n_group=4, topk_group=2, num_experts_per_tok=4)
DENSE_FIRST = AxionShape(first_k_dense_replace=1)
DENSE = AxionShape(attention="gqa", num_key_value_heads=2, first_k_dense_replace=4)


def test_texts_lists_and_json_mean_the_same():
    wanted = Tampering(
        muted=(Expert(2, 4), Expert(3, 1)),
        forced=(Expert(1, 2),),
        top_experts=1,
        bias_off=True,
        biases=((Expert(2, 3), -0.1),),
        scales=((Expert(1, 2), 0.5),),
        muted_heads=(Head(1, 3),),
    )
    texts = {
        "mute": "L2.E4,L3.E1",
        "force": "L1.E2",
        "top_experts": "1",
        "bias": "off,L2.E3=-0.1",
        "scale": "L1.E2=0.5",
        "mute_head": "L1.H3",
    }
    assert read_tampering(texts) == wanted and wanted.to_texts() == texts and tuple(texts) == NAMES
    lists = texts | {"mute": ["l3.e1, L2.E4", "L2.E4"], "top_experts": 1, "bias": ["L2.E3=-.1", "OFF"]}
    assert read_tampering(lists) == wanted and hash(read_tampering(lists)) == hash(wanted)
    assert str(wanted).startswith("--mute L2.E4,L3.E1 --force L1.E2 --top-experts 1 --bias off,L2.E3=-0.1 ")
    assert not read_tampering({"mute": "", "bias": None, "scale": []}) and read_tampering({}) == NOTHING
    assert wanted and wanted.changes_experts and not Tampering(muted_heads=(Head(1, 1),)).changes_experts


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mute": "E4"}, "mute needs L2.E4, layer and expert, not E4"),
        ({"mute": "L2.H4"}, "mute needs L2.E4, layer and expert, not L2.H4"),
        ({"mute_head": "L2.E4"}, "mute_head needs L1.H3, layer and head, not L2.E4"),
        ({"force": 3}, "force must be a text such as L1.E2, not 3"),
        ({"top_experts": "two"}, "top_experts must be a whole number of at least 1, not two"),
        ({"top_experts": True}, "top_experts must be a whole number such as 1, not True"),
        ({"top_experts": -1}, "top_experts must be a whole number of at least 1, not -1"),
        ({"bias": "on"}, "bias needs off or L2.E4=0.1, not on"),
        ({"bias": "L1.E1=nan"}, "bias of L1.E1 must be a number from -10 to 10, not nan"),
        ({"scale": "L1.E1"}, "scale needs L1.E2=0.5, not L1.E1"),
        ({"scale": "L1.E1=-1"}, "scale of L1.E1 must be a number from 0 to 10, not -1"),
        ({"scale": "L1.E1=1,L1.E1=2"}, "scale of L1.E1 is given twice"),
        ({"mute": "L1.E1," * 1_000}, "mute is longer than 4,000 characters"),
        ({"silence": "L1.E1"}, "silence cannot be changed; what can is mute, force, top_experts, bias, scale and"),
        ("L1.E1", "must be an object with mute, force"),
    ],
)
def test_what_cannot_be_read_is_one_line(values, reason):
    with pytest.raises(AxionError) as error:
        read_tampering(values)
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "values", "reason"),
    [
        (V01, {"mute": "L5.E1"}, "layer 5 has no experts to change; layers with experts: 1, 2, 3, 4"),
        (DENSE_FIRST, {"scale": "L1.E1=0"}, "layer 1 has no experts to change; layers with experts: 2, 3, 4"),
        (V01, {"force": "L1.E5"}, "layer 1 has no expert E5; its experts are E1 to E4"),
        (V01, {"mute": "L1.E1,L1.E2,L1.E3"}, "layer 1 must keep at least 2 experts; mute fewer of them"),
        (V01, {"mute": "L1.E1,L1.E2,L1.E3,L1.E4", "top_experts": 1}, "layer 1 must keep at least 1 experts"),
        (V01, {"mute": "L1.E1", "force": "L1.E1"}, "L1.E1 cannot be muted and forced at the same time"),
        (V01, {"force": "L1.E1,L1.E2", "top_experts": 1}, "layer 1 chooses 1 experts for each token; force no more"),
        (V01, {"top_experts": 5}, "top_experts must be from 1 to 4"),
        (V01, {"top_experts": 0}, "top_experts must be from 1 to 4"),
        (V01, {"mute_head": "L1.H5"}, "layer 1 has no head H5; its heads are H1 to H4"),
        (V01, {"mute_head": "L5.H1"}, "layer 5 is not in the model; its layers are 1, 2, 3, 4"),
        (GROUPS, {"mute": "L1.E1,L1.E2"}, "layer 1 must keep at least 2 experts in each group; mute fewer"),
        (GROUPS, {"force": "L1.E1,L1.E4,L1.E7"}, "layer 1 chooses 2 of its 4 groups; force experts of no more"),
        (GROUPS, {"top_experts": 7}, "top_experts must be from 1 to 6"),
        *((DENSE, {name: text}, "the model has no experts to change") for name, text in
          {"mute": "L1.E1", "top_experts": "1", "bias": "off"}.items()),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_model_is_one_line(shape, values, reason):
    with pytest.raises(AxionError) as error:
        read_tampering(values).check(shape)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_what_fits_a_model_is_accepted():
    for shape, values in (
        (V01, {"mute": "L1.E1,L1.E2,L1.E3", "top_experts": 1, "mute_head": "L1.H1,L1.H2,L1.H3,L1.H4"}),
        (GROUPS, {"mute": "L1.E1", "force": "L1.E2,L1.E4", "top_experts": 6 - 2}),
        (DENSE, {"mute_head": "L4.H4"}),
    ):
        read_tampering(values).check(shape)


def test_a_bias_is_set_switched_off_or_overruled():
    own_E = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    changed = read_tampering({"mute": "L1.E1", "force": "L1.E2", "bias": "off,L1.E3=0.7,L2.E1=5"})
    np.testing.assert_allclose(changed.bias(1, own_E), [0, 0, 0.7, 0], rtol=1e-6)
    muted, forced, *rest = changed.choice_bias(1, own_E)
    assert muted < -1_000 and forced > 1_000 and rest == pytest.approx([0.7, 0])
    assert own_E.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert changed.without(Expert(1, 3)).muted == (Expert(1, 1), Expert(1, 3))
