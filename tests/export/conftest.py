"""Releases with random weights in many shapes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import Release, open_release
from tests.conftest import TINY

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 32, "beta_slow": 1}
SHAPES = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "full queries": {"q_lora_rank": None},
    "dense first layer": {"first_k_dense_replace": 1, "intermediate_size": 48},
    "dense throughout": {"first_k_dense_replace": 2},
    "two groups": {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 3},
    "four groups": {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 2},
    "all groups eligible": {"n_routed_experts": 8, "n_group": 4, "topk_group": 4},
    "two shared experts": {"n_shared_experts": 2},
    "raw scores, scaled": {"norm_topk_prob": False, "routed_scaling_factor": 2.5},
    "pairs in halves": {"rope_interleave": False, "qk_rope_head_dim": 8},
    "pairs in halves, full queries": {"rope_interleave": False, "q_lora_rank": None, "qk_rope_head_dim": 8},
    "odd widths": {"hidden_size": 40, "qk_nope_head_dim": 7, "v_head_dim": 9, "kv_lora_rank": 5, "q_lora_rank": 11},
    "another base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "yarn": {"rope_parameters": YARN},
    "yarn, as DeepSeek": {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    "yarn, two mscales": {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.7}},
    "yarn, scores alone": {"rope_parameters": YARN | {"mscale_all_dim": 0.8, "attention_factor": 1.0}},
    "yarn, no factors": {"rope_parameters": YARN | {"attention_factor": 1.0}},
    "yarn, factor 1": {"rope_parameters": YARN | {"factor": 1.0}},
}
"""What a shape exercises → its changes to the tiny release's config."""


DENSE = {"attention": "gqa", "first_k_dense_replace": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
DENSE_SHAPES = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "one key": {"num_key_value_heads": 1},
    "a key per head, biases": {"num_key_value_heads": 4, "attention_bias": True},
    "heads of their own width": {"head_dim": 12, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "another epsilon": {"rms_norm_eps": 1e-5},
    "yarn": {"rope_parameters": YARN},
    "yarn, no factor on scores": {"rope_parameters": YARN | {"attention_factor": 1.0}},
}
"""The same for dense models with grouped-query attention, on top of DENSE."""


@pytest.fixture
def make_release(tiny_release: Path, tmp_path: Path) -> Callable[..., Release]:
    """Builds the tiny release with other shapes and new random weights, routing biases and norms included."""

    def make(**changes) -> Release:
        folder = tmp_path / "axion-shaped"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny_release, folder)
        torch.manual_seed(1)
        model = AxionForCausalLM(AxionConfig(**TINY | changes))
        if model.config.num_nextn_predict_layers:
            model.attach_mtp()
        with torch.no_grad():
            for name, weight in model.state_dict().items():
                if name.endswith("e_score_correction_bias"):
                    weight.uniform_(-0.2, 0.2)
                elif "norm" in name or name.endswith(".bias"):
                    weight.uniform_(0.5, 1.5)
        model.save_pretrained(folder)
        return open_release(folder)

    return make


@pytest.fixture(params=DENSE_SHAPES)
def dense_release(request: pytest.FixtureRequest, make_release: Callable[..., Release]) -> Release:
    """A release of each of `DENSE_SHAPES`."""
    return make_release(**DENSE | DENSE_SHAPES[request.param])


@pytest.fixture(params=SHAPES)
def shaped_release(request: pytest.FixtureRequest, make_release: Callable[..., Release]) -> Release:
    """A release of each of `SHAPES`."""
    return make_release(**SHAPES[request.param])
