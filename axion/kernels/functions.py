"""The blocks of a training pass as autograd functions, each a call into C++ forwards and one backwards.

Shape suffixes as in blocks.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch


def call(function: Callable[..., int], *arguments: object) -> None:
    """Calls a C++ function that may need memory of its own.

    Raises:
        MemoryError: there was not enough. The results are incomplete.
    """
    if not function(*arguments):
        raise MemoryError("not enough memory for the kernels; a smaller batch_size or a shorter window needs less")


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's data; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _pointers(tensors: Sequence[torch.Tensor | None]) -> ctypes.Array:
    """A C struct of the addresses of tensors."""
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))


def _empty_like(parameters: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    return [None if parameter is None else torch.empty_like(parameter) for parameter in parameters]


class Dropout(ctypes.Structure):
    """csrc/training/dropout.h's struct of this name: the keys of one place in one pass, and the rate."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("first", "second", "threshold")),
        ("scale", ctypes.c_float),
    )

    @classmethod
    def of(cls, seed: int, place: int, rate: float) -> Dropout:
        """The keys of the place with that number in the pass of that seed, a mix of both (splitmix64)."""
        mixed = (seed + (place + 1) * 0x9E3779B97F4A7C15) % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            mixed = (mixed ^ (mixed >> shift)) * factor % 2**64
        threshold = min(round(rate * 2**32), 2**32 - 1)  # 2^32 itself would be stored as 0
        return cls(mixed % 2**32, mixed >> 32, threshold, 1 / (1 - rate))


def _reference(dropout: Dropout | None):
    """A pointer to the keys; null without dropout."""
    return None if dropout is None else ctypes.byref(dropout)


