"""One layer of the decoder: attention and a feed-forward part, each with a norm and a residual.

Shape suffixes in names: B batch, S positions, D hidden.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.
"""

import torch
import torch.nn.functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_axion import AxionGroupedQueryAttention, AxionLatentAttention, AxionRMSNorm
from .configuration_axion import AxionConfig
from .mixture_axion import AxionMLP, AxionMoE


class AxionDecoderLayer(GradientCheckpointingLayer):
    """Attention, then a mixture of experts (in the first layers a dense SwiGLU), each with a norm and a residual."""

    def __init__(self, config: AxionConfig, layer_idx: int):
        super().__init__()
        attention = AxionLatentAttention if config.attention == "mla" else AxionGroupedQueryAttention
        self.self_attn = attention(config, layer_idx)
        has_experts = layer_idx >= config.first_k_dense_replace
        self.mlp = AxionMoE(config) if has_experts else AxionMLP(config, config.intermediate_size)
        self.input_layernorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = config.dropout

    def forward(self, hidden_BSD: torch.Tensor, **kwargs) -> torch.Tensor:
        attended, _ = self.self_attn(self.input_layernorm(hidden_BSD), **kwargs)
        hidden_BSD = hidden_BSD + F.dropout(attended, self.dropout, self.training)
        fed_forward = self.mlp(self.post_attention_layernorm(hidden_BSD))
        return hidden_BSD + F.dropout(fed_forward, self.dropout, self.training)
