"""A model that writes text through the compiled kernels: one call a token, which draws it, reads it and routes it.

Packing multiplies beforehand what can be: each norm's gain goes into the weights that read its output, and the
up-projections of the latents into the queries' and the output's weights. Activations and cache stay fp32.

Shape suffixes: T tokens, L mixture-of-experts layers, K experts per token, A alternatives, V vocabulary; weights are
`[in, out]`, in fp64 until they are packed: D hidden, H heads, R latent, N and P a head's dimensions without and with
rotary positions, Q what the queries' last weights read.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np
import torch
from torch import nn
from transformers.activations import ACT2FN

from axion.errors import AxionError
from axion.kernels.build import Unavailable, library
from axion.model.attention_axion import AxionAttention, AxionRMSNorm, AxionRotaryEmbedding, softmax_scale
from axion.model.configuration_axion import AxionConfig
from axion.model.mixture_axion import AxionExperts, AxionMLP, AxionMoE, AxionRouter
from axion.model.modeling_axion import AxionDecoderLayer, AxionForCausalLM, AxionModel

ALTERNATIVES = 5
"""How many of the likeliest next tokens a step names, at most."""

MOST_THREADS = 16

KNOWN = {
    *(AxionForCausalLM, AxionModel, AxionDecoderLayer, AxionAttention, AxionMLP, AxionMoE, AxionExperts, AxionRouter),
    *(AxionRMSNorm, AxionRotaryEmbedding, nn.ModuleList, nn.Linear, nn.Embedding, type(ACT2FN["silu"])),
}
"""What a model may be made of: a wrapped or changed part computes something that the kernels know nothing of."""

HARMLESS = {"transformers.utils.output_capturing", "axion.kernels.blocks"}
"""Modules whose hooks and methods may be in a model: transformers' stay once router logits were asked for, and record
only; the training kernels compute the same."""

_ALIGNMENT = 64


class NativeDecoder:
    """One text being read and written: its own cache, on weights that all decoders of the model share.

    Args:
        model: in fp32, on the CPU, and unchanged: no adapters, no hooks.
        weights: "fp32", or "bf16", half the memory and a little less exact; the routers stay fp32.
        threads: how many work on one token, 1 to 16.

    Raises:
        Unavailable: the kernels cannot be built here or don't cover this model.
        AxionError: another kind of weights, or number of threads.
    """

    def __init__(self, model: AxionForCausalLM, weights: str = "fp32", threads: int = 1):
        if weights not in {"fp32", "bf16"}:
            raise AxionError(f'weights must be "fp32" or "bf16", not {weights!r}')
        if not 1 <= threads <= MOST_THREADS:
            raise AxionError(f"threads must be 1 to {MOST_THREADS}, not {threads}")
        self.config = config = model.config
        self._packed = packed = _packed(model, weights)
        self._library = packed.library
        positions, chosen = config.max_position_embeddings, config.num_experts_per_tok
        routed = (positions, 2, len(config.mixture_layers), chosen)
        # written by the kernels at each position that is read: experts and displaced ones, gates and affinities
        self._experts_T2LK = np.empty(routed, np.int32)
        self._weights_T2LK = np.empty(routed, np.float32)
        self._probability = np.zeros(1 + 2 * packed.alternatives, np.float32)
        self._top_A = self._probability[1 : 1 + packed.alternatives].view(np.int32)
        self._probabilities_A = self._probability[1 + packed.alternatives :]
        self._state = self._library.axion_decoder_new(
            packed.address,
            weights == "bf16",
            threads,
            positions,
            packed.cos_TP.data_ptr(),
            packed.sin_TP.data_ptr(),
            self._experts_T2LK.ctypes.data,
            self._weights_T2LK.ctypes.data,
            self._probability.ctypes.data,
        )
        if not self._state:
            raise MemoryError("there is no memory for the cache")
        weakref.finalize(self, self._library.axion_decoder_free, self._state)
        self._step = self._library.axion_decoder_step
        self.length = 0
        """Tokens read so far."""
        self.set_sampling()

    def set_sampling(
        self,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        first_end: int = 0,
        ends: Sequence[int] = (),
    ) -> None:
        """How tokens are drawn from now on; the names of `axion.inference.stream.Sampling`.

        Args:
            first_end: the first position where a token that ends the text may stand.
            ends: those tokens, of which the model may lack some. To draw one ends the text.
        """
        ends = [token for token in ends if 0 <= token < self.config.vocab_size]
        self._ends = (ctypes.c_int32 * len(ends))(*ends)
        settings = _Sampling(
            temperature, top_p, min_p, repetition_penalty, top_k, first_end, len(ends), ctypes.addressof(self._ends)
        )
        self._library.axion_decoder_sampling(self._state, ctypes.byref(settings))

    def read(self, ids: Sequence[int]) -> None:
        """Reads tokens after what was read before.

        Raises:
            AxionError: there is no token, one that the model does not have, or no room in the context.
        """
        room = self.config.max_position_embeddings - self.length
        if not 0 < len(ids) <= room:
            raise AxionError(f"{len(ids)} tokens were to be read; from 1 to {room} fit into the context")
        tokens = np.asarray(ids, np.int32)
        if tokens.min() < 0 or tokens.max() >= self.config.vocab_size:
            wrong = next(token for token in ids if not 0 <= token < self.config.vocab_size)
            raise AxionError(f"there is no token {wrong}; the model's are 0 to {self.config.vocab_size - 1}")
        if not self._library.axion_decoder_read(self._state, tokens.ctypes.data, len(ids)):
            raise MemoryError("there is no memory to read a prompt")
        self.length += len(ids)

    def draw(self, uniform: float = 0.0, forced: int = -1) -> int | None:
        """Draws the next token and reads it.

        Args:
            uniform: a random number, at least 0 and below 1, that decides; without effect at temperature 0.
            forced: a token to take instead; −1 for none.

        Returns:
            The token; None when it ends the text, and then it was not read.

        Raises:
            AxionError: nothing was read yet, the context is full, or the model has no such token.
        """
        if not 0 < self.length < self.config.max_position_embeddings:
            raise AxionError("there is nothing to go on from" if self.length == 0 else "the context is full")
        if not -1 <= forced < self.config.vocab_size:
            raise AxionError(f"there is no token {forced}; the model's are 0 to {self.config.vocab_size - 1}")
        token = self._step(self._state, uniform, forced)
        if token < 0:
            return None
        self.length += 1
        return token

    def chances(self) -> tuple[float, list[int], list[float]]:
        """Of the last draw: the model's own probability of the token, the likeliest tokens and their probabilities."""
        return self._probability.item(0), self._top_A.tolist(), self._probabilities_A.tolist()

    def routing(self, position: int) -> dict[str, list]:
        """The routing of the token at a position that was read, as `axion.inference.routing.Explainer` describes it."""
        experts_LK, displaced_LK = self._experts_T2LK[position].tolist()
        gates_LK, affinities_LK = self._weights_T2LK[position].tolist()
        return {
            "experts": experts_LK,
            "gates": gates_LK,
            "affinities": affinities_LK,
            "displaced": [[expert for expert in displaced_K if expert >= 0] for displaced_K in displaced_LK],
        }

    def logits(self) -> torch.Tensor:
        """The logits [V] of the token after what was read."""
        logits_V = torch.empty(self.config.vocab_size)
        self._library.axion_decoder_logits(self._state, logits_V.data_ptr())
        return logits_V

    def reset(self) -> None:
        """Forgets what was read; the way of drawing stays."""
        self._library.axion_decoder_reset(self._state)
        self.length = 0


