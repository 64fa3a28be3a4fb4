"""Training and scoring passes on the kernels, block by block.

`use_kernels(model)` replaces the forward pass of an ordinary `AxionForCausalLM`. The parameters stay the model's own,
so optimizers, checkpoints, data parallelism and gradient accumulation work as before.

Shape suffixes as in modeling_axion.py: B batch, S positions, T all tokens (B·S), D hidden, H heads, E routed experts, K
experts per token, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count
from types import MethodType
from typing import cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from axion.kernels import coverage
from axion.kernels.build import Unavailable, library
from axion.kernels.functions import (
    AttentionBlock,
    DenseBlock,
    Dropout,
    EmbeddingDropout,
    HeadLosses,
    MixtureBlock,
    head_logits,
)
from axion.kernels.plain import HARMLESS_HOOKS, unsupported_model, unsupported_reason
from axion.labels import IGNORED
from axion.model.attention_axion import AxionLatentAttention
from axion.model.layer_axion import AxionDecoderLayer
from axion.model.mixture_axion import AxionMLP, AxionMoE
from axion.model.modeling_axion import AxionCausalLMOutput, AxionForCausalLM
from axion.model.mtp_axion import mtp_labels
from axion.model.projection_axion import AxionLowRankLinear

Parameters = Sequence[torch.Tensor | None]
"""The parameters of a block, in the order of its C++ struct."""

OnRouting = Callable[[int, torch.Tensor], None]
"""Called with the index of a mixture layer, counted among the mixture layers, and its chosen experts [T, K]."""


@dataclass
class KernelOutput(AxionCausalLMOutput):
    """The model's output. With labels it has losses and no logits, which are never computed as a whole."""

    plain_loss: torch.Tensor | None = None
    """The next-token loss without label smoothing and multi-token prediction, detached."""
    mtp_router_logits: torch.Tensor | None = None
    """[T, E], of the router in the layer of multi-token prediction, where router logits are asked for."""


