"""Which configs the kernels cover, and the reason given for one that they don't."""

from __future__ import annotations

import json

import pytest
from transformers import DeepseekV3Config, LlamaConfig

from axion.errors import AxionError
from axion.kernels.backend import choose
from axion.kernels.blocks import use_kernels
from axion.kernels.build import Unavailable
from axion.kernels.coverage import COVERED, LATENT_RULES, unsupported_reason
from axion.kernels.decoder import NativeDecoder
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import known_versions, load_recipe
from tests.conftest import ROOT, TINY
from tests.kernels.conftest import FAMILY_SHAPES, SHAPES

OUTSIDE = {
    "rope_parameters": [
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        {"rope_type": "default", "rope_theta": 1e4, "unheard_of": 1},
        None,
    ],
    "norm_topk_prob": [None, "yes"],
    "rope_interleave": [None, "yes"],
    "tie_word_embeddings": [None, "yes"],
    "hidden_act": ["gelu"],
    "attention_bias": [True],
    "attention_dropout": [1.0, None],
    "num_nextn_predict_layers": [2, None],
    "attention": ["mha", None],
    "projection_rank": [0, 1.5],
    "num_shared_layers": [-1, None],
    "n_shared_experts": [-1, None],
    "num_loops": [0, None],
    "dropout": [1.0, None],
    "routed_scaling_factor": [None, float("nan"), "1"],
    "rms_norm_eps": [None, float("inf")],
    "first_k_dense_replace": [-1, 0.5],
    "q_lora_rank": [0, 1.5],
    "output_hidden_states": [True],
    "_output_attentions": [True],
    "return_dict": [False],
}
"""Values that the kernels must refuse; for all other fields these are 0, -1, 1.5, True and None."""

both = pytest.mark.parametrize("use", COVERED)


@both
@pytest.mark.parametrize("shape", SHAPES | FAMILY_SHAPES)
def test_every_shape_that_is_compared_with_pytorch_is_covered(shape, use):
    assert unsupported_reason(AxionConfig(**TINY | (SHAPES | FAMILY_SHAPES)[shape]), use) is None


def test_without_a_shared_expert_training_alone_is_covered():
    config = AxionConfig(**TINY | {"n_shared_experts": 0})
    assert unsupported_reason(config, "training") is None
    assert unsupported_reason(config, "decoding") == "the kernels do not cover n_shared_experts=0"


@both
def test_a_release_is_covered(use):
    for config in ROOT.glob("releases/*/config.json"):
        assert unsupported_reason(AxionConfig.from_pretrained(config.parent), use) is None


@both
def test_a_field_that_no_class_declares_means_pytorch(use):
    config = AxionConfig(**TINY, logit_softcap=30)
    assert unsupported_reason(config, use) == "the kernels do not cover logit_softcap=30"
    assert str(choose("auto", config, use)) == "PyTorch: the kernels do not cover logit_softcap=30"
    with pytest.raises(AxionError, match=r"cannot be used: the kernels do not cover logit_softcap=30;"):
        choose("native", config, use)
    model = AxionForCausalLM(config)
    with pytest.raises(Unavailable, match="logit_softcap=30"):
        {"training": use_kernels, "decoding": NativeDecoder}[use](model)


@both
def test_a_field_that_a_subclass_declares_means_pytorch(use):
    class Capped(AxionConfig):
        logit_softcap: int = 30

    assert unsupported_reason(Capped(**TINY), use) == "the kernels do not cover logit_softcap=30"


@both
@pytest.mark.parametrize("recipe", sorted(known_versions()))
def test_every_recipe_is_covered(recipe, use):
    assert unsupported_reason(load_recipe(recipe).build_config(), use) is None


def test_only_training_drops_attention_weights_out():
    config = AxionConfig(**TINY, attention_dropout=0.1)
    assert unsupported_reason(config, "training") == "the kernels do not cover attention_dropout=0.1"
    assert unsupported_reason(config, "decoding") is None


@both
def test_layers_that_differ_mean_pytorch(use):
    config = AxionConfig(**TINY, per_layer_config={0: {"hidden_size": 16}})
    assert "heterogeneity" in (unsupported_reason(config, use) or "")


@pytest.mark.parametrize(
    ("use", "name"), [(use, name) for use, rules in COVERED.items() for name in rules | LATENT_RULES]
)
def test_each_field_out_of_range_is_named(name, use):
    for value in OUTSIDE.get(name, [0, -1, 1.5, True, None]):
        config = AxionConfig(**TINY)
        vars(config)[name] = value
        reason = unsupported_reason(config, use) or ""
        assert reason.startswith(f"the kernels do not cover {name.lstrip('_')}="), value
        assert "\n" not in reason


@both
@pytest.mark.parametrize("name", ["num_key_value_heads", "head_dim", "qk_head_dim"])
def test_sizes_that_follow_from_others(name, use):
    config = AxionConfig(**TINY)
    setattr(config, name, 1)
    assert unsupported_reason(config, use) == f"the kernels do not cover {name}=1"


@both
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"first_k_dense_replace": 9}, "first_k_dense_replace is 9; it must be between 0 and num_hidden_layers (2)"),
        ({"num_loops": 2}, "num_loops is 2; it must be 1 without num_shared_layers: there are no layers to loop"),
        ({"n_group": 3}, "n_group is 3; it must divide n_routed_experts (4)"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok is 5; it must be at most the 4 experts that"),
    ],
    ids=str,
)
def test_values_that_contradict_each_other_since_the_config_was_made(changes, reason, use):
    config = AxionConfig(**TINY)
    vars(config).update(changes)
    assert (unsupported_reason(config, use) or "").startswith(reason)
    with pytest.raises(AxionError, match=f"cannot be used: {next(iter(changes))} is "):
        choose("native", config, use)


@both
def test_other_architectures(use):
    assert unsupported_reason(LlamaConfig(), use) == "the kernels need attention, which the config lacks"
    assert unsupported_reason(DeepseekV3Config(), use) == "the kernels need attention, which the config lacks"


@both
def test_fields_that_do_not_affect_the_computation(tmp_path, use):
    """Token ids, names, dtype and implementations, also in the form of other transformers versions."""
    changes = {"bos_token_id": 7, "dtype": "bfloat16", "architectures": ["Other"], "initializer_range": 0.1}
    config = AxionConfig(**TINY | changes)
    config._attn_implementation = "eager"
    config.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    older = {"torch_dtype": "float32", "transformers_version": "5.4.0", "temperature": 0.5, "_commit_hash": "0"}
    (tmp_path / "config.json").write_text(json.dumps(stored | older | {"auto_map": {"AutoConfig": "a.b"}}))
    for each in (config, AxionConfig.from_pretrained(tmp_path)):
        assert unsupported_reason(each, use) is None
