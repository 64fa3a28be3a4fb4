"""Training and scoring passes on the kernels: one autograd function for each block, and one for the head.

`use_kernels(model)` replaces the forward pass of an ordinary `AxionForCausalLM`. The parameters stay the model's own,
so optimizers, checkpoints, data parallelism and gradient accumulation work as before.

Shape suffixes as in modeling_axion.py: B batch, S positions, T all tokens (B·S), D hidden, H heads, E routed experts, K
experts per token, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from types import MethodType
from typing import cast

import torch
from torch import nn
from transformers.modeling_outputs import MoeCausalLMOutputWithPast

from axion.kernels.build import Unavailable, library
from axion.kernels.plain import HARMLESS_HOOKS, unsupported_reason
from axion.labels import IGNORED
from axion.model.attention_axion import AxionLatentAttention
from axion.model.layer_axion import AxionDecoderLayer
from axion.model.mixture_axion import AxionMLP, AxionMoE
from axion.model.modeling_axion import AxionForCausalLM

Parameters = Sequence[torch.Tensor | None]
"""The parameters of a block, in the order of its C++ struct."""

OnRouting = Callable[[int, torch.Tensor], None]
"""Called with the index of a mixture layer, counted among the mixture layers, and its chosen experts [T, K]."""


def use_kernels(
    model: AxionForCausalLM, on_routing: OnRouting | None = None, replaced_hooks: Collection[str] = ()
) -> None:
    """Makes `model(input_ids, …, use_cache=False)` run on the kernels.

    With `labels` the result has the loss and no logits, which are never computed as a whole. A call that the kernels do
    not cover (a cache, embeddings as input, left padding, hidden states as output) takes the PyTorch path. Where
    `position_ids` restart, documents are packed into one sequence and do not attend to each other, as in transformers.

    Args:
        model: in fp32, on the CPU.
        on_routing: called in training mode, in place of forward hooks on the routers.
        replaced_hooks: names of the Python modules whose hooks need not run, because `on_routing` does their work.

    Raises:
        Unavailable: the kernels cannot be built, or do not cover the model.
    """
    with torch.device("meta"):
        plain = AxionForCausalLM(model.config)
    if _shapes(model) != _shapes(plain):
        raise Unavailable("the model has parameters that its config does not describe (an adapter?)")
    harmless_hooks = HARMLESS_HOOKS.union(replaced_hooks)
    if (reason := unsupported_reason(model, harmless_hooks)) is not None:
        raise Unavailable(reason)
    passes = _Passes(model, on_routing, harmless_hooks)
    original = cast(MethodType, model.forward)

    def forward(self: AxionForCausalLM, input_ids=None, labels=None, logits_to_keep=0, **kwargs):
        is_copy = self is not model  # made by copy.deepcopy, which does not copy functions
        if not is_copy and passes.cover(input_ids, labels, kwargs):
            return passes(input_ids, labels, logits_to_keep, **kwargs)
        return original.__func__(self, input_ids=input_ids, labels=labels, logits_to_keep=logits_to_keep, **kwargs)

    model.forward = MethodType(forward, model)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


class _Passes:
    """The forward pass of one model, block by block."""

    def __init__(self, model: AxionForCausalLM, on_routing: OnRouting | None, harmless_hooks: Collection[str]):
        self.model = model
        self.harmless_hooks = harmless_hooks
        self.layers = cast("list[AxionDecoderLayer]", list(model.model.layers))
        self.library = _typed(library(model.config, "training"))
        self.on_routing = on_routing
        self._angles_CP: list[torch.Tensor] | None = None

    def cover(self, input_ids, labels, kwargs: dict) -> bool:
        """Whether the kernels compute this call as PyTorch would."""
        known = {"attention_mask", "position_ids", "use_cache", "output_router_logits", "num_items_in_batch"}
        unwanted_outputs = {name for name, value in kwargs.items() if name.startswith("output_") and value is False}
        wanted = {name for name, value in kwargs.items() if value is not None} - unwanted_outputs
        return (
            input_ids is not None
            and wanted <= known
            and kwargs.get("use_cache") is False
            and not self.model.model.gradient_checkpointing
            and not torch.is_autocast_enabled("cpu")
            and (labels is not None or not torch.is_grad_enabled())  # gradients start at the loss
            and _labels_are_tokens(labels, self.model.config.vocab_size)
            and _padding_is_right(kwargs.get("attention_mask"), labels)
            and _documents_are_packed(input_ids, kwargs)
            and self._is_still_plain()
        )

    def _is_still_plain(self) -> bool:
        """Whether nothing below the model itself was changed since `use_kernels`."""
        return all(unsupported_reason(part, self.harmless_hooks) is None for part in self.model.children())

    def _parameters(self) -> list[Parameters]:
        """The current parameters of each block, two blocks per layer."""
        return [of(layer) for layer in self.layers for of in (_attention_parameters, _feed_forward_parameters)]

    def _angles(self, positions: int) -> list[torch.Tensor]:
        """Cosines and sines [S, P/2] of the first positions. They are computed once, for the whole context."""
        if self._angles_CP is None or len(self._angles_CP[0]) < positions:
            context = torch.arange(max(positions, self.model.config.max_position_embeddings)).unsqueeze(0)
            rotary = self.model.model.rotary_emb
            self._angles_CP = [part[0, 0].contiguous() for part in rotary(torch.zeros(()), context)]
        return [part_CP[:positions] for part_CP in self._angles_CP]

    def __call__(
        self,
        input_ids,
        labels,
        logits_to_keep,
        position_ids=None,
        output_router_logits=None,
        num_items_in_batch=None,
        **_,
    ) -> MoeCausalLMOutputWithPast:
        if output_router_logits is None:
            output_router_logits = self.model.config.output_router_logits
        decoder = self.model.model
        hidden_BSD = decoder.embed_tokens(input_ids)
        angles, starts_BS = self._angles(input_ids.shape[1]), _document_starts(position_ids)
        router_logits = []
        blocks, head = self._parameters(), (decoder.norm.weight, self.model.lm_head.weight)
        for layer, attention, feed_forward in zip(self.layers, blocks[::2], blocks[1::2], strict=True):
            hidden_BSD = _Attention.apply(self.library, *angles, starts_BS, hidden_BSD, *attention)
            if isinstance(layer.mlp, AxionMoE):
                bias_E = layer.mlp.gate.e_score_correction_bias
                hidden_BSD, logits_TE, experts_TK = _Mixture.apply(
                    self.library, self.model.config, bias_E, hidden_BSD, *feed_forward
                )
                if self.on_routing is not None and self.model.training:
                    self.on_routing(len(router_logits), experts_TK)
                router_logits.append(logits_TE)
            else:
                hidden_BSD = _Dense.apply(self.library, hidden_BSD, *feed_forward)
        output = MoeCausalLMOutputWithPast(router_logits=tuple(router_logits) if output_router_logits else None)
        if labels is None:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            output.logits = _logits(self.library, hidden_BSD[:, kept, :], *head)
        else:
            targets_BS = nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:].contiguous()
            counted = (targets_BS != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            output.loss = _Loss.apply(self.library, torch.is_grad_enabled(), targets_BS, hidden_BSD, *head) / counted
        return output


def _labels_are_tokens(labels: torch.Tensor | None, vocabulary: int) -> bool:
    """Whether every label is a token or IGNORED; PyTorch raises the error for any other."""
    return labels is None or bool(((labels == IGNORED) | ((labels >= 0) & (labels < vocabulary))).all())


def _padding_is_right(mask_BS: torch.Tensor | None, labels: torch.Tensor | None) -> bool:
    """Whether no real token attends to padding: there is none, or it is on the right and has no loss."""
    if mask_BS is None:
        return True
    if mask_BS.ndim != 2 or bool((mask_BS[:, 1:] > mask_BS[:, :-1]).any()):
        return False
    return labels is None or bool((labels[mask_BS == 0] == IGNORED).all())


def _documents_are_packed(input_ids: torch.Tensor, kwargs: dict) -> bool:
    """Whether the positions are those of consecutive documents, or are not given.

    The kernels count positions from the start of the sequence. Attention depends on differences of positions alone, so
    its result is the same for positions that are consecutive within each document. Transformers starts a new document
    wherever a position does not follow the one before it, unless there is a padding mask too.
    """
    positions = kwargs.get("position_ids")
    return positions is None or (positions.shape == input_ids.shape and kwargs.get("attention_mask") is None)


def _document_starts(position_ids_BS: torch.Tensor | None) -> torch.Tensor | None:
    """int32 [B, S]: where the document of each position begins; None where every sequence is one document."""
    if position_ids_BS is None:
        return None
    begins_BS = nn.functional.pad(position_ids_BS.diff(dim=1) != 1, (1, 0))
    if not begins_BS.any():
        return None
    indices_S = torch.arange(position_ids_BS.shape[1])
    return torch.where(begins_BS, indices_S, 0).cummax(dim=1).values.int()


# --- The parameters of each block, in the order of its C++ -----------------------------------------------------------


def _attention_parameters(layer: AxionDecoderLayer) -> Parameters:
    attention = cast(AxionLatentAttention, layer.self_attn)  # coverage.py allows no other
    if attention.compresses_queries:
        queries = [attention.q_a_proj.weight, attention.q_a_layernorm.weight, attention.q_b_proj.weight]
    else:
        queries = [None, None, attention.q_proj.weight]
    latents = [attention.kv_a_proj_with_mqa.weight, attention.kv_a_layernorm.weight, attention.kv_b_proj.weight]
    return [layer.input_layernorm.weight, *queries, *latents, attention.o_proj.weight]


def _swiglu_parameters(mlp: AxionMLP) -> Parameters:
    return [mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight]


def _feed_forward_parameters(layer: AxionDecoderLayer) -> Parameters:
    mlp = layer.mlp
    if not isinstance(mlp, AxionMoE):
        return [layer.post_attention_layernorm.weight, *_swiglu_parameters(mlp)]
    routed = [mlp.gate.weight, *(mlp.experts.get_parameter(name) for name in ("gate_up_proj", "down_proj"))]
    return [layer.post_attention_layernorm.weight, *routed, *_swiglu_parameters(mlp.shared_experts)]


# --- Calls into C++ --------------------------------------------------------------------------------------------------


def _typed(loaded: ctypes.CDLL) -> ctypes.CDLL:
    loaded.axion_head_loss.restype = ctypes.c_double
    return loaded


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's data; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _pointers(tensors: Sequence[torch.Tensor | None]) -> ctypes.Array:
    """A C struct of the addresses of tensors."""
    return (ctypes.c_void_p * len(tensors))(*(None if t is None else t.data_ptr() for t in tensors))


def _empty_like(parameters: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    return [None if parameter is None else torch.empty_like(parameter) for parameter in parameters]


class _Attention(torch.autograd.Function):
    """x + attention(norm(x)): csrc/training/attention_block.cpp."""

    @staticmethod
    def forward(ctx, kernels, cos_Sp, sin_Sp, starts_BS, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        batch, positions, _ = hidden_BSD.shape
        heads = hidden_BSD.new_empty(batch, positions, kernels.axion_heads_row())
        sums_BHS = hidden_BSD.new_empty(batch, kernels.axion_heads(), positions)
        result_BSD = torch.empty_like(hidden_BSD)
        places = (_address(cos_Sp), _address(sin_Sp), _address(starts_BS))
        given, made = _address(hidden_BSD), (_address(result_BSD), _address(heads), _address(sums_BHS))
        kernels.axion_attention_forward(
            _pointers(parameters), *places, batch, positions, given, *made, torch.get_num_threads()
        )
        ctx.kernels = kernels
        ctx.save_for_backward(cos_Sp, sin_Sp, starts_BS, hidden_BSD, heads, sums_BHS, *parameters)
        return result_BSD

    @staticmethod
    def backward(ctx, dresult_BSD):
        cos_Sp, sin_Sp, starts_BS, hidden_BSD, heads, sums_BHS, *parameters = ctx.saved_tensors
        dresult_BSD = dresult_BSD.contiguous()
        dhidden_BSD, gradients = torch.empty_like(hidden_BSD), _empty_like(parameters)
        places = (_address(cos_Sp), _address(sin_Sp), _address(starts_BS))
        given = (_address(hidden_BSD), _address(heads), _address(sums_BHS), _address(dresult_BSD))
        made = (_address(dhidden_BSD), _pointers(gradients))
        ctx.kernels.axion_attention_backward(
            _pointers(parameters), *places, *hidden_BSD.shape[:2], *given, *made, torch.get_num_threads()
        )
        return None, None, None, None, dhidden_BSD, *gradients


class _Mixture(torch.autograd.Function):
    """x + experts(norm(x)), the router's logits [T, E] and its choice [T, K]: csrc/training/mixture_block.cpp."""

    @staticmethod
    def forward(ctx, kernels, config, bias_E, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        tokens, chosen = hidden_BSD.shape[0] * hidden_BSD.shape[1], config.num_experts_per_tok
        logits_TE = hidden_BSD.new_empty(tokens, config.n_routed_experts)
        experts_TK = hidden_BSD.new_empty(tokens, chosen, dtype=torch.int32)
        routed = hidden_BSD.new_empty(tokens * chosen, kernels.axion_routed_row())
        shared = hidden_BSD.new_empty(tokens, kernels.axion_shared_row())
        saved = (logits_TE, experts_TK, routed, shared)
        result_BSD = torch.empty_like(hidden_BSD)
        kernels.axion_mixture_forward(
            _pointers(parameters),
            _address(bias_E),
            tokens,
            _address(hidden_BSD),
            _address(result_BSD),
            _pointers(saved),
            torch.get_num_threads(),
        )
        ctx.kernels = kernels
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
        ctx.kernels.axion_mixture_backward(
            _pointers(parameters),
            _address(bias_E),
            len(saved[0]),
            _address(hidden_BSD),
            _pointers(saved),
            _address(dresult_BSD),
            _address(dlogits_TE),
            _address(dhidden_BSD),
            _pointers(gradients),
            torch.get_num_threads(),
        )
        return None, None, None, dhidden_BSD, *gradients


class _Dense(torch.autograd.Function):
    """x + swiglu(norm(x)): csrc/training/dense_block.cpp."""

    @staticmethod
    def forward(ctx, kernels, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        tokens = hidden_BSD.shape[0] * hidden_BSD.shape[1]
        saved = hidden_BSD.new_empty(tokens, kernels.axion_dense_row())
        result_BSD = torch.empty_like(hidden_BSD)
        tensors = (_address(hidden_BSD), _address(result_BSD), _address(saved))
        kernels.axion_dense_forward(_pointers(parameters), tokens, *tensors, torch.get_num_threads())
        ctx.kernels = kernels
        ctx.save_for_backward(hidden_BSD, saved, *parameters)
        return result_BSD

    @staticmethod
    def backward(ctx, dresult_BSD):
        hidden_BSD, saved, *parameters = ctx.saved_tensors
        dresult_BSD = dresult_BSD.contiguous()
        dhidden_BSD, gradients = torch.empty_like(hidden_BSD), _empty_like(parameters)
        tensors = (_address(hidden_BSD), _address(saved), _address(dresult_BSD), _address(dhidden_BSD))
        ctx.kernels.axion_dense_backward(
            _pointers(parameters), len(saved), *tensors, _pointers(gradients), torch.get_num_threads()
        )
        return None, dhidden_BSD, *gradients


class _Loss(torch.autograd.Function):
    """The summed loss in nats of the last norm and the head, with its gradients: csrc/training/head.cpp."""

    @staticmethod
    def forward(ctx, kernels, wanted, targets_BS, hidden_BSD, *parameters):
        hidden_BSD = hidden_BSD.contiguous()
        made = [torch.empty_like(tensor) for tensor in (hidden_BSD, *parameters)] if wanted else []
        loss = kernels.axion_head_loss(
            _pointers(parameters),
            targets_BS.numel(),
            _address(hidden_BSD),
            _address(targets_BS),
            _address(made[0] if wanted else None),
            _pointers(made[1:]) if wanted else None,
            torch.get_num_threads(),
        )
        ctx.save_for_backward(*made)
        return hidden_BSD.new_tensor(loss)

    @staticmethod
    def backward(ctx, dloss):
        return None, None, None, *(gradient * dloss for gradient in ctx.saved_tensors)


def _logits(kernels, hidden_BSD: torch.Tensor, norm: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """[B, S, V]; without gradients, which start at the loss."""
    hidden_BSD = hidden_BSD.contiguous()
    logits_BSV = hidden_BSD.new_empty(*hidden_BSD.shape[:2], len(head))
    tokens = hidden_BSD.shape[0] * hidden_BSD.shape[1]
    tensors = (_address(hidden_BSD), _address(logits_BSV))
    kernels.axion_head_logits(_pointers([norm, head]), tokens, *tensors, torch.get_num_threads())
    return logits_BSV
