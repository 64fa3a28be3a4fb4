"""Multi-head latent attention and grouped-query attention, with the norm and the rotary positions they need.

Shape suffixes in names: B batch, S query positions, T cached and new positions, D hidden, H heads, G key-value heads, R
key-value latent, N and P a head's dimensions without and with rotary positions, C all of them. A `[B, H, S, N]` tensor
of queries is `queries_BHSN`.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.

Source: DeepSeek-V3 technical report, arXiv 2412.19437, section 2.1.1; DeepSeek-V2, arXiv 2405.04434, section 2.1, for
the absorbed form; grouped queries: arXiv 2305.13245. Parameter names and shapes are those of transformers'
`DeepseekV3ForCausalLM` and `LlamaForCausalLM`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import MoeModelOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_axion import AxionConfig
from .projection_axion import projection
from .shape_axion import LATENT_NORM_EPS, softmax_scale

CACHE_ARGUMENT = "cache" if "cache" in MoeModelOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What the installed transformers calls the key-value cache, in arguments and outputs: `cache` since version 5.24."""


def either_cache(cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """The cache, under whichever of its two names it was passed. Raises TypeError where both were used."""
    if cache is not None and past_key_values is not None:
        raise TypeError("pass the cache as cache or as past_key_values, not as both")
    return past_key_values if cache is None else cache


def under_its_name(cache: Cache | None) -> dict[str, Any]:
    """The cache as the keyword argument that the installed transformers expects."""
    return {CACHE_ARGUMENT: cache}


class AxionRMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, computed in fp32 whatever the input's type."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.variance_epsilon = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = F.rms_norm(hidden.float(), self.weight.shape, eps=self.variance_epsilon)
        return self.weight * normed.to(hidden.dtype)


# --- Rotary positions -------------------------------------------------------------------------------------------------


class AxionRotaryEmbedding(nn.Module):
    """Cosines and sines of the rotary angles, `[B, 1, S, P/2]` each: one angle per rotated pair, for every head.

    The class's name, `inv_freq`, `original_inv_freq` and `compute_default_rope_parameters` are what transformers looks
    for to refill the buffers, which are not saved, after a model was built on the meta device.
    """

    inv_freq: torch.Tensor

    def __init__(self, config: AxionConfig):
        super().__init__()
        self.config = config
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.rope_type = config.rope_parameters["rope_type"]
        frequencies_of = self.compute_default_rope_parameters
        if self.rope_type != "default":
            frequencies_of = ROPE_INIT_FUNCTIONS[self.rope_type]
        inv_freq, self.attention_scaling = frequencies_of(config)
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(config: AxionConfig, device=None, **kwargs) -> tuple[torch.Tensor, float]:
        """Frequencies θ^(−2i/P) for i < P/2, and the factor 1 on cosines and sines."""
        exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float, device=device)
        return config.rope_parameters["rope_theta"] ** (-exponent / config.head_dim), 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[:, None, :, None].float() * self.inv_freq.to(device=hidden.device, dtype=torch.float)
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return cos.to(hidden.dtype), sin.to(hidden.dtype)


def rotate(
    vectors_BHSP: torch.Tensor, cos_B1Sp: torch.Tensor, sin_B1Sp: torch.Tensor, interleave: bool
) -> torch.Tensor:
    """Rotates each pair of dimensions by the angle of its position.

    The pairs are (0, 1), (2, 3), … with `interleave`, and (0, P/2), (1, P/2 + 1), … without. In both cases the result
    has the first members of all pairs before the second ones. Queries and keys have the same order, so their products
    do not depend on it.
    """
    if interleave:
        first, second = vectors_BHSP[..., 0::2], vectors_BHSP[..., 1::2]
    else:
        first, second = vectors_BHSP.chunk(2, dim=-1)
    turned_first = torch.addcmul(first * cos_B1Sp, second, sin_B1Sp, value=-1)
    turned_second = torch.addcmul(second * cos_B1Sp, first, sin_B1Sp)
    return torch.cat([turned_first, turned_second], dim=-1)


# --- Latent attention -------------------------------------------------------------------------------------------------