# --- Packed weights -----------------------------------------------------------------------------------------------


class _Sampling(ctypes.Structure):
    """csrc/decoding/sampling.h's struct of this name."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
        *((name, ctypes.c_int32) for name in ("top_k", "first_end", "end_count")),
        ("ends", ctypes.c_void_p),
    ]


class _Packed:
    """A model's weights as the kernels read them, and its rotary angles."""

    def __init__(self, model: AxionForCausalLM, weights: str):
        config = model.config
        self.library = _declared(library(config))
        self.alternatives = min(ALTERNATIVES, config.vocab_size)
        bf16 = weights == "bf16"
        size = self.library.axion_decoder_weights_size(bf16)
        self._buffer = np.empty(size + _ALIGNMENT, np.uint8)
        self.address = -(-self._buffer.ctypes.data // _ALIGNMENT) * _ALIGNMENT
        with torch.no_grad():
            dense = [matrix.float().contiguous() for matrix in dense_matrices(model)]
            position_ids = torch.arange(config.max_position_embeddings).unsqueeze(0)
            angles = model.model.rotary_emb(torch.empty(0, dtype=torch.float32), position_ids)
            self.cos_TP, self.sin_TP = (part[0, 0].float().contiguous() for part in angles)
        pointers = (ctypes.c_void_p * len(dense))(*(matrix.data_ptr() for matrix in dense))
        sizes = (ctypes.c_int64 * len(dense))(*(matrix.numel() for matrix in dense))
        if not self.library.axion_decoder_pack(self.address, bf16, pointers, sizes, len(dense)):
            raise Unavailable("the kernels cannot read this model's weights: their shapes are not those of its config")


_cache: weakref.WeakKeyDictionary[AxionForCausalLM, dict[str, tuple[tuple, _Packed]]] = weakref.WeakKeyDictionary()
_packing = Lock()


def _packed(model: AxionForCausalLM, weights: str) -> _Packed:
    """The model's packed weights: those of the last time, unless a weight was changed since."""
    if (reason := hindrance(model)) is not None:
        raise Unavailable(reason)
    with _packing:  # several threads may want the same model at once
        kept = _cache.setdefault(model, {})
        state = tuple((id(x), x.data_ptr(), -1 if x.is_inference() else x._version) for x in _tensors(model))
        if weights not in kept or kept[weights][0] != state:
            kept[weights] = state, _Packed(model, weights)
        return kept[weights][1]


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def hindrance(model: nn.Module) -> str | None:
    """Why the decoder cannot read this model: it is not in fp32 on the CPU, or was changed. None when it can."""
    for name, module in model.named_modules():
        changes = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        changes += [vars(module)["forward"]] if "forward" in vars(module) else []
        if type(module) not in KNOWN or any(getattr(change, "__module__", "") not in HARMLESS for change in changes):
            return f"the kernels know the plain model only, and its part {name or 'model'!r} was changed"
    for name, weight in model.named_parameters():
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            found = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device}"
            return f"the kernels read fp32 weights on the CPU, and {name} is {found}"
    return None


