"""How llama.cpp's architecture `llama` stores a dense model with grouped-query attention.

Rotary pairs are adjacent there, and the halves of a head here, so the rows of queries and keys are reordered.

Source: llama.cpp's own converter (conversion/llama.py) and loader (src/models/llama.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import gguf
import torch

from axion.export.deepseek2 import MOST_LAYERS
from axion.export.rotary import pair_halves
from axion.export.rules import Rules, llama_rules
from axion.model.attention_axion import AxionRotaryEmbedding
from axion.model.configuration_axion import AxionConfig

ARCHITECTURE: str = "llama"
TENSORS: gguf.MODEL_ARCH = gguf.MODEL_ARCH.LLAMA


def rules(config: AxionConfig) -> Rules:
    """What holds of every configuration that the architecture can express."""
    layers, rope = config.num_hidden_layers, config.rope_parameters or {}
    return llama_rules(config) | {
        "num_hidden_layers": (layers <= MOST_LAYERS, f"must be at most {MOST_LAYERS}"),
        "rope_parameters": (
            rope.get("truncate", True) and (rope.get("factor", 2) > 1 or rope.get("attention_factor", 1) == 1),
            "must have truncate true, and a factor above 1 where there is an attention_factor",
        ),
    }


def add_shapes(writer: gguf.GGUFWriter, config: AxionConfig) -> None:
    """Writes what the loader reads of the model's shapes, except for what all architectures have."""
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_feed_forward_length(config.intermediate_size)
    rope = config.rope_parameters or {}
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "default":
        return
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast") or 32)
    writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow") or 1)
    # llama.cpp's own factor on cosines and sines is 1 + 0.1·ln factor
    relative = AxionRotaryEmbedding(config).attention_scaling / (1 + 0.1 * math.log(rope["factor"]))
    if not math.isclose(relative, 1):
        writer.add_rope_scaling_attn_factors(relative)


def parts(name: str, weight: torch.Tensor, config: AxionConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that llama.cpp needs for one of the model's weights, under Llama's names."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    yield name, weight if heads is None else pair_halves(weight.unflatten(0, (heads, -1))).flatten(0, 1)