class _Batch(ctypes.Structure):
    """csrc/training/attention_block.h's struct of this name."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("count", "tokens")),
        *((name, ctypes.c_void_p) for name in ("cos", "sin", "starts", "hidden", "heads", "sums", "dropout")),
    )

    @classmethod
    def of(cls, dropout: Dropout | None, hidden_BSD: torch.Tensor, *tensors: torch.Tensor | None) -> _Batch:
        cos_Sp, sin_Sp, starts_BS, heads, sums_BHS = tensors
        addresses = (_address(tensor) for tensor in (cos_Sp, sin_Sp, starts_BS, hidden_BSD, heads, sums_BHS))
        return cls(*hidden_BSD.shape[:2], *addresses, ctypes.addressof(dropout) if dropout else None)


class EmbeddingDropout(torch.autograd.Function):
    """Dropout of the embeddings: csrc/training/dropout.cpp."""

    @staticmethod
    def forward(ctx, kernels, dropout, hidden_BSD):
        ctx.kernels, ctx.dropout = kernels, dropout
        return _dropped(kernels, dropout, hidden_BSD)

    @staticmethod
    def backward(ctx, dresult_BSD):
        return None, None, _dropped(ctx.kernels, ctx.dropout, dresult_BSD)


def _dropped(kernels: ctypes.CDLL, dropout: Dropout, hidden_BSD: torch.Tensor) -> torch.Tensor:
    hidden_BSD = hidden_BSD.contiguous()
    result_BSD = torch.empty_like(hidden_BSD)
    tensors = (_address(hidden_BSD), _address(result_BSD))
    kernels.axion_dropout(ctypes.byref(dropout), hidden_BSD.shape[:2].numel(), *tensors, torch.get_num_threads())
    return result_BSD


class AttentionBlock(torch.autograd.Function):
    """x + dropout(attention(norm(x))): csrc/training/attention_block.h."""

    @staticmethod
    def forward(ctx, kernels, dropout, cos_Sp, sin_Sp, starts_BS, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        batch, positions, _ = hidden_BSD.shape
        heads = hidden_BSD.new_empty(batch, positions, kernels.axion_heads_row())
        sums_BHS = hidden_BSD.new_empty(batch, kernels.axion_heads(), positions)
        result_BSD = torch.empty_like(hidden_BSD)
        saved = (hidden_BSD, cos_Sp, sin_Sp, starts_BS, heads, sums_BHS)
        call(
            kernels.axion_attention_forward,
            _pointers(parameters),
            ctypes.byref(_Batch.of(dropout, *saved)),
            _address(result_BSD),
            torch.get_num_threads(),
        )
        ctx.kernels, ctx.dropout = kernels, dropout
        ctx.save_for_backward(*saved, *parameters)
        return result_BSD

    @staticmethod
    def backward(ctx, dresult_BSD):
        tensors = ctx.saved_tensors  # to be read once: checkpointing computes them again
        saved, parameters = tensors[:6], tensors[6:]
        dresult_BSD = dresult_BSD.contiguous()
        dhidden_BSD, gradients = torch.empty_like(dresult_BSD), _empty_like(parameters)
        call(
            ctx.kernels.axion_attention_backward,
            _pointers(parameters),
            ctypes.byref(_Batch.of(ctx.dropout, *saved)),
            _address(dresult_BSD),
            _address(dhidden_BSD),
            _pointers(gradients),
            torch.get_num_threads(),
        )
        return None, None, None, None, None, dhidden_BSD, *gradients


class MixtureBlock(torch.autograd.Function):
    """x + dropout(experts(norm(x))), the router's logits [T, E] and its choice [T, K].

    csrc/training/mixture_block.cpp.
    """

    @staticmethod
    def forward(ctx, kernels, dropout, config, bias_E, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        tokens, chosen = hidden_BSD.shape[0] * hidden_BSD.shape[1], config.num_experts_per_tok
        logits_TE = hidden_BSD.new_empty(tokens, config.n_routed_experts)
        experts_TK = hidden_BSD.new_empty(tokens, chosen, dtype=torch.int32)
        routed = hidden_BSD.new_empty(tokens * chosen, kernels.axion_routed_row())
        shared = hidden_BSD.new_empty(tokens, kernels.axion_shared_row())
        saved = (logits_TE, experts_TK, routed, shared)
        result_BSD = torch.empty_like(hidden_BSD)
        call(
            kernels.axion_mixture_forward,
            _pointers(parameters),
            _address(bias_E),
            tokens,
            _address(hidden_BSD),
            _address(result_BSD),
            _pointers(saved),
            _reference(dropout),
            torch.get_num_threads(),
        )
        ctx.kernels, ctx.dropout = kernels, dropout
        ctx.mark_non_differentiable(experts_TK)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(bias_E, hidden_BSD, *saved, *parameters)
        return result_BSD, logits_TE, experts_TK

    @staticmethod
    def backward(ctx, dresult_BSD, dlogits_TE, _):
        bias_E, hidden_BSD, *rest = ctx.saved_tensors
        saved, parameters = rest[:4], rest[4:]
        dresult_BSD = torch.zeros_like(hidden_BSD) if dresult_BSD is None else dresult_BSD.contiguous()
        dlogits_TE = None if dlogits_TE is None else dlogits_TE.contiguous()
        dhidden_BSD, gradients = torch.empty_like(hidden_BSD), _empty_like(parameters)
        call(
            ctx.kernels.axion_mixture_backward,
            _pointers(parameters),
            _address(bias_E),
            len(saved[0]),
            _address(hidden_BSD),
            _pointers(saved),
            _address(dresult_BSD),
            _address(dlogits_TE),
            _address(dhidden_BSD),
            _pointers(gradients),
            _reference(ctx.dropout),
            torch.get_num_threads(),
        )
        return None, None, None, None, dhidden_BSD, *gradients


class DenseBlock(torch.autograd.Function):
    """x + dropout(swiglu(norm(x))): csrc/training/dense_block.cpp."""

    @staticmethod
    def forward(ctx, kernels, dropout, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        tokens = hidden_BSD.shape[0] * hidden_BSD.shape[1]
        saved = hidden_BSD.new_empty(tokens, kernels.axion_dense_row())
        result_BSD = torch.empty_like(hidden_BSD)
        tensors = (_address(hidden_BSD), _address(result_BSD), _address(saved))
        call(
            kernels.axion_dense_forward,
            _pointers(parameters),
            tokens,
            *tensors,
            _reference(dropout),
            torch.get_num_threads(),
        )
        ctx.kernels, ctx.dropout = kernels, dropout
        ctx.save_for_backward(hidden_BSD, saved, *parameters)
        return result_BSD

    @staticmethod
    def backward(ctx, dresult_BSD):
        hidden_BSD, saved, *parameters = ctx.saved_tensors
        dresult_BSD = dresult_BSD.contiguous()
        dhidden_BSD, gradients = torch.empty_like(hidden_BSD), _empty_like(parameters)
        tensors = (_address(hidden_BSD), _address(saved), _address(dresult_BSD), _address(dhidden_BSD))
        call(
            ctx.kernels.axion_dense_backward,
            _pointers(parameters),
            len(saved),
            *tensors,
            _pointers(gradients),
            _reference(ctx.dropout),
            torch.get_num_threads(),
        )
        return None, None, dhidden_BSD, *gradients


class HeadLosses(torch.autograd.Function):
    """The summed losses in nats of the last norm and the head, smoothed and plain: csrc/training/head.cpp.

    Only the smoothed one has gradients; without smoothing the two are the same.
    """

    @staticmethod
    def forward(ctx, kernels, wanted, smoothing, targets_BS, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        made = [torch.empty_like(tensor) for tensor in (hidden_BSD, *parameters)] if wanted else []
        losses = (ctypes.c_double * 2)()
        call(
            kernels.axion_head_losses,
            _pointers(parameters),
            targets_BS.numel(),
            _address(hidden_BSD),
            _address(targets_BS),
            ctypes.c_float(smoothing),
            losses,
            _address(made[0] if wanted else None),
            _pointers(made[1:]) if wanted else None,
            torch.get_num_threads(),
        )
        ctx.save_for_backward(*made)
        plain, smoothed = (hidden_BSD.new_tensor(loss) for loss in losses)
        ctx.mark_non_differentiable(plain)
        return smoothed, plain

    @staticmethod
    def backward(ctx, dloss, _):
        return None, None, None, None, *(gradient * dloss for gradient in ctx.saved_tensors)


def head_logits(kernels, hidden_BSD: torch.Tensor, norm: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """[B, S, V]; without gradients, which start at the loss."""
    hidden_BSD = hidden_BSD.contiguous()
    logits_BSV = hidden_BSD.new_empty(*hidden_BSD.shape[:2], len(head))
    tokens = hidden_BSD.shape[0] * hidden_BSD.shape[1]
    tensors = (_address(hidden_BSD), _address(logits_BSV))
    call(kernels.axion_head_logits, _pointers([norm, head]), tokens, *tensors, torch.get_num_threads())
    return logits_BSV
