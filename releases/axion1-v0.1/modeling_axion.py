"""Axion's decoder: one stack of layers, whose parts the config picks, written from scratch in PyTorch.

With the defaults it is DeepSeek-V3's: latent attention and a mixture of experts. `attention_axion.py` and
`mixture_axion.py` have the parts, `layer_axion.py` and `mtp_axion.py` the layers; this file builds a model from them.

Shape suffixes in names: B batch, S positions, D hidden, V vocabulary.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.

Source: DeepSeek-V3 technical report, arXiv 2412.19437, sections 2.1 and 2.2. Parameter names and shapes are those of
transformers' `DeepseekV3ForCausalLM`, with `attention="gqa"` and dense layers those of its `LlamaForCausalLM`.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import MoeCausalLMOutputWithPast, MoeModelOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_axion import (
    CACHE_ARGUMENT,
    AxionAttention,
    AxionRMSNorm,
    AxionRotaryEmbedding,
    either_cache,
    under_its_name,
)
from .configuration_axion import AxionConfig
from .layer_axion import AxionDecoderLayer
from .mixture_axion import AxionExperts, AxionRouter
from .mtp_axion import AxionMTPLayer, mtp_labels
from .projection_axion import AxionFactor, factor_std

KNOWN_ARGUMENTS = {
    *("output_attentions", "output_hidden_states", "output_router_logits", "return_dict"),
    *("num_items_in_batch", "ignore_index", "shift_labels"),  # of the loss
    *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"),  # where documents are packed
    "is_causal",
}
"""Further keyword arguments of a forward pass: what transformers' decorators, losses and attention functions read."""


@dataclass
class AxionCausalLMOutput(MoeCausalLMOutputWithPast):
    """transformers' output of a language model with experts, with the loss of multi-token prediction."""

    mtp_loss: torch.Tensor | None = None
    """Mean loss of predicting the token after the next, in nats, before its weight; None without that layer."""


