"""How llama.cpp's architecture `deepseek2` stores a model with latent attention.

It stores latent attention in absorbed form: the up-projection of the latents becomes two tensors per layer, W_uk
transposed and W_uv. Experts are stacked, with gate and up separate. Rotary pairs are adjacent.

A layer of multi-token prediction is left out: this architecture of llama.cpp has no tensors for it, and its own
converter drops it too.

Source: llama.cpp's own converter (conversion/deepseek.py) and loader (src/models/deepseek2.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import gguf
import torch

from axion.export.rotary import pair_halves
from axion.export.rules import ONE_PASS, Rules
from axion.model.attention_axion import AxionRotaryEmbedding
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import LATENT_NORM_EPS, softmax_scale

ARCHITECTURE: str = "deepseek2"
TENSORS: gguf.MODEL_ARCH = gguf.MODEL_ARCH.DEEPSEEK2

LITE_LAYERS = (26, 27)
"""llama.cpp takes a model with this many layers for DeepSeek-V2-Lite, whose queries have no low-rank path."""

MOST_LAYERS, MOST_EXPERTS = 512, 1024
"""llama.cpp's own limits (LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS)."""


def rules(config: AxionConfig) -> Rules:
    """What holds of every configuration that the architecture can express."""
    layers, rope = config.num_hidden_layers, config.rope_parameters or {}
    return {
        "num_shared_layers": (not config.num_shared_layers, ONE_PASS),
        "attention_bias": (not config.attention_bias, "must be false: deepseek2 has no attention biases"),
        "rms_norm_eps": (
            config.rms_norm_eps == LATENT_NORM_EPS,
            f"must be {LATENT_NORM_EPS}: deepseek2 has one epsilon for all norms, and that of the latents is fixed",
        ),
        "routed_scaling_factor": (config.routed_scaling_factor != 0, "must not be 0: llama.cpp reads 0 as 1"),
        "num_hidden_layers": (
            layers <= MOST_LAYERS and not (layers in LITE_LAYERS and config.q_lora_rank),
            f"must be at most {MOST_LAYERS}, and with a q_lora_rank not {' or '.join(map(str, LITE_LAYERS))}: "
            "llama.cpp takes models with this many layers for DeepSeek-V2-Lite",
        ),
        "n_routed_experts": (config.n_routed_experts <= MOST_EXPERTS, f"must be at most {MOST_EXPERTS}"),
        "n_shared_experts": (config.n_shared_experts > 0, "must be at least 1"),
        "rope_parameters": (
            rope.get("truncate", True) and (rope.get("factor", 2) > 1 or rope.get("attention_factor", 1) == 1),
            "must have truncate true, and a factor above 1 where there is an attention_factor",
        ),
    }


def add_shapes(writer: gguf.GGUFWriter, config: AxionConfig) -> None:
    """Writes what the loader reads of the model's shapes, except for what all architectures have."""
    # absorbed: one key-value head, whose key is latent and rotary key, and whose value is the latent
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1)
    writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_q_lora_rank(config.q_lora_rank or 0)
    writer.add_kv_lora_rank(config.kv_lora_rank)

    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    if config.topk_group < config.n_group:  # llama.cpp accepts groups only where not all are eligible
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
    _add_rotary(writer, config)


def _add_rotary(writer: gguf.GGUFWriter, config: AxionConfig) -> None:
    """Rotary positions. With YaRN, llama.cpp derives two factors in another way, and they must equal ours.

    Ours: cosines and sines times A (transformers' `attention_factor`), scores times S (`softmax_scale`). llama.cpp's:
    cosines and sines times a = attn_factor, scores times (a·(1 + 0.1·m·ln factor))², with m from its yarn_log_mul;
    where m is 0, attn_factor is relative to 1 + 0.1·ln factor instead of 1. DeepSeek's own settings, with mscale equal
    to mscale_all_dim, give A = 1 and m = mscale_all_dim.
    """
    rope = config.rope_parameters or {}
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "default":
        return
    factor, original_length = rope["factor"], rope["original_max_position_embeddings"]
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    writer.add_rope_scaling_orig_ctx_len(original_length)
    writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast") or 32)
    writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow") or 1)
    if factor == 1:
        return
    on_rotation = AxionRotaryEmbedding(config).attention_scaling
    on_scores = math.sqrt(softmax_scale(config) * math.sqrt(config.qk_head_dim))
    multiplier = (on_scores / on_rotation - 1) / (0.1 * math.log(factor))
    if abs(multiplier) < 1e-9:
        on_rotation /= 1 + 0.1 * math.log(factor)
    else:
        writer.add_rope_scaling_yarn_log_mul(0.1 * multiplier)
    if on_rotation != 1:
        writer.add_rope_scaling_attn_factors(on_rotation)


def parts(name: str, weight: torch.Tensor, config: AxionConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that llama.cpp needs for one of the model's weights, under DeepSeek's names."""
    before, _, last = name.removesuffix(".weight").rpartition(".")
    if last == "gate_up_proj":
        gate, up = weight.chunk(2, dim=1)
        yield f"{before}.gate_proj.weight", gate
        yield f"{before}.up_proj.weight", up
    elif before.endswith("mlp.experts"):
        yield f"{name}.weight", weight
    elif last == "e_score_correction_bias":
        yield f"{before}.e_score_correction.bias", weight
    elif last == "kv_b_proj":
        weight_HxR = weight.unflatten(0, (config.num_attention_heads, -1))
        key_up, value_up = weight_HxR.split([config.qk_nope_head_dim, config.v_head_dim], dim=1)
        yield f"{before}.k_b_proj.weight", key_up.transpose(1, 2)
        yield f"{before}.v_b_proj.weight", value_up
    elif last in ("q_proj", "q_b_proj"):
        rows = weight.unflatten(0, (config.num_attention_heads, -1))
        yield name, _pair_rows(rows, config).flatten(0, 1)
    elif last == "kv_a_proj_with_mqa":
        yield name, _pair_rows(weight.unsqueeze(0), config).squeeze(0)
    else:
        yield name, weight


def _pair_rows(rows_HxD: torch.Tensor, config: AxionConfig) -> torch.Tensor:
    """Reorders the rotary rows, which are the last of each head, so that the two rows of a pair are adjacent."""
    if config.rope_interleave:
        return rows_HxD
    plain, rotary = rows_HxD.split([rows_HxD.shape[1] - config.qk_rope_head_dim, config.qk_rope_head_dim], dim=1)
    return torch.cat([plain, pair_halves(rotary)], dim=1)