def use_kernels(
    model: AxionForCausalLM,
    on_routing: OnRouting | None = None,
    replaced_hooks: Collection[str] = (),
    label_smoothing: float = 0.0,
) -> None:
    """Makes `model(input_ids, …, use_cache=False)` run on the kernels.

    The result is a `KernelOutput`. A call that the kernels do not cover (a cache, embeddings as input, left padding,
    hidden states as output) takes the PyTorch path. Where `position_ids` restart, documents are packed into one
    sequence and do not attend to each other, as in transformers. Dropout has masks of its own, drawn from one number of
    torch's generator per pass.

    Args:
        model: in fp32, on the CPU, with its layer of multi-token prediction if that is to be trained.
        on_routing: called in training mode, in place of forward hooks on the routers.
        replaced_hooks: names of the Python modules whose hooks need not run, because `on_routing` does their work.
        label_smoothing: of the losses in training mode; see `axion.training.losses.smooth_labels`.

    Raises:
        Unavailable: the kernels cannot be built, or do not cover the model.
    """
    if (reason := coverage.unsupported_reason(model.config, "training")) is not None:
        raise Unavailable(reason)
    with torch.device("meta"):
        plain = AxionForCausalLM(model.config)
        if model.mtp is not None:
            plain.attach_mtp()
    if _shapes(model) != _shapes(plain):
        raise Unavailable("the model has parameters that its config does not describe (an adapter?)")
    harmless_hooks = HARMLESS_HOOKS.union(replaced_hooks)
    if (reason := unsupported_model(model, "training", harmless_hooks)) is not None:
        raise Unavailable(reason)
    passes = _Passes(model, on_routing, harmless_hooks, label_smoothing)
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

    def __init__(
        self,
        model: AxionForCausalLM,
        on_routing: OnRouting | None,
        harmless_hooks: Collection[str],
        label_smoothing: float,
    ):
        self.model = model
        self.harmless_hooks = harmless_hooks
        self.layers = cast("list[AxionDecoderLayer]", list(model.model.layers)[: model.config.num_hidden_layers])
        self.library = library(model.config, "training")
        self.settings = coverage.settings(model.config)
        self.on_routing = on_routing
        self.label_smoothing = label_smoothing
        self._angles_CP: list[torch.Tensor] | None = None

    def cover(self, input_ids, labels, kwargs: dict) -> bool:
        """Whether the kernels compute this call as PyTorch would."""
        known = {
            *("attention_mask", "position_ids", "use_cache", "output_router_logits", "num_items_in_batch"),
            *("num_loops", "mtp_weight"),
        }
        unwanted_outputs = {name for name, value in kwargs.items() if name.startswith("output_") and value is False}
        wanted = {name for name, value in kwargs.items() if value is not None} - unwanted_outputs
        return (
            input_ids is not None
            and wanted <= known
            and kwargs.get("use_cache") is False
            and not torch.is_autocast_enabled("cpu")
            and (labels is not None or not torch.is_grad_enabled())  # gradients start at the loss
            and ("mtp_weight" not in wanted or (labels is not None and self.model.mtp is not None))
            and _labels_are_tokens(labels, input_ids, self.model.config.vocab_size)
            and _padding_is_right(kwargs.get("attention_mask"), labels)
            and _documents_are_packed(input_ids, kwargs)
            and self._is_still_plain()
        )

    def _is_still_plain(self) -> bool:
        """Whether the config and all below the model itself are as they were at `use_kernels`."""
        if coverage.settings(self.model.config) != self.settings:
            return False
        return all(unsupported_reason(part, self.harmless_hooks) is None for part in self.model.children())

    def _angles(self, positions: int) -> list[torch.Tensor]:
        """Cosines and sines [S, P/2] of the first positions. They are computed once, for the whole context."""
        if self._angles_CP is None or len(self._angles_CP[0]) < positions:
            with torch.inference_mode(False):  # a backward pass cannot use tensors made in inference mode
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
        num_loops=None,
        mtp_weight=None,
        **_,
    ) -> KernelOutput:
        config, decoder = self.model.config, self.model.model
        if output_router_logits is None:
            output_router_logits = config.output_router_logits
        config.depth(num_loops)  # raises the error that PyTorch raises
        places = (*self._angles(input_ids.shape[1]), _document_starts(position_ids))
        router_logits, masks = [], _Masks()

        def run(index: int, layer: AxionDecoderLayer, hidden_BSD: torch.Tensor) -> torch.Tensor:
            work = (layer, hidden_BSD, places, masks.draw(layer), masks.draw(layer))
            if decoder.gradient_checkpointing and decoder.training:
                hidden_BSD, logits_TE, experts_TK = checkpoint(self._layer, *work, use_reentrant=False)
            else:
                hidden_BSD, logits_TE, experts_TK = self._layer(*work)
            if experts_TK is not None:
                if self.on_routing is not None and layer.training:
                    self.on_routing(index - config.first_k_dense_replace, experts_TK)
                router_logits.append(logits_TE)
            return hidden_BSD

        hidden_BSD = decoder.embed_tokens(input_ids)
        if (dropout := masks.draw(decoder)) is not None:
            hidden_BSD = EmbeddingDropout.apply(self.library, dropout, hidden_BSD)
        shared, before_BSD = config.shared_layers, hidden_BSD
        for index, layer in enumerate(self.layers[: shared.start]):
            hidden_BSD = before_BSD = run(index, layer, hidden_BSD)
        for loop in range(config.num_loops if num_loops is None else num_loops):
            if loop > 0:
                hidden_BSD = torch.lerp(before_BSD, hidden_BSD, decoder._share())
            for index in shared:
                hidden_BSD = run(index, self.layers[index], hidden_BSD)
        for index, layer in enumerate(self.layers[shared.stop :], start=shared.stop):
            hidden_BSD = run(index, layer, hidden_BSD)

        output = KernelOutput(router_logits=tuple(router_logits) if output_router_logits else None)
        if labels is None:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            head = (decoder.norm.weight, self.model.lm_head.weight)
            output.logits = head_logits(self.library, hidden_BSD[:, kept, :], *head)
            return output
        output.loss, output.plain_loss = self._losses(labels, hidden_BSD, decoder.norm, num_items_in_batch)
        if mtp_weight is not None and (mtp := self.model.mtp) is not None:
            embeddings_BSD = decoder.embed_tokens(input_ids.roll(-1, dims=1))
            joined_BSx = torch.cat([mtp.enorm(embeddings_BSD), mtp.hnorm(decoder.norm(hidden_BSD))], dim=-1)
            hidden_BSD = run(config.num_hidden_layers, mtp, mtp.eh_proj(joined_BSx))
            if output_router_logits:
                output.mtp_router_logits = router_logits[-1]
            labels_BS = mtp_labels(labels, position_ids)
            output.mtp_loss, _ = self._losses(labels_BS, hidden_BSD, mtp.shared_head["norm"], num_items_in_batch)
            output.loss = output.loss + mtp_weight * output.mtp_loss
        return output

    def _layer(self, layer: AxionDecoderLayer, hidden_BSD, places, after_attention, after_feed_forward):
        """A layer's result, and with experts the router's logits [T, E] and its choice [T, K]."""
        parameters = _attention_parameters(layer)
        hidden_BSD = AttentionBlock.apply(self.library, after_attention, *places, hidden_BSD, *parameters)
        parameters = _feed_forward_parameters(layer)
        if not isinstance(layer.mlp, AxionMoE):
            return DenseBlock.apply(self.library, after_feed_forward, hidden_BSD, *parameters), None, None
        router = (self.model.config, layer.mlp.gate.e_score_correction_bias)
        return MixtureBlock.apply(self.library, after_feed_forward, *router, hidden_BSD, *parameters)

    def _losses(self, labels_BS, hidden_BSD, norm: nn.Module, num_items_in_batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, smoothed in training mode, and the plain one: means, or sums over `num_items_in_batch`."""
        targets_BS = nn.functional.pad(labels_BS, (0, 1), value=IGNORED)[:, 1:].contiguous()
        counted = (targets_BS != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        smoothing = self.label_smoothing if self.model.training else 0.0
        head = (norm.weight, self.model.lm_head.weight)
        wanted = torch.is_grad_enabled()
        smoothed, plain = HeadLosses.apply(self.library, wanted, smoothing, targets_BS, hidden_BSD, *head)
        return smoothed / counted, plain / counted


class _Masks:
    """The dropout of every place in one pass."""

    def __init__(self):
        self._seed: int | None = None
        self._places = count()

    def draw(self, module: nn.Module) -> Dropout | None:
        """That of the next place, which belongs to a module with a rate of `module.dropout`; None without dropout."""
        place, rate = next(self._places), cast(float, module.dropout)
        if not (module.training and rate):
            return None
        if self._seed is None:  # checkpoints keep the generator's state, so a resumed run draws the same masks
            self._seed = int(torch.randint(2**62, ()))
        return Dropout.of(self._seed, place, rate)


def _labels_are_tokens(labels: torch.Tensor | None, input_ids: torch.Tensor, vocabulary: int) -> bool:
    """Whether there is an int64 label for each input, and it is a token or IGNORED; else PyTorch raises the error."""
    if labels is None:
        return True
    if labels.shape != input_ids.shape or labels.dtype is not torch.int64:
        return False
    return bool(((labels == IGNORED) | ((labels >= 0) & (labels < vocabulary))).all())


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


def _matrices(projection: nn.Module) -> list[torch.Tensor]:
    """A projection's matrix, or its two factors."""
    factors = (projection.a, projection.b) if isinstance(projection, AxionLowRankLinear) else (projection,)
    return [cast(torch.Tensor, factor.weight) for factor in factors]


def _attention_parameters(layer: AxionDecoderLayer) -> Parameters:
    attention = layer.self_attn
    if not isinstance(attention, AxionLatentAttention):
        projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        return [layer.input_layernorm.weight, *(matrix for each in projections for matrix in _matrices(each))]
    if attention.compresses_queries:
        queries = [attention.q_a_proj.weight, attention.q_a_layernorm.weight, attention.q_b_proj.weight]
    else:
        queries = [None, None, attention.q_proj.weight]
    latents = [attention.kv_a_proj_with_mqa.weight, attention.kv_a_layernorm.weight, attention.kv_b_proj.weight]
    return [layer.input_layernorm.weight, *queries, *latents, attention.o_proj.weight]


def _swiglu_parameters(mlp: AxionMLP) -> Parameters:
    return [matrix for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj) for matrix in _matrices(part)]


def _feed_forward_parameters(layer: AxionDecoderLayer) -> Parameters:
    mlp = layer.mlp
    if not isinstance(mlp, AxionMoE):
        return [layer.post_attention_layernorm.weight, *_swiglu_parameters(mlp)]
    routed = [mlp.gate.weight, *(mlp.experts.get_parameter(name) for name in ("gate_up_proj", "down_proj"))]
    return [layer.post_attention_layernorm.weight, *routed, *_swiglu_parameters(mlp.shared_experts)]
