"""Axion's decoder: DeepSeek-V3's latent attention and mixture of experts, written from scratch in PyTorch.

The parts are in `attention_axion.py` and `mixture_axion.py`; here they become layers and a language model.

Shape suffixes in names: B batch, S positions, D hidden, V vocabulary.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.

Source: DeepSeek-V3 technical report, arXiv 2412.19437, section 2.1. Parameter names and shapes are those of
transformers' `DeepseekV3ForCausalLM`.
"""

import inspect

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import MoeCausalLMOutputWithPast, MoeModelOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_axion import AxionAttention, AxionRMSNorm, AxionRotaryEmbedding
from .configuration_axion import AxionConfig
from .mixture_axion import AxionExperts, AxionMLP, AxionMoE, AxionRouter


class AxionDecoderLayer(GradientCheckpointingLayer):
    """Attention, then the mixture of experts (or, in the first layers, a dense SwiGLU), each on a normed residual."""

    def __init__(self, config: AxionConfig, layer_idx: int):
        super().__init__()
        self.self_attn = AxionAttention(config, layer_idx)
        dense = layer_idx < config.first_k_dense_replace
        self.mlp = AxionMLP(config, config.intermediate_size) if dense else AxionMoE(config)
        self.input_layernorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_BSD: torch.Tensor, **kwargs) -> torch.Tensor:
        attended, _ = self.self_attn(self.input_layernorm(hidden_BSD), **kwargs)
        hidden_BSD = hidden_BSD + attended
        return hidden_BSD + self.mlp(self.post_attention_layernorm(hidden_BSD))


class AxionPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of the family: what to record, to keep in fp32 and how to initialise."""

    config_class = AxionConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AxionDecoderLayer"]  # noqa: RUF012 (transformers' own form, here and below)
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = ["e_score_correction_bias"]  # noqa: RUF012
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": AxionDecoderLayer,
        "attentions": AxionAttention,
        "router_logits": OutputRecorder(AxionRouter, index=0),
    }

    def get_correct_experts_implementation(self, requested_experts: str | None) -> str:
        """`eager` where nobody asked for another: on a processor it is faster than transformers' usual choice."""
        return super().get_correct_experts_implementation(requested_experts or "eager")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal with `initializer_range` for every matrix, ones for norms, zeros for routing biases.

        `transformers.initialization` leaves alone what was loaded from a checkpoint.
        """
        super()._init_weights(module)
        if isinstance(module, AxionRouter):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            init.zeros_(module.e_score_correction_bias)
        elif isinstance(module, AxionExperts):
            init.normal_(module.gate_up_proj, mean=0.0, std=self.config.initializer_range)
            init.normal_(module.down_proj, mean=0.0, std=self.config.initializer_range)


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
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> MoeModelOutputWithPast:
        """The usual arguments of a transformers decoder; `attention_mask` is `[B, T]`, 0 on padding.

        Raises:
            ValueError: both or neither of `input_ids` and `inputs_embeds` were given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + seen).unsqueeze(0)
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        position_embeddings = self.rotary_emb(inputs_embeds, position_ids)
        hidden_BSD = inputs_embeds
        for layer in self.layers:
            hidden_BSD = layer(
                hidden_BSD,
                position_embeddings=position_embeddings,
                attention_mask=causal_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
        return MoeModelOutputWithPast(last_hidden_state=self.norm(hidden_BSD), past_key_values=past_key_values)


class AxionForCausalLM(AxionPreTrainedModel, GenerationMixin):
    """The decoder with its language-model head, tied to the embeddings where the config says so."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: AxionConfig):
        super().__init__(config)
        self.model = AxionModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> MoeCausalLMOutputWithPast:
        """Logits `[B, S, V]` and, with `labels`, the mean next-token loss in nats.

        Args:
            labels: `[B, S]`, not shifted; −100 is left out.
            logits_to_keep: the last n positions, or the given ones, alone get logits; 0 for all.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
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
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            router_logits=outputs.router_logits,
        )


# `generate` asks remote code for its signature at each token; kept here, it need not be unwrapped each time.
AxionForCausalLM.forward.__signature__ = inspect.signature(AxionForCausalLM.forward)

__all__ = ["AxionForCausalLM", "AxionModel", "AxionPreTrainedModel"]
