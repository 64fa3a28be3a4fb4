"""Weights laid out for the compiled decoder, packed once for a model and shared by its decoders.

Packing multiplies in advance what does not depend on the input: each norm's gain goes into the weights that read its
output, except that of the head, and the latents' up-projections into the weights of the queries and of the output.
Factors of low rank are multiplied with each other where that saves operations.

Shape suffixes: T positions; weights are `[in, out]`, in fp64 until they are packed: D hidden, H heads, R latent, N and
P a head's dimensions without and with rotary positions, Q the input of the queries' last projection, v value.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Iterator
from threading import Lock
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from axion.kernels.build import Unavailable
from axion.kernels.dimensions import absorbs_keys, absorbs_values, kept_rank
from axion.model.attention_axion import AxionGroupedQueryAttention, AxionLatentAttention, AxionRMSNorm, softmax_scale
from axion.model.configuration_axion import AxionConfig
from axion.model.layer_axion import AxionDecoderLayer
from axion.model.mixture_axion import AxionMLP
from axion.model.modeling_axion import AxionForCausalLM
from axion.model.projection_axion import AxionLowRankLinear

LOG2_E = math.log2(math.e)
"""Part of the queries' scale, because the kernels turn scores into probabilities by powers of two."""

CACHE_LINE = 64
"""Alignment of the packed weights, in bytes."""


