"""Models with random weights that use every part of the kernels. Each shape is compiled, so there are few."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

from axion.kernels.build import Unavailable, compiler
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import Release, open_release
from tests.conftest import ROOT, TINY

YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
}
SHAPES = {
    "plain": {},
    "odd widths, one head, dense first layer": {
        "vocab_size": 301,
        "hidden_size": 40,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "qk_nope_head_dim": 7,
        "v_head_dim": 9,
        "kv_lora_rank": 5,
        "q_lora_rank": 11,
        "moe_intermediate_size": 21,
        "first_k_dense_replace": 1,
        "intermediate_size": 50,
    },
    "full queries, pairs in halves, untied, wide heads, dense throughout": {
        "q_lora_rank": None,
        "rope_interleave": False,
        "tie_word_embeddings": False,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "qk_nope_head_dim": 24,
        "qk_rope_head_dim": 10,
        "v_head_dim": 32,
        "first_k_dense_replace": 2,
    },
    "groups, raw scores, scaled, two shared experts, yarn": {
        "n_routed_experts": 12,
        "n_group": 4,
        "topk_group": 2,
        "num_experts_per_tok": 3,
        "norm_topk_prob": False,
        "routed_scaling_factor": 2.5,
        "n_shared_experts": 2,
        "rope_parameters": YARN,
    },
}
"""What a shape exercises → its changes to the tiny model's config."""
GROUPED = {"attention": "gqa", "num_attention_heads": 4, "num_key_value_heads": 2}
LOOPED_EXPERTS = "grouped queries, odd widths, untied, yarn, a dense layer, a looped one with experts"
FACTORS = "two looped layers, factors, one key"
FAMILY_SHAPES = {
    "grouped queries, dense, wider than a tile": {
        **GROUPED,
        "first_k_dense_replace": 2,
        "head_dim": 16,
        "hidden_size": 96,
        "intermediate_size": 112,
        "initializer_range": 0.1,
    },
    LOOPED_EXPERTS: {
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
    FACTORS: {
        **GROUPED,
        "num_key_value_heads": 1,
        "num_hidden_layers": 4,
        "first_k_dense_replace": 4,
        "num_shared_layers": 2,
        "num_loops": 3,
        "projection_rank": 5,
        "intermediate_size": 24,
        "initializer_range": 0.1,
    },
    "a looped layer with experts, multi-token prediction": {
        "num_hidden_layers": 3,
        "first_k_dense_replace": 1,
        "num_shared_layers": 1,
        "num_loops": 2,
        "num_nextn_predict_layers": 1,
    },
}
"""The same for the parts of other families."""
DECODED_SHAPES = {
    # applying the up-projections takes fewer products than absorbing them
    "wide latents": {"kv_lora_rank": 64, "q_lora_rank": 64},
    # and multiplying the factors with each other fewer than keeping them
    "low rank as full matrices, one key": {
        "attention": "gqa",
        "num_key_value_heads": 1,
        "first_k_dense_replace": 2,
        "projection_rank": 24,
        "dropout": 0.1,
    },
}
"""Shapes that differ in decoding alone."""
ALL_SHAPES = SHAPES | FAMILY_SHAPES | DECODED_SHAPES


@pytest.fixture(scope="session", autouse=True)
def _compiler() -> None:
    try:
        compiler()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def make_model(monkeypatch) -> Callable[..., AxionForCausalLM]:
    """Builds the tiny model with other shapes; norms and routing biases are random too.

    Kernels for other shapes are compiled with -O1, which takes less than half the time. Those for the tiny model itself
    are shared with all other tests.
    """

    def make(**changes) -> AxionForCausalLM:
        if changes and "AXION_KERNELS_FLAGS" not in os.environ:
            monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")
        torch.manual_seed(1)
        model = AxionForCausalLM(AxionConfig(**TINY | changes))
        with torch.no_grad():
            for name, weight in model.state_dict().items():
                if name.endswith("e_score_correction_bias"):
                    weight.uniform_(-0.1, 0.1)
                elif "norm" in name:
                    weight.uniform_(0.5, 1.5)
        return model

    return make


@pytest.fixture(scope="module")
def release() -> Release:
    """The bundled release."""
    return open_release(ROOT / "releases" / "axion1-v0.1")
