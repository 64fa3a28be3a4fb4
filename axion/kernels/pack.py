"""Weights laid out for the compiled decoder, packed once for a model and shared by its decoders.

Packing multiplies in advance what does not depend on the input: each norm's gain goes into the weights that read its
output, except that of the head, and the latents' up-projections into the weights of the queries and of the output.
Factors of low rank are multiplied with each other where that saves operations.

Shape suffixes: T positions; weights are `[in, out]`, in fp64 until they are packed: D hidden, H heads, R latent, N and
P a head's dimensions without and with rotary positions, Q the input of the queries' last projection, v value.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from axion.kernels.build import Unavailable
from axion.kernels.dimensions import absorbs_keys, absorbs_values, kept_rank
from axion.kernels.rotary import rotary_angles
from axion.kernels.stored import StoredModel, named_weights, predicts
from axion.model.shape_axion import AxionShape, softmax_scale

if TYPE_CHECKING:
    import torch

    from axion.kernels.stored import Decodable

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

    def __init__(self, model: Decodable, library: ctypes.CDLL):
        size = library.axion_decoder_weights_size()
        self._buffer = np.empty(size + CACHE_LINE, np.uint8)
        self.address = -(-self._buffer.ctypes.data // CACHE_LINE) * CACHE_LINE
        dense = [np.ascontiguousarray(matrix, np.float32) for matrix in dense_matrices(model)]
        self.cos_TP, self.sin_TP = rotary_angles(model.config)
        pointers = (ctypes.c_void_p * len(dense))(*(matrix.ctypes.data for matrix in dense))
        sizes = (ctypes.c_int64 * len(dense))(*(matrix.size for matrix in dense))
        if not library.axion_decoder_pack(self.address, pointers, sizes, len(dense)):
            raise Unavailable("the kernels cannot read this model's weights: their shapes are not those of its config")


_lock = Lock()


def packed_weights(model: Decodable, library: ctypes.CDLL) -> PackedWeights:
    """The model's packed weights, repacked if a weight has changed since the last call. Thread-safe.

    Args:
        library: as for `PackedWeights`. Each has its own, because the layout follows from the config as it is now.
    """
    with _lock:
        kept, tensors = _kept(model)
        state = tuple((id(x), x.data_ptr(), -1 if x.is_inference() else x._version) for x in tensors)
        form = library, model.config.max_position_embeddings, predicts(model)
        if form not in kept or kept[form][0] != state:
            # while they are held, no other tensor gets their ids; the first, which is the key itself, must stay weak
            kept[form] = state, PackedWeights(model, library), tensors[1:]
        return kept[form][1]


def _kept(model: Decodable) -> tuple[dict[tuple, tuple[tuple, PackedWeights, list]], list[torch.Tensor]]:
    """What was packed of a model's weights, which its variants share, and its tensors, the embeddings first.

    Those of a stored model do not change.
    """
    if isinstance(model, StoredModel):
        return model.packed, []
    embeddings = model.model.embed_tokens.weight
    others = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor is not embeddings]
    return _of_embeddings().setdefault(embeddings, {}), [embeddings, *others]


@cache
def _of_embeddings() -> MutableMapping[Any, dict]:
    """PyTorch's embeddings → what was packed with them."""
    from torch.utils.weak import WeakIdKeyDictionary

    return WeakIdKeyDictionary()


def dense_matrices(model: Decodable) -> Iterator[np.ndarray]:
    """The matrices [in, out] as `fill` takes them (decoder_weights.h), norms and up-projections multiplied in."""
    config = model.config
    named, prediction = named_weights(model)
    weights = _Weights(named)
    embedding_VD = weights["model.embed_tokens.weight"]
    yield embedding_VD
    for index in range(config.num_hidden_layers):
        yield from _layer_matrices(weights.of(f"model.layers.{index}"), config)
    gate = named.get("model.loop_gate")
    yield np.ones(1) if gate is None else 1 / (1 + np.exp(-gate.astype(np.float64)))
    yield weights["model.norm.weight"]
    yield named.get("lm_head.weight", embedding_VD).T
    if prediction is not None:
        weights = weights.of(f"model.layers.{prediction}")
        gain_x = np.concatenate([weights.fp64("enorm.weight"), weights.fp64("hnorm.weight")])
        yield _folded(gain_x, weights["eh_proj.weight"])
        yield from _layer_matrices(weights, config)
        yield weights["shared_head.norm.weight"]


class _Weights:
    """Weights by the rest of their name after a prefix."""

    def __init__(self, named: Mapping[str, np.ndarray], prefix: str = ""):
        self._named, self._prefix = named, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        return self._named[self._prefix + name]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._named

    def fp64(self, name: str) -> np.ndarray:
        return self[name].astype(np.float64)

    def of(self, part: str) -> _Weights:
        """Those of a part of the model."""
        return _Weights(self._named, f"{self._prefix}{part}.")