class PackedWeights:
    """A model's weights as the kernels read them, and its rotary angles.

    Args:
        library: the compiled decoder for the model's dimensions and the kind of weights, its functions declared.

    Raises:
        Unavailable: the model's weights do not have the shapes of its config.
    """

    def __init__(self, model: AxionForCausalLM, library: ctypes.CDLL):
        size = library.axion_decoder_weights_size()
        self._buffer = np.empty(size + CACHE_LINE, np.uint8)
        self.address = -(-self._buffer.ctypes.data // CACHE_LINE) * CACHE_LINE
        with torch.no_grad():
            dense = [matrix.float().contiguous() for matrix in dense_matrices(model)]
            position_ids = torch.arange(model.config.max_position_embeddings).unsqueeze(0)
            angles = model.model.rotary_emb(torch.empty(0, dtype=torch.float32), position_ids)
            self.cos_TP, self.sin_TP = (part[0, 0].float().contiguous() for part in angles)
        pointers = (ctypes.c_void_p * len(dense))(*(matrix.data_ptr() for matrix in dense))
        sizes = (ctypes.c_int64 * len(dense))(*(matrix.numel() for matrix in dense))
        if not library.axion_decoder_pack(self.address, pointers, sizes, len(dense)):
            raise Unavailable("the kernels cannot read this model's weights: their shapes are not those of its config")


_cache = WeakIdKeyDictionary()
"""Embeddings → what was packed with them. The variants of a model share them, and all other weights too."""
_lock = Lock()


def packed_weights(model: AxionForCausalLM, library: ctypes.CDLL) -> PackedWeights:
    """The model's packed weights, repacked if a weight has changed since the last call. Thread-safe.

    Args:
        library: as for `PackedWeights`. Each has its own, because the layout follows from the config as it is now.
    """
    with _lock:
        embeddings = model.model.embed_tokens.weight
        kept = cast(dict[tuple, tuple[tuple, PackedWeights, list]], _cache.setdefault(embeddings, {}))
        tensors = [*itertools.chain(model.parameters(), model.buffers())]
        state = tuple((id(x), x.data_ptr(), -1 if x.is_inference() else x._version) for x in tensors)
        form = library, model.config.max_position_embeddings, model.mtp is not None
        if form not in kept or kept[form][0] != state:
            # while they are held, no other tensor gets their ids; the key itself must stay weak
            held = [tensor for tensor in tensors if tensor is not embeddings]
            kept[form] = state, PackedWeights(model, library), held
        return kept[form][1]


def dense_matrices(model: AxionForCausalLM) -> Iterator[torch.Tensor]:
    """The matrices [in, out] as `fill` takes them (decoder_weights.h), norms and up-projections multiplied in."""
    config, decoder = model.config, model.model
    yield decoder.embed_tokens.weight
    for layer in list(decoder.layers)[: config.num_hidden_layers]:
        yield from _layer_matrices(cast(AxionDecoderLayer, layer), config)
    yield torch.ones(1) if decoder.loop_gate is None else decoder.loop_gate.sigmoid()
    yield decoder.norm.weight
    yield model.lm_head.weight.T
    if (prediction := model.mtp) is not None:
        gain_x = torch.cat([prediction.enorm.weight, prediction.hnorm.weight]).double()
        yield _folded(gain_x, prediction.eh_proj.weight)
        yield from _layer_matrices(prediction, config)
        yield cast(AxionRMSNorm, prediction.shared_head["norm"]).weight


def _layer_matrices(layer: AxionDecoderLayer, config: AxionConfig) -> Iterator[torch.Tensor]:
    gain_D = layer.input_layernorm.weight.double()
    if isinstance(layer.self_attn, AxionLatentAttention):
        yield from _latent_matrices(layer.self_attn, config, gain_D)
    else:
        yield from _grouped_matrices(cast(AxionGroupedQueryAttention, layer.self_attn), config, gain_D)
    gain_D = layer.post_attention_layernorm.weight.double()
    if isinstance(layer.mlp, AxionMLP):
        yield from _mlp_matrices(layer.mlp, config, gain_D)
        return
    yield _folded(gain_D, layer.mlp.gate.weight)
    yield layer.mlp.gate.e_score_correction_bias
    yield from _mlp_matrices(layer.mlp.shared_experts, config, gain_D)
    experts = layer.mlp.experts
    stacked = cast(torch.Tensor, experts.gate_up_proj), cast(torch.Tensor, experts.down_proj)
    for gate_up_xD, down_DF in zip(*stacked, strict=True):
        yield from (_folded(gain_D, part_FD) for part_FD in gate_up_xD.chunk(2))
        yield down_DF.T


def _folded(gain: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The weight [out, in] of a linear layer as [in, out], with the gain [in] of the norm before it multiplied in."""
    return gain.unsqueeze(-1) * weight.double().T


def _linear(
    layer: nn.Module, config: AxionConfig, gain: torch.Tensor | None = None, scale: float = 1.0
) -> list[torch.Tensor]:
    """A linear layer as `Linear` takes it (linear.h): one matrix, or two factors where the decoder keeps them."""
    if not isinstance(layer, AxionLowRankLinear):
        weight = cast(torch.Tensor, layer.weight)
        return [scale * (weight.double().T if gain is None else _folded(gain, weight))]
    [a] = _linear(layer.a, config, gain)
    [b] = _linear(layer.b, config, scale=scale)
    return [a, b] if kept_rank(config) else [a @ b]


def _mlp_matrices(mlp: AxionMLP, config: AxionConfig, gain_D: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from _linear(mlp.gate_proj, config, gain_D)
    yield from _linear(mlp.up_proj, config, gain_D)
    yield from _linear(mlp.down_proj, config)


def _grouped_matrices(
    attention: AxionGroupedQueryAttention, config: AxionConfig, gain_D: torch.Tensor
) -> Iterator[torch.Tensor]:
    key, value = _linear(attention.k_proj, config, gain_D), _linear(attention.v_proj, config, gain_D)
    yield torch.cat([key[0], value[0]], dim=1)
    if kept_rank(config):
        yield torch.block_diag(key[1], value[1])
    yield from _linear(attention.q_proj, config, gain_D, scale=attention.scaling * LOG2_E)
    yield from _linear(attention.o_proj, config)


def _latent_matrices(
    attention: AxionLatentAttention, config: AxionConfig, gain_D: torch.Tensor
) -> Iterator[torch.Tensor]:
    heads, nope, value = config.num_attention_heads, config.qk_nope_head_dim, config.v_head_dim
    compress = _folded(gain_D, attention.kv_a_proj_with_mqa.weight)
    if config.q_lora_rank is None:
        query_Qx = _folded(gain_D, attention.q_proj.weight)
    else:
        compress = torch.cat([_folded(gain_D, attention.q_a_proj.weight), compress], dim=1)
        query_Qx = _folded(attention.q_a_layernorm.weight.double(), attention.q_b_proj.weight)
    query_QHx = query_Qx.unflatten(1, (heads, -1)) * (softmax_scale(config) * LOG2_E)

    expanded_RHx = _folded(attention.kv_a_layernorm.weight.double(), attention.kv_b_proj.weight).unflatten(
        1, (heads, -1)
    )
    key_up_RHN, value_up_RHv = expanded_RHx.split([nope, value], dim=-1)
    if absorbs_keys(config):
        nope_QHN, rope_QHP = query_QHx.split([nope, config.qk_rope_head_dim], dim=-1)
        query_QHx = torch.cat([torch.einsum("qhn,rhn->qhr", nope_QHN, key_up_RHN), rope_QHP], dim=-1)
    output_HvD = attention.o_proj.weight.double().T.unflatten(0, (heads, -1))
    yield compress
    yield query_QHx.flatten(1)
    if not absorbs_keys(config):
        yield from key_up_RHN.permute(1, 2, 0)
    if absorbs_values(config):
        output_HvD = torch.einsum("rhv,hvd->hrd", value_up_RHv, output_HvD)
    else:
        yield from value_up_RHv.permute(1, 0, 2)
    yield output_HvD.flatten(0, 1)