def _is_plain(layer: nn.Module) -> bool:
    """Whether calling a linear layer does no more than multiply by a weight that is in memory."""
    hooks = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return (
        type(layer) is nn.Linear  # no adapter, no quantized layer
        and type(layer.weight) is nn.Parameter  # no tensor subclass
        and layer.weight.device.type != "meta"  # not offloaded
        and "forward" not in vars(layer)  # not wrapped, as accelerate does
        and not any(hooks)
    )


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Attention written out, for `output_attentions`; returns `[B, S, H, ·]` and the weights `[B, H, S, T]`."""
    key, value = (part.repeat_interleave(module.num_key_value_groups, dim=1) for part in (key, value))
    scores_BHST = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores_BHST = scores_BHST + attention_mask
    weights_BHST = scores_BHST.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights_BHST = F.dropout(weights_BHST, p=dropout, training=module.training)
    return (weights_BHST @ value).transpose(1, 2).contiguous(), weights_BHST


class AxionAttention(nn.Module):
    """What both kinds of attention share: the choice among transformers' attention functions."""

    config: AxionConfig
    scaling: float
    attention_dropout: float

    def _attend(self, query, key, value, attention_mask, **kwargs):
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation or "eager", eager_attention)
        dropout = self.attention_dropout if self.training else 0.0
        return attend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)


