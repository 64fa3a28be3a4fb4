"""A model's weights without PyTorch: the name and shape of each, and reading them from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import deserialize

if TYPE_CHECKING:
    from axion.model.shape_axion import AxionShape

Shapes = dict[str, tuple[int, ...]]
"""Name → shape, named as in model.safetensors."""

TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""safetensors' name of a type → how its values, or for bfloat16 its bits, are stored."""


ROUTING_BIAS = "e_score_correction_bias"
"""Ends the name of the biases that balance the experts: stored with the weights, but no parameters."""


def weight_shapes(config: AxionShape, prediction: bool = False) -> Shapes:
    """Every weight of an `AxionForCausalLM`, routing biases included. A tied output head is no weight of its own.

    Args:
        prediction: with the layer of multi-token prediction.
    """
    shapes = shapes_before_layers(config)
    for index in range(config.num_hidden_layers):
        shapes |= layer_shapes(config, index)
    shapes |= shapes_after_layers(config)
    return shapes | prediction_shapes(config) if prediction else shapes


def shapes_before_layers(config: AxionShape) -> Shapes:
    """The embeddings, and the gate of looped layers."""
    gate: Shapes = {"model.loop_gate": (1,)} if config.num_shared_layers else {}
    return gate | {"model.embed_tokens.weight": (config.vocab_size, config.hidden_size)}


def shapes_after_layers(config: AxionShape) -> Shapes:
    """The last norm, and an output head that is not tied to the embeddings."""
    head: Shapes = {} if config.tie_word_embeddings else {"lm_head.weight": (config.vocab_size, config.hidden_size)}
    return {"model.norm.weight": (config.hidden_size,)} | head


def layer_shapes(config: AxionShape, index: int) -> Shapes:
    """The weights of a layer of the decoder."""
    prefix, hidden = f"model.layers.{index}.", config.hidden_size
    attend = _latent_attention if config.attention == "mla" else _grouped_attention
    feed = _swiglu(config, config.intermediate_size) if index < config.first_k_dense_replace else _mixture(config)
    parts = {f"self_attn.{name}": shape for name, shape in attend(config).items()}
    parts |= {f"mlp.{name}": shape for name, shape in feed.items()}
    parts |= {f"{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
    return {prefix + name: shape for name, shape in parts.items()}


def prediction_shapes(config: AxionShape) -> Shapes:
    """The weights of the layer of multi-token prediction, which is stored behind the decoder's."""
    index, hidden = config.num_hidden_layers, config.hidden_size
    prefix = f"model.layers.{index}."
    norms = {f"{prefix}{name}.weight": (hidden,) for name in ("enorm", "hnorm", "shared_head.norm")}
    return layer_shapes(config, index) | norms | {f"{prefix}eh_proj.weight": (hidden, 2 * hidden)}


def _linear(config: AxionShape, name: str, outputs: int, inputs: int, bias: bool = False) -> Shapes:
    """A linear layer: one matrix, or two factors of low rank."""
    rank = config.projection_rank
    matrix: Shapes = {f"{name}.weight": (outputs, inputs)}
    if rank is not None:
        matrix = {f"{name}.a.weight": (rank, inputs), f"{name}.b.weight": (outputs, rank)}
    of_bias = f"{name}.bias" if rank is None else f"{name}.b.bias"
    return matrix | ({of_bias: (outputs,)} if bias else {})


def _latent_attention(config: AxionShape) -> Shapes:
    hidden, heads, latent, bias = (
        config.hidden_size,
        config.num_attention_heads,
        config.kv_lora_rank,
        config.attention_bias,
    )
    query, rank = heads * config.qk_head_dim, config.q_lora_rank
    shapes = _linear(config, "q_proj", query, hidden)
    if rank is not None:
        shapes = _linear(config, "q_a_proj", rank, hidden, bias) | _linear(config, "q_b_proj", query, rank)
        shapes["q_a_layernorm.weight"] = (rank,)
    return {
        **shapes,
        **_linear(config, "kv_a_proj_with_mqa", latent + config.qk_rope_head_dim, hidden, bias),
        "kv_a_layernorm.weight": (latent,),
        **_linear(config, "kv_b_proj", heads * (config.qk_nope_head_dim + config.v_head_dim), latent),
        **_linear(config, "o_proj", hidden, heads * config.v_head_dim, bias),
    }


def _grouped_attention(config: AxionShape) -> Shapes:
    hidden, bias = config.hidden_size, config.attention_bias
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    return {
        **_linear(config, "q_proj", queries, hidden, bias),
        **_linear(config, "k_proj", keys, hidden, bias),
        **_linear(config, "v_proj", keys, hidden, bias),
        **_linear(config, "o_proj", hidden, queries, bias),
    }


def _swiglu(config: AxionShape, width: int) -> Shapes:
    hidden = config.hidden_size
    up = _linear(config, "gate_proj", width, hidden) | _linear(config, "up_proj", width, hidden)
    return up | _linear(config, "down_proj", hidden, width)


def _mixture(config: AxionShape) -> Shapes:
    hidden, experts, width = config.hidden_size, config.n_routed_experts, config.moe_intermediate_size
    shared = _swiglu(config, width * config.n_shared_experts)
    return {
        "gate.weight": (experts, hidden),
        f"gate.{ROUTING_BIAS}": (experts,),
        "experts.gate_up_proj": (experts, 2 * width, hidden),
        "experts.down_proj": (experts, hidden, width),
        **{f"shared_experts.{name}": shape for name, shape in shared.items()},
    }


def read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]], passed_over: str) -> dict[str, np.ndarray] | None:
    """The weights of a safetensors file in fp32.

    Args:
        path: of the file.
        shapes: what it has to hold, and nothing else.
        passed_over: how the names of weights begin that it may also hold, which are not read.

    Returns:
        None where the file does not hold that, or has values that are not finite; `axion.release` says why.
    """
    weights = {}
    try:
        for name, stored in deserialize(path.read_bytes()):
            if name not in shapes:
                if name.startswith(passed_over):
                    continue
                return None
            values = np.frombuffer(stored["data"], TYPES[stored["dtype"]])
            if stored["dtype"] == "BF16":  # the upper half of an fp32 number
                values = (values.astype(np.uint32) << 16).view(np.float32)
            weights[name] = values.astype(np.float32, copy=False).reshape(stored["shape"])
    except Exception:  # whatever a damaged file leads to: safetensors raises its own
        return None
    fits = {name: weight.shape for name, weight in weights.items()} == dict(shapes)
    return weights if fits and all(np.isfinite(weight).all() for weight in weights.values()) else None
