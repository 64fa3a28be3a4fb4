"""Axion's decoder: DeepSeek-V3's latent attention and mixture of experts, written from scratch in PyTorch.

`attention_axion.py` and `mixture_axion.py` have the parts; this file builds layers and a language model from them.

Shape suffixes in names: B batch, S positions, D hidden, V vocabulary.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.

Source: DeepSeek-V3 technical report, arXiv 2412.19437, section 2.1. Parameter names and shapes are those of
transformers' `DeepseekV3ForCausalLM`.
"""

from itertools import islice

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.utils import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GenericForSequenceClassification, GradientCheckpointingLayer
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
from .mixture_axion import AxionExperts, AxionMLP, AxionMoE, AxionRouter

KNOWN_ARGUMENTS = {
    *("output_attentions", "output_hidden_states", "output_router_logits", "return_dict"),
    *("num_items_in_batch", "ignore_index", "shift_labels"),  # of the loss
    *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx"),  # where documents are packed
    "is_causal",
}
"""Further keyword arguments of a forward pass: what transformers' decorators, losses and attention functions read."""


class AxionDecoderLayer(GradientCheckpointingLayer):
    """Attention, then a mixture of experts (in the first layers a dense SwiGLU), each with a norm and a residual."""

    def __init__(self, config: AxionConfig, layer_idx: int):
        super().__init__()
        self.self_attn = AxionAttention(config, layer_idx)
        has_experts = layer_idx in config.mixture_layers
        self.mlp = AxionMoE(config) if has_experts else AxionMLP(config, config.intermediate_size)
        self.input_layernorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_BSD: torch.Tensor, **kwargs) -> torch.Tensor:
        attended, _ = self.self_attn(self.input_layernorm(hidden_BSD), **kwargs)
        hidden_BSD = hidden_BSD + attended
        return hidden_BSD + self.mlp(self.post_attention_layernorm(hidden_BSD))


class AxionPreTrainedModel(PreTrainedModel):
    """What transformers asks of a model family: outputs to record, modules to keep in fp32, initialisation."""

    config: AxionConfig
    config_class = AxionConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AxionDecoderLayer"]  # noqa: RUF012 (transformers' own form, here and below)
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

        `transformers.initialization` does not touch what was loaded from a checkpoint.
        """
        super()._init_weights(module)
        if isinstance(module, AxionRouter):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            init.zeros_(module.e_score_correction_bias)
        elif isinstance(module, AxionExperts):
            for parameter in module.parameters():
                init.normal_(parameter, mean=0.0, std=self.config.initializer_range)


class AxionModel(AxionPreTrainedModel):
    """Token embeddings, decoder layers and the last norm."""

    def __init__(self, config: AxionConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(AxionDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = AxionRotaryEmbedding(config)
        self.gradient_checkpointing = False
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
        **kwargs,
    ) -> MoeModelOutputWithPast:
        """Takes the usual arguments of a transformers decoder; `attention_mask` is `[B, T]`, 0 on padding.

        The cache may be passed as `cache`, its name since transformers 5.24, or as `past_key_values`.

        Raises:
            TypeError: an argument that is not None is unknown, or the cache was passed under both names.
            ValueError: both `input_ids` and `inputs_embeds` were given, or neither.
        """
        for name, value in kwargs.items():
            if value is not None and name not in KNOWN_ARGUMENTS:
                raise TypeError(f"{type(self).__name__}.forward() got an unexpected keyword argument {name!r}")
        cache = either_cache(cache, past_key_values)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        hidden_BSD = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            seen = cache.get_seq_length() if cache is not None else 0
            position_ids = (torch.arange(hidden_BSD.shape[1], device=hidden_BSD.device) + seen).unsqueeze(0)
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden_BSD,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **under_its_name(cache),
        )
        position_embeddings = self.rotary_emb(hidden_BSD, position_ids)
        for layer in islice(self.layers, self.config.num_hidden_layers):  # fewer while drafts exit early
            hidden_BSD = layer(
                hidden_BSD,
                position_embeddings=position_embeddings,
                attention_mask=causal_mask,
                **under_its_name(cache),
                **kwargs,
            )
        return MoeModelOutputWithPast(last_hidden_state=self.norm(hidden_BSD), **under_its_name(cache))


class AxionForCausalLM(AxionPreTrainedModel, GenerationMixin):
    """The decoder with its language-model head, tied to the embeddings where the config says so."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012
    _fsdp_plan = {"lm_head": "keep_full_weight"}  # noqa: RUF012

    def __init__(self, config: AxionConfig):
        super().__init__(config)
        self.model = AxionModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

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
        **kwargs,
    ) -> MoeCausalLMOutputWithPast:
        """Logits `[B, S, V]` and, with `labels`, the mean next-token loss in nats.

        Args:
            labels: `[B, S]`, not shifted; −100 is left out.
            logits_to_keep: compute logits only for the last n positions, or for the given positions; 0 for all.

        Raises:
            TypeError, ValueError: see `AxionModel.forward`.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **under_its_name(either_cache(cache, past_key_values)),
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits_BSV = self.lm_head(outputs.last_hidden_state[:, kept, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits_BSV, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return MoeCausalLMOutputWithPast(
            loss=loss,
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