def _layer_matrices(weights: _Weights, config: AxionShape) -> Iterator[np.ndarray]:
    gain_D = weights.fp64("input_layernorm.weight")
    matrices = _latent_matrices if config.attention == "mla" else _grouped_matrices
    yield from matrices(weights.of("self_attn"), config, gain_D)
    gain_D = weights.fp64("post_attention_layernorm.weight")
    mlp = weights.of("mlp")
    if "gate.weight" not in mlp:
        yield from _mlp_matrices(mlp, config, gain_D)
        return
    yield _folded(gain_D, mlp["gate.weight"])
    yield mlp["gate.e_score_correction_bias"]
    yield from _mlp_matrices(mlp.of("shared_experts"), config, gain_D)
    for gate_up_xD, down_DF in zip(mlp["experts.gate_up_proj"], mlp["experts.down_proj"], strict=True):
        yield from (_folded(gain_D, part_FD) for part_FD in np.split(gate_up_xD, 2))
        yield down_DF.T


def _folded(gain: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weight [out, in] of a linear layer as [in, out], with the gain [in] of the norm before it multiplied in."""
    return gain[:, None] * weight.T


def _linear(
    weights: _Weights, config: AxionShape, gain: np.ndarray | None = None, scale: float = 1.0
) -> list[np.ndarray]:
    """A linear layer as `Linear` takes it (linear.h): one matrix, or two factors where the decoder keeps them."""
    if "weight" in weights:
        return [scale * (weights.fp64("weight").T if gain is None else _folded(gain, weights["weight"]))]
    [a] = _linear(weights.of("a"), config, gain)
    [b] = _linear(weights.of("b"), config, scale=scale)
    return [a, b] if kept_rank(config) else [a @ b]


def _mlp_matrices(mlp: _Weights, config: AxionShape, gain_D: np.ndarray) -> Iterator[np.ndarray]:
    yield from _linear(mlp.of("gate_proj"), config, gain_D)
    yield from _linear(mlp.of("up_proj"), config, gain_D)
    yield from _linear(mlp.of("down_proj"), config)


def _grouped_matrices(attention: _Weights, config: AxionShape, gain_D: np.ndarray) -> Iterator[np.ndarray]:
    key, value = (_linear(attention.of(name), config, gain_D) for name in ("k_proj", "v_proj"))
    yield np.concatenate([key[0], value[0]], axis=1)
    if kept_rank(config):
        yield _block_diagonal(key[1], value[1])
    yield from _linear(attention.of("q_proj"), config, gain_D, scale=config.head_dim**-0.5 * LOG2_E)
    yield from _linear(attention.of("o_proj"), config)


def _block_diagonal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    above, below = np.zeros((len(first), second.shape[1])), np.zeros((len(second), first.shape[1]))
    return np.block([[first, above], [below, second]])


def _latent_matrices(attention: _Weights, config: AxionShape, gain_D: np.ndarray) -> Iterator[np.ndarray]:
    heads, nope = config.num_attention_heads, config.qk_nope_head_dim
    compress = _folded(gain_D, attention["kv_a_proj_with_mqa.weight"])
    if config.q_lora_rank is None:
        query_Qx = _folded(gain_D, attention["q_proj.weight"])
    else:
        compress = np.concatenate([_folded(gain_D, attention["q_a_proj.weight"]), compress], axis=1)
        query_Qx = _folded(attention.fp64("q_a_layernorm.weight"), attention["q_b_proj.weight"])
    query_HQx = _by_head(query_Qx, heads) * (softmax_scale(config) * LOG2_E)
    expanded_Rx = _folded(attention.fp64("kv_a_layernorm.weight"), attention["kv_b_proj.weight"])
    key_up_HRN, value_up_HRv = np.split(_by_head(expanded_Rx, heads), [nope], axis=-1)
    if absorbs_keys(config):
        nope_HQN, rope_HQP = np.split(query_HQx, [nope], axis=-1)
        query_HQx = np.concatenate([nope_HQN @ key_up_HRN.swapaxes(1, 2), rope_HQP], axis=-1)
    output_HvD = attention.fp64("o_proj.weight").T.reshape(heads, config.v_head_dim, -1)
    yield compress
    yield query_HQx.swapaxes(0, 1).reshape(len(query_Qx), -1)
    if not absorbs_keys(config):
        yield from key_up_HRN.swapaxes(1, 2)
    if absorbs_values(config):
        output_HvD = value_up_HRv @ output_HvD
    else:
        yield from value_up_HRv
    yield output_HvD.reshape(-1, config.hidden_size)


def _by_head(weight: np.ndarray, heads: int) -> np.ndarray:
    """A matrix [in, out] whose outputs belong to heads, as [H, in, out / H]."""
    return weight.reshape(len(weight), heads, -1).swapaxes(0, 1)