class AxionLatentAttention(AxionAttention):
    """Multi-head latent attention: keys and values come from one narrow latent per token, which alone is cached.

    c = norm(W_dkv x) is the latent (R numbers) and k_rope = rotate(W_kr x) the rotary key that all heads share (P
    numbers); together they are the cache. Many queries at once expand c to keys and values per head. A single new token
    absorbs the up-projection instead: q·(W_uk c) = (W_ukᵀ q)·c, so W_uk is applied to the query, attention runs over
    the latents as if they were one key-value head, and W_uv is applied to the result. The sums are the same, in another
    order.

    Absorption reads the weight of `kv_b_proj` without calling the module, so it is used only where that makes no
    difference: not with hooks, adapters, quantized or offloaded weights.
    """

    def __init__(self, config: AxionConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = True
        self.num_heads = config.num_attention_heads
        self.num_key_value_groups = 1  # the latents are expanded to every head, so no head shares another's key
        self.scaling = softmax_scale(config)
        self.attention_dropout = config.attention_dropout
        # Read once here: attribute access on a config is slow.
        self.interleave = config.rope_interleave
        # How the last dimension splits: a query, the cached values of a token, a head's expanded latent.
        self.query_parts = [config.qk_nope_head_dim, config.qk_rope_head_dim]
        self.latent_parts = [config.kv_lora_rank, config.qk_rope_head_dim]
        self.expanded_parts = [config.qk_nope_head_dim, config.v_head_dim]

        query_width = self.num_heads * sum(self.query_parts)
        self.compresses_queries = config.q_lora_rank is not None
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(config.hidden_size, query_width, bias=False)
        else:
            self.q_a_proj = nn.Linear(config.hidden_size, config.q_lora_rank, bias=config.attention_bias)
            self.q_a_layernorm = AxionRMSNorm(config.q_lora_rank, LATENT_NORM_EPS)
            self.q_b_proj = nn.Linear(config.q_lora_rank, query_width, bias=False)
        latent_width = sum(self.latent_parts)
        self.kv_a_proj_with_mqa = nn.Linear(config.hidden_size, latent_width, bias=config.attention_bias)
        self.kv_a_layernorm = AxionRMSNorm(config.kv_lora_rank, LATENT_NORM_EPS)
        expanded_width = self.num_heads * sum(self.expanded_parts)
        self.kv_b_proj = nn.Linear(config.kv_lora_rank, expanded_width, bias=False)
        self.o_proj = nn.Linear(self.num_heads * config.v_head_dim, config.hidden_size, bias=config.attention_bias)

    def forward(
        self,
        hidden_BSD: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        slot: int | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the block's output `[B, S, D]` and, from the eager implementation, the weights `[B, H, S, T]`.

        `slot` is the cache's entry to use, by default the layer's own index; a layer that is looped has several.
        """
        q_nope_BHSN, q_rope_BHSP = self._queries(hidden_BSD, position_embeddings)
        latent_B1SR, k_rope_B1SP = self._latents(hidden_BSD, position_embeddings)
        absorb = False
        if (cache := either_cache(cache, past_key_values)) is not None:
            latent_B1SR, k_rope_B1SP = cache.update(latent_B1SR, k_rope_B1SP, self.layer_idx if slot is None else slot)
            absorb = hidden_BSD.shape[1] == 1 and _is_plain(self.kv_b_proj)

        if absorb:
            key_up_HNR, value_up_HvR = self._up_projections()
            query = torch.cat([q_nope_BHSN @ key_up_HNR, q_rope_BHSP], dim=-1)
            # Keys and values of every head: PyTorch's fused attention needs both to have the same width, so the rotary
            # part of the result is dropped below.
            key = value = torch.cat([latent_B1SR, k_rope_B1SP], dim=-1).expand(-1, self.num_heads, -1, -1)
        else:
            query, key, value = self._expanded(q_nope_BHSN, q_rope_BHSP, latent_B1SR, k_rope_B1SP)
        context_BSHx, weights = self._attend(query, key, value, attention_mask, **kwargs)
        if absorb:
            context_BHSR = context_BSHx[..., : value_up_HvR.shape[-1]].transpose(1, 2)
            context_BSHx = (context_BHSR @ value_up_HvR.mT).transpose(1, 2)
        return self.o_proj(context_BSHx.flatten(2)), weights

    def _queries(self, hidden_BSD, position_embeddings):
        if self.compresses_queries:
            queries = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(hidden_BSD)))
        else:
            queries = self.q_proj(hidden_BSD)
        queries_BHSQ = queries.view(*queries.shape[:2], self.num_heads, -1).transpose(1, 2)
        q_nope, q_rope = queries_BHSQ.split_with_sizes(self.query_parts, dim=-1)
        return q_nope, rotate(q_rope, *position_embeddings, interleave=self.interleave)

    def _latents(self, hidden_BSD, position_embeddings):
        compressed = self.kv_a_proj_with_mqa(hidden_BSD).unsqueeze(1)
        latent, k_rope = compressed.split_with_sizes(self.latent_parts, dim=-1)
        return self.kv_a_layernorm(latent), rotate(k_rope, *position_embeddings, interleave=self.interleave)

    def _expanded(self, q_nope_BHSN, q_rope_BHSP, latent_B1TR, k_rope_B1TP):
        """Queries, keys and values per head: `[B, H, S, N+P]`, `[B, H, T, N+P]`, `[B, H, T, v]`."""
        expanded_BHTx = self.kv_b_proj(latent_B1TR.squeeze(1)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k_nope, value = expanded_BHTx.split(self.expanded_parts, dim=-1)
        key = torch.cat([k_nope, k_rope_B1TP.expand(-1, self.num_heads, -1, -1)], dim=-1)
        return torch.cat([q_nope_BHSN, q_rope_BHSP], dim=-1), key, value

    def _up_projections(self) -> tuple[torch.Tensor, torch.Tensor]:
        """W_uk `[H, N, R]` and W_uv `[H, v, R]`, views of the one weight that holds both."""
        weight_HxR = self.kv_b_proj.weight.view(self.num_heads, -1, self.latent_parts[0])
        key_up_HNR, value_up_HvR = weight_HxR.split_with_sizes(self.expanded_parts, dim=1)
        return key_up_HNR, value_up_HvR


# --- Grouped-query attention ------------------------------------------------------------------------------------------


class AxionGroupedQueryAttention(AxionAttention):
    """Grouped-query attention: H query heads share G keys and values, which are cached as they are.

    Rotary positions turn the whole head, in pairs of its two halves, as in Llama. Each projection is a full matrix or
    two factors of `projection_rank`.
    """

    def __init__(self, config: AxionConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = True
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = projection(config, config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = projection(config, config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = projection(config, config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = projection(config, queries, config.hidden_size, bias=config.attention_bias)

    def forward(
        self,
        hidden_BSD: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        slot: int | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `AxionLatentAttention.forward`."""
        query_BHSC, key_BGSC, value_BGSC = (
            part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.q_proj(hidden_BSD), self.k_proj(hidden_BSD), self.v_proj(hidden_BSD))
        )
        query_BHSC = rotate(query_BHSC, *position_embeddings, interleave=False)
        key_BGTC, value_BGTC = rotate(key_BGSC, *position_embeddings, interleave=False), value_BGSC
        if (cache := either_cache(cache, past_key_values)) is not None:
            key_BGTC, value_BGTC = cache.update(key_BGTC, value_BGTC, self.layer_idx if slot is None else slot)
        context_BSHC, weights = self._attend(query_BHSC, key_BGTC, value_BGTC, attention_mask, **kwargs)
        return self.o_proj(context_BSHC.flatten(2)), weights