def dense_matrices(model: AxionForCausalLM) -> Iterator[torch.Tensor]:
    """The matrices [in, out] as `fill` takes them (decoder_weights.h), norms and up-projections multiplied in."""
    config, decoder = model.config, model.model
    yield decoder.embed_tokens.weight
    for layer in decoder.layers:
        gain_D = layer.input_layernorm.weight.double()
        yield from _attention_matrices(layer.self_attn, config, gain_D)
        gain_D = layer.post_attention_layernorm.weight.double()
        if isinstance(layer.mlp, AxionMLP):
            yield from _mlp_matrices(layer.mlp, gain_D)
            continue
        yield _folded(gain_D, layer.mlp.gate.weight)
        yield layer.mlp.gate.e_score_correction_bias
        yield from _mlp_matrices(layer.mlp.shared_experts, gain_D)
        experts = layer.mlp.experts
        for gate_up_xD, down_DF in zip(experts.gate_up_proj, experts.down_proj, strict=True):
            yield from (_folded(gain_D, part_FD) for part_FD in gate_up_xD.chunk(2))
            yield down_DF.T
    yield _folded(decoder.norm.weight.double(), model.lm_head.weight)


def _folded(gain: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A linear layer's weight [out, in] as [in, out], behind a norm with this gain [in]."""
    return gain.unsqueeze(-1) * weight.double().T


def _mlp_matrices(mlp: AxionMLP, gain_D: torch.Tensor) -> Iterator[torch.Tensor]:
    yield _folded(gain_D, mlp.gate_proj.weight)
    yield _folded(gain_D, mlp.up_proj.weight)
    yield mlp.down_proj.weight.T


def _attention_matrices(attention: AxionAttention, config: AxionConfig, gain_D: torch.Tensor) -> Iterator[torch.Tensor]:
    heads, latent, hidden = config.num_attention_heads, config.kv_lora_rank, config.hidden_size
    nope, value = config.qk_nope_head_dim, config.v_head_dim
    compress = _folded(gain_D, attention.kv_a_proj_with_mqa.weight)
    if config.q_lora_rank is None:
        query_Qx = _folded(gain_D, attention.q_proj.weight)
    else:
        compress = torch.cat([_folded(gain_D, attention.q_a_proj.weight), compress], dim=1)
        query_Qx = _folded(attention.q_a_layernorm.weight.double(), attention.q_b_proj.weight)
    # scores are multiplied by log2 e: the kernels make probabilities of them as powers of two
    query_QHx = query_Qx.unflatten(1, (heads, -1)) * (softmax_scale(config) * math.log2(math.e))

    expanded_RHx = _folded(attention.kv_a_layernorm.weight.double(), attention.kv_b_proj.weight).unflatten(
        1, (heads, -1)
    )
    key_up_RHN, value_up_RHv = expanded_RHx.split([nope, value], dim=-1)
    query_input = len(query_QHx)
    absorb_keys = query_input * latent <= query_input * nope + nope * latent
    absorb_values = latent * hidden <= latent * value + value * hidden
    if absorb_keys:
        nope_QHN, rope_QHP = query_QHx.split([nope, config.qk_rope_head_dim], dim=-1)
        query_QHx = torch.cat([torch.einsum("qhn,rhn->qhr", nope_QHN, key_up_RHN), rope_QHP], dim=-1)
    output_HvD = attention.o_proj.weight.double().T.unflatten(0, (heads, -1))
    yield compress
    yield query_QHx.flatten(1)
    if not absorb_keys:
        yield from key_up_RHN.permute(1, 2, 0)
    if absorb_values:
        output_HvD = torch.einsum("rhv,hvd->hrd", value_up_RHv, output_HvD)
    else:
        yield from value_up_RHv.permute(1, 0, 2)
    yield output_HvD.flatten(0, 1)


def _declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """The library with its functions' types, so that ctypes converts without asking."""
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    types = {
        "axion_decoder_weights_size": (ctypes.c_int64, [whole]),
        "axion_decoder_pack": (whole, [pointer, whole, pointer, pointer, whole]),
        "axion_decoder_new": (pointer, [pointer, whole, whole, whole, *[pointer] * 5]),
        "axion_decoder_free": (None, [pointer]),
        "axion_decoder_reset": (None, [pointer]),
        "axion_decoder_sampling": (None, [pointer, pointer]),
        "axion_decoder_read": (whole, [pointer, pointer, whole]),
        "axion_decoder_step": (whole, [pointer, ctypes.c_double, whole]),
        "axion_decoder_logits": (None, [pointer, pointer]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
