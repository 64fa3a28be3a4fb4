"""Weights laid out for the compiled decoder, packed once for a model and shared by its decoders.

What is computed in advance is said in csrc/decoding/pack.h, which does it; this names the tensors of each part.

Shape suffixes: T positions; D hidden, F an expert's width, x twice that.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from axion.kernels.build import Unavailable
from axion.kernels.rotary import rotary_angles
from axion.kernels.stored import StoredModel, named_weights, predicts

if TYPE_CHECKING:
    import torch

    from axion.kernels.stored import Decodable
    from axion.model.shape_axion import AxionShape


class PackedWeights:
    """A model's weights as the kernels read them, and its rotary angles.

    Args:
        library: the compiled decoder for the model's dimensions and the kind of weights, its functions declared.

    Raises:
        Unavailable: the model's weights do not have the shapes of its config.
        MemoryError: there is not enough memory for them.
    """

    def __init__(self, model: Decodable, library: ctypes.CDLL):
        self.address = library.axion_decoder_weights_new(predicts(model))
        if not self.address:
            raise MemoryError("not enough memory for the model's weights")
        weakref.finalize(self, library.axion_decoder_weights_free, self.address)
        self.cos_TP, self.sin_TP = rotary_angles(model.config)
        found = 0
        for part, tensors in enumerate(parts(model)):
            arrays = [np.ascontiguousarray(tensor, np.float32) for tensor in tensors]
            pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
            sizes = (ctypes.c_int64 * len(arrays))(*(array.size for array in arrays))
            found += library.axion_decoder_pack(self.address, part, pointers, sizes, len(arrays))
        if not found == part + 1 == library.axion_decoder_parts(self.address):
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


def parts(model: Decodable) -> Iterator[list[np.ndarray]]:
    """The tensors of each part of the weights as csrc/decoding/pack.h takes them: a few at a time, not copied."""
    config = model.config
    named, prediction = named_weights(model)
    weights = _Weights(named)
    yield [weights["model.embed_tokens.weight"]]
    for index in range(config.num_hidden_layers):
        yield from _layer_parts(weights.of(f"model.layers.{index}"), config)
    head = "lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"
    gate = ["model.loop_gate"] if config.num_shared_layers else []
    yield [weights[name] for name in (*gate, "model.norm.weight", head)]
    if prediction is not None:
        weights = weights.of(f"model.layers.{prediction}")
        yield [weights[name] for name in ("enorm.weight", "hnorm.weight", "eh_proj.weight", "shared_head.norm.weight")]
        yield from _layer_parts(weights, config)


class _Weights:
    """Weights by the rest of their name after a prefix."""

    def __init__(self, named: Mapping[str, np.ndarray], prefix: str = ""):
        self._named, self._prefix = named, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        return self._named[self._prefix + name]

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._named

    def of(self, part: str) -> _Weights:
        """Those of a part of the model."""
        return _Weights(self._named, f"{self._prefix}{part}.")

    def linear(self, name: str) -> list[np.ndarray]:
        """The weight of a linear layer, or its two factors of low rank."""
        names = [f"{name}.weight"] if f"{name}.weight" in self else [f"{name}.a.weight", f"{name}.b.weight"]
        return [self[each] for each in names]


def _layer_parts(weights: _Weights, config: AxionShape) -> Iterator[list[np.ndarray]]:
    attention = weights.of("self_attn")
    names = _attention_names(config)
    yield [weights["input_layernorm.weight"], *(tensor for name in names for tensor in attention.linear(name))]
    gain_D = weights["post_attention_layernorm.weight"]
    mlp = weights.of("mlp")
    if "gate.weight" not in mlp:
        yield [gain_D, *_mlp(mlp)]
        return
    yield [gain_D, mlp["gate.weight"], mlp["gate.e_score_correction_bias"]]
    yield [gain_D, *_mlp(mlp.of("shared_experts"))]
    for gate_up_xD, down_DF in zip(mlp["experts.gate_up_proj"], mlp["experts.down_proj"], strict=True):
        yield [gain_D, *np.split(gate_up_xD, 2), down_DF]


def _attention_names(config: AxionShape) -> list[str]:
    if config.attention == "gqa":
        return ["k_proj", "v_proj", "q_proj", "o_proj"]
    query = ["q_proj"] if config.q_lora_rank is None else ["q_a_proj", "q_a_layernorm", "q_b_proj"]
    return [*query, "kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj", "o_proj"]


def _mlp(mlp: _Weights) -> list[np.ndarray]:
    return [tensor for name in ("gate_proj", "up_proj", "down_proj") for tensor in mlp.linear(name)]