class AxionPreTrainedModel(PreTrainedModel):
    """What transformers asks of a model family: outputs to record, modules to keep in fp32, initialisation."""

    config: AxionConfig
    config_class = AxionConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AxionDecoderLayer", "AxionMTPLayer"]  # noqa: RUF012 (transformers' own form, here and below)
    _skip_keys_device_placement = ["cache", "past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = ["e_score_correction_bias"]  # noqa: RUF012
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": AxionDecoderLayer,
        "attentions": AxionAttention,
        "router_logits": OutputRecorder(AxionRouter, index=0),
    }

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """Always: transformers looks for `@use_experts_implementation` in this file, but it is in mixture_axion.py."""
        return True

    def get_correct_experts_implementation(self, requested_experts: str | None) -> str:
        """Defaults to "eager", which is faster on a CPU than transformers' default."""
        return super().get_correct_experts_implementation(requested_experts or "eager")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal with `initializer_range` for every matrix, ones for norms, zeros for routing biases.

        Two factors of low rank are drawn so that their product has that deviation. The gate of the loops starts at 0.5.
        `transformers.initialization` does not touch what was loaded from a checkpoint.
        """
        super()._init_weights(module)
        if isinstance(module, AxionRouter):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            init.zeros_(module.e_score_correction_bias)
        elif isinstance(module, AxionExperts):
            for parameter in module.parameters():
                init.normal_(parameter, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, AxionFactor):
            init.normal_(module.weight, mean=0.0, std=factor_std(self.config))
        elif isinstance(module, AxionModel) and module.loop_gate is not None:
            init.constant_(module.loop_gate, 0.5)


class AxionModel(AxionPreTrainedModel):
    """Token embeddings, decoder layers and the last norm.

    With `num_shared_layers` the layers are entry, shared and exit layers. The shared ones run `num_loops` times; before
    each further time the state x becomes s·x + (1 − s)·x₀, with x₀ the state before the first and s the sigmoid of one
    learned number. Each time has cache entries of its own: the first those of the layers' indices, the others after the
    last layer's.

    For training and speculative decoding, `AxionForCausalLM.attach_mtp` appends a layer that predicts the token after
    the next. It is not part of the decoder, and `forward` does not run it.
    """

    def __init__(self, config: AxionConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(AxionDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = AxionRotaryEmbedding(config)
        self.shared_layers = config.shared_layers
        self.loop_gate = nn.Parameter(torch.empty(1)) if config.num_shared_layers else None
        self.dropout = config.dropout
        self.gradient_checkpointing = False
        # a checkpoint may hold the layer of multi-token prediction, which only training and drafting load
        self._keys_to_ignore_on_load_unexpected = [rf"layers\.{config.num_hidden_layers}\."]
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        num_loops: int | None = None,
        **kwargs,
    ) -> MoeModelOutputWithPast:
        """Takes the usual arguments of a transformers decoder; `attention_mask` is `[B, T]`, 0 on padding.

        The cache may be passed as `cache`, its name since transformers 5.24, or as `past_key_values`. `num_loops` is
        how often the shared layers run, by default as often as the config says.

        Raises:
            TypeError: an argument that is not None is unknown, or the cache was passed under both names.
            ValueError: both `input_ids` and `inputs_embeds` were given, or neither; `num_loops` is not a count, or not
                the one that filled the cache; the model has no layers to loop.
        """
        for name, value in kwargs.items():
            if value is not None and name not in KNOWN_ARGUMENTS:
                raise TypeError(f"{type(self).__name__}.forward() got an unexpected keyword argument {name!r}")
        cache = either_cache(cache, past_key_values)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        loops = self.config.num_loops if num_loops is None else num_loops
        depth = self.config.depth(loops)
        hidden_BSD = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if cache is not None and self.loop_gate is not None:
            _fit_cache(cache, depth)
        kwargs |= self.layer_inputs(hidden_BSD, attention_mask, position_ids, cache)
        hidden_BSD = F.dropout(hidden_BSD, self.dropout, self.training)

        # drafts that exit early have a config with fewer layers
        layers = list(islice(self.layers, self.config.num_hidden_layers))
        first, last = self.shared_layers.start, self.shared_layers.stop
        for layer in layers[:first]:
            hidden_BSD = layer(hidden_BSD, **kwargs)
        before_BSD = hidden_BSD
        for loop in range(loops):
            if loop > 0:
                hidden_BSD = torch.lerp(before_BSD, hidden_BSD, self._share().to(hidden_BSD.dtype))
            for slot, layer in enumerate(layers[first:last], start=self.config.first_slot(loop)):
                hidden_BSD = layer(hidden_BSD, slot=slot, **kwargs)
        for layer in layers[last:]:
            hidden_BSD = layer(hidden_BSD, **kwargs)
        return MoeModelOutputWithPast(last_hidden_state=self.norm(hidden_BSD), **under_its_name(cache))

    def _share(self) -> torch.Tensor:
        """s, the share of the looped state in the blend with the state before the loops."""
        assert self.loop_gate is not None
        return self.loop_gate.sigmoid()

    def layer_inputs(
        self,
        embeddings_BSD: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
    ) -> dict[str, Any]:
        """What every layer takes besides the state: the causal mask, rotary angles and the cache."""
        if position_ids is None:
            seen = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(embeddings_BSD.shape[1], device=embeddings_BSD.device) + seen).unsqueeze(0)
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=embeddings_BSD,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **under_its_name(cache),
        )
        return {
            "attention_mask": causal_mask,
            "position_embeddings": self.rotary_emb(embeddings_BSD, position_ids),
            **under_its_name(cache),
        }


def _fit_cache(cache: Cache, depth: int) -> None:
    """Gives a cache that has an entry per layer one for every pass through a layer.

    Raises:
        ValueError: the cache was filled with another number of loops, or its size is fixed.
    """
    seen = cache.get_seq_length()
    filled = sum(cache.get_seq_length(slot) > 0 for slot in range(len(cache.layers)))
    if seen and filled != depth:
        raise ValueError(f"the cache was filled with another num_loops: it has {filled} entries, not {depth}")
    missing = depth - len(cache.layers)
    if missing > 0 and cache.layer_class_to_replicate is None:  # else entries are added as they are needed
        if not all(type(layer) is DynamicLayer for layer in cache.layers):
            raise ValueError("num_loops needs a DynamicCache, which grows by an entry per loop and layer")
        cache.layers.extend(DynamicLayer() for _ in range(missing))


class AxionForCausalLM(AxionPreTrainedModel, GenerationMixin):
    """The decoder with its language-model head, tied to the embeddings where the config says so."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    _fsdp_plan = {"lm_head": "keep_full_weight"}  # noqa: RUF012

    def __init__(self, config: AxionConfig):
        super().__init__(config)
        self.model = AxionModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # transformers' `generate(use_mtp=True)` finds the weights that it loads by this pattern
        self._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{config.num_hidden_layers}\."]
        self.post_init()

    @property
    def mtp(self) -> AxionMTPLayer | None:
        """The layer of multi-token prediction, if it is attached."""
        last = self.model.layers[-1]
        return last if isinstance(last, AxionMTPLayer) else None

    def attach_mtp(self) -> AxionMTPLayer:
        """Appends a layer of multi-token prediction with random weights, as the config asks, and returns it.

        Its weights are then part of `state_dict()`, and of what `save_pretrained` writes.

        Raises:
            ValueError: the config has `num_nextn_predict_layers: 0`.
        """
        if not self.config.num_nextn_predict_layers:
            raise ValueError("num_nextn_predict_layers is 0; a model with multi-token prediction has 1")
        if self.mtp is None:
            layer = AxionMTPLayer(self.config, self.config.num_hidden_layers)
            layer.to(self.lm_head.weight)
            layer.apply(self._init_weights)
            self.model.layers.append(layer)
        return self.mtp  # pyright: ignore[reportReturnType]  # attached above

    def mtp_hidden(
        self,
        next_ids: torch.Tensor,
        last_hidden_BSD: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
    ) -> torch.Tensor:
        """What the output head reads to predict the token after the next, `[B, S, D]`.

        Args:
            next_ids: `[B, S]`, at position i the token i + 1.
            last_hidden_BSD: at position i the decoder's `last_hidden_state`.
            attention_mask, position_ids: as for the decoder.
            cache: a `DynamicCache` of the layer's own.
        """
        assert self.mtp is not None
        embeddings_BSD = self.model.embed_tokens(next_ids)
        inputs = self.model.layer_inputs(embeddings_BSD, attention_mask, position_ids, cache)
        return self.mtp(embeddings_BSD, last_hidden_BSD, slot=0, **inputs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        num_loops: int | None = None,
        mtp_weight: float | None = None,
        **kwargs,
    ) -> AxionCausalLMOutput:
        """Logits `[B, S, V]` and, with `labels`, the mean next-token loss in nats.

        Args:
            labels: `[B, S]`, not shifted; −100 is left out.
            logits_to_keep: compute logits only for the last n positions, or for the given positions; 0 for all.
            num_loops: how often the shared layers run, by default as often as the config says.
            mtp_weight: λ, with which the loss of predicting the token after the next is added to `loss` (report,
                equations 24 and 25); needs `labels`, `input_ids` and `attach_mtp`. Where `position_ids` start again, no
                token of the new document is predicted from the one before it.

        Raises:
            TypeError, ValueError: see `AxionModel.forward`.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            num_loops=num_loops,
            **under_its_name(either_cache(cache, past_key_values)),
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits_BSV = self.lm_head(outputs.last_hidden_state[:, kept, :])
        loss = mtp_loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits_BSV, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
            if mtp_weight is not None:
                if input_ids is None or self.mtp is None:
                    raise ValueError("mtp_weight needs input_ids and a layer of multi-token prediction: attach_mtp()")
                # position i has token i + 1 and predicts token i + 2; what follows the last one is never read
                hidden_BSD = self.mtp_hidden(
                    input_ids.roll(-1, dims=1), outputs.last_hidden_state, attention_mask, position_ids
                )
                mtp_loss = self.loss_function(
                    logits=self.lm_head(hidden_BSD),
                    labels=mtp_labels(labels, position_ids),
                    vocab_size=self.config.vocab_size,
                    **kwargs,
                )
                loss = loss + mtp_weight * mtp_loss
        return AxionCausalLMOutput(
            loss=loss,
            mtp_loss=mtp_loss,
            logits=logits_BSV,
            **under_its_name(outputs.get(CACHE_ARGUMENT)),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            router_logits=outputs.router_logits,
        )


class AxionForSequenceClassification(GenericForSequenceClassification, AxionPreTrainedModel):
    """The decoder with scores for labels, read from the last token that is not padding; reward models are one label.

    transformers' class finds its decoder through `AutoModel`, which does not know remote code, so it is built here.
    """

    def __init__(self, config: AxionConfig):
        AxionPreTrainedModel.__init__(self, config)
        self.num_labels: int = config.num_labels  # pyright: ignore[reportAttributeAccessIssue] (None only in its declaration)
        self.model = AxionModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()


__all__ = ["AxionForCausalLM", "AxionForSequenceClassification", "AxionModel", "AxionPreTrainedModel"]
