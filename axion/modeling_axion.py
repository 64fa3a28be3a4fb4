"""Axion's decoder, from scratch in PyTorch: DeepSeek-V3's latent attention and mixture of experts.

Read from top to bottom: norm, rotary positions, latent attention, SwiGLU, router, experts, layer, model.

Shape suffixes in names: B batch, S query positions, T cached and new positions (in the mixture: all tokens, B·S),
D hidden, H heads, R key-value latent, N and P a head's dimensions without and with rotary positions, E routed experts,
K experts per token, F expert width, V vocabulary. A `[B, H, S, N]` tensor of queries is `queries_BHSN`.

This file travels to the letter into every release as remote code, so it imports torch and transformers alone.

Source: DeepSeek-V3 technical report, arXiv 2412.19437, section 2.1; DeepSeek-V2, arXiv 2405.04434, section 2.1, for the
absorbed form of latent attention. Parameter names and shapes are those of transformers' `DeepseekV3ForCausalLM`.
"""

import inspect
import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin
from transformers.integrations import use_experts_implementation
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import MoeCausalLMOutputWithPast, MoeModelOutputWithPast
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_axion import AxionConfig


class AxionRMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, computed in fp32 whatever the input's type."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.variance_epsilon = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.dtype != torch.float32:
            normed = F.rms_norm(hidden.float(), self.weight.shape, eps=self.variance_epsilon)
            return self.weight * normed.to(hidden.dtype)
        if hidden.numel() == len(self.weight) and hidden.is_cpu and not torch.is_grad_enabled():
            return self._one_vector(hidden)
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.variance_epsilon)

    def _one_vector(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same in three operations instead of eight, for a token by itself: they are what its norms cost."""
        vector = hidden.view(-1)
        mean_square = torch.dot(vector, vector).item() / len(vector)
        return hidden * (mean_square + self.variance_epsilon) ** -0.5 * self.weight


# --- Rotary positions -------------------------------------------------------------------------------------------------


class AxionRotaryEmbedding(nn.Module):
    """Cosines and sines of the rotary angles, `[B, 1, S, P/2]` each: one angle per rotated pair, for every head.

    The class's name, `inv_freq`, `original_inv_freq` and `compute_default_rope_parameters` are what transformers looks
    for to refill the buffers, which are not saved, after a model was built on the meta device.
    """

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
        exponent = torch.arange(0, config.qk_rope_head_dim, 2, dtype=torch.float, device=device)
        return config.rope_parameters["rope_theta"] ** (-exponent / config.qk_rope_head_dim), 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[:, None, :, None].float() * self.inv_freq.to(device=hidden.device, dtype=torch.float)
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return cos.to(hidden.dtype), sin.to(hidden.dtype)


def rotate(
    vectors_BHSP: torch.Tensor, cos_B1Sp: torch.Tensor, sin_B1Sp: torch.Tensor, interleave: bool
) -> torch.Tensor:
    """Turns each pair of dimensions by its position's angle.

    Pairs are neighbours, (0, 1), (2, 3), …, when `interleave` is set, and (0, P/2), (1, P/2 + 1), … when not. Either
    way the result has all first members before all second ones: queries and keys agree on that, so their products do
    not see it.
    """
    if interleave:
        first, second = vectors_BHSP[..., 0::2], vectors_BHSP[..., 1::2]
    else:
        first, second = vectors_BHSP.chunk(2, dim=-1)
    turned_first = torch.addcmul(first * cos_B1Sp, second, sin_B1Sp, value=-1)
    turned_second = torch.addcmul(second * cos_B1Sp, first, sin_B1Sp)
    return torch.cat([turned_first, turned_second], dim=-1)


def softmax_scale(config: AxionConfig) -> float:
    """1/√(head dimension), times YaRN's mscale(mscale_all_dim)² where the recipe sets that (as DeepSeek's own code)."""
    scale = config.qk_head_dim**-0.5
    rope = config.rope_parameters
    if rope["rope_type"] != "default" and rope.get("mscale_all_dim") and rope["factor"] > 1:
        scale *= (0.1 * rope["mscale_all_dim"] * math.log(rope["factor"]) + 1.0) ** 2
    return scale


# --- Latent attention -------------------------------------------------------------------------------------------------


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Attention written out, for `output_attentions`; returns `[B, S, H, ·]` and the weights `[B, H, S, T]`."""
    scores_BHST = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores_BHST = scores_BHST + attention_mask
    weights_BHST = scores_BHST.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights_BHST = F.dropout(weights_BHST, p=dropout, training=module.training)
    return (weights_BHST @ value).transpose(1, 2).contiguous(), weights_BHST


class AxionAttention(nn.Module):
    """Multi-head latent attention: keys and values come from one narrow latent per token, which alone is cached.

    c = norm(W_dkv x) is the latent (R numbers) and k_rope = rotate(W_kr x) the rotary key that all heads share (P
    numbers); together they are the cache. Many queries at once expand c to keys and values per head. A single new token
    does not: q·(W_uk c) = (W_ukᵀ q)·c, so the up-projection is absorbed into the query, attention runs over the latents
    as if they were one key-value head, and W_uv is applied to the one result. Same sums in another order.
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
        # What each token needs of the config is read here, for reading a config is slow.
        self.interleave = config.rope_interleave
        # N and P of a query; R and P of what is cached; N and v of what a latent is expanded to, per head
        self.query_parts = [config.qk_nope_head_dim, config.qk_rope_head_dim]
        self.latent_parts = [config.kv_lora_rank, config.qk_rope_head_dim]
        self.expanded_parts = [config.qk_nope_head_dim, config.v_head_dim]

        query_width = self.num_heads * sum(self.query_parts)
        self.compresses_queries = config.q_lora_rank is not None
        if not self.compresses_queries:
            self.q_proj = nn.Linear(config.hidden_size, query_width, bias=False)
        else:
            self.q_a_proj = nn.Linear(config.hidden_size, config.q_lora_rank, bias=config.attention_bias)
            self.q_a_layernorm = AxionRMSNorm(config.q_lora_rank, 1e-6)
            self.q_b_proj = nn.Linear(config.q_lora_rank, query_width, bias=False)
        latent_width = sum(self.latent_parts)
        self.kv_a_proj_with_mqa = nn.Linear(config.hidden_size, latent_width, bias=config.attention_bias)
        self.kv_a_layernorm = AxionRMSNorm(config.kv_lora_rank, 1e-6)
        expanded_width = self.num_heads * sum(self.expanded_parts)
        self.kv_b_proj = nn.Linear(config.kv_lora_rank, expanded_width, bias=False)
        self.o_proj = nn.Linear(self.num_heads * config.v_head_dim, config.hidden_size, bias=config.attention_bias)

    def forward(
        self,
        hidden_BSD: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the block's output `[B, S, D]` and, from the eager implementation, the weights `[B, H, S, T]`."""
        q_nope_BHSN, q_rope_BHSP = self._queries(hidden_BSD, position_embeddings)
        latent_B1SR, k_rope_B1SP = self._latents(hidden_BSD, position_embeddings)
        absorb = False
        if past_key_values is not None:
            # a wrapped up-projection (an adapter, a quantised layer) has no weight of its own to absorb
            plain = type(self.kv_b_proj) is nn.Linear
            absorb = plain and hidden_BSD.shape[1] == 1 and past_key_values.get_seq_length(self.layer_idx) > 0
            latent_B1SR, k_rope_B1SP = past_key_values.update(latent_B1SR, k_rope_B1SP, self.layer_idx)

        if absorb:
            key_up_HNR, value_up_HvR = self._up_projections()
            query = torch.cat([q_nope_BHSN @ key_up_HNR, q_rope_BHSP], dim=-1)
            # every head's keys, and its values too: the rotary part of the result is dropped below, for PyTorch's fast
            # attention wants keys and values of one width
            key = value = torch.cat([latent_B1SR, k_rope_B1SP], dim=-1).expand(-1, self.num_heads, -1, -1)
        else:
            query, key, value = self._expanded(q_nope_BHSN, q_rope_BHSP, latent_B1SR, k_rope_B1SP)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        context_BSHx, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
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
        return q_nope, rotate(q_rope, *position_embeddings, self.interleave)

    def _latents(self, hidden_BSD, position_embeddings):
        compressed = self.kv_a_proj_with_mqa(hidden_BSD).unsqueeze(1)
        latent, k_rope = compressed.split_with_sizes(self.latent_parts, dim=-1)
        return self.kv_a_layernorm(latent), rotate(k_rope, *position_embeddings, self.interleave)

    def _expanded(self, q_nope_BHSN, q_rope_BHSP, latent_B1TR, k_rope_B1TP):
        """Queries, keys and values per head: `[B, H, S, N+P]`, `[B, H, T, N+P]`, `[B, H, T, v]`."""
        expanded_BHTx = self.kv_b_proj(latent_B1TR.squeeze(1)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k_nope, value = expanded_BHTx.split(self.expanded_parts, dim=-1)
        key = torch.cat([k_nope, k_rope_B1TP.expand(-1, self.num_heads, -1, -1)], dim=-1)
        return torch.cat([q_nope_BHSN, q_rope_BHSP], dim=-1), key, value

    def _up_projections(self) -> tuple[torch.Tensor, torch.Tensor]:
        """W_uk `[H, N, R]` and W_uv `[H, v, R]`, views of the one weight that holds both."""
        weight_HxR = self.kv_b_proj.weight.view(self.num_heads, -1, self.latent_parts[0])
        return weight_HxR.split_with_sizes(self.expanded_parts, dim=1)


# --- Feed-forward: SwiGLU, router, experts ----------------------------------------------------------------------------


class AxionMLP(nn.Module):
    """SwiGLU: down(act(gate(x)) · up(x)). The dense layers and the shared experts."""

    def __init__(self, config: AxionConfig, intermediate_size: int):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, config.hidden_size, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))


class AxionRouter(nn.Module):
    """Chooses K of E experts per token by sigmoid affinity (report, equations 12–16).

    `e_score_correction_bias` is added to the affinities only to choose; the weights of the chosen come from the
    affinities alone. It is no parameter: training moves it after each optimizer step towards an even load, it is saved
    with the weights and stays as it is otherwise.
    """

    def __init__(self, config: AxionConfig):
        super().__init__()
        self.chosen = config.num_experts_per_tok
        self.groups, self.eligible_groups = config.n_group, config.topk_group
        self.normalises, self.scaling = config.norm_topk_prob, config.routed_scaling_factor
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))

    def forward(self, hidden_TD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits `[T, E]`, weights `[T, K]` and indices `[T, K]` of the chosen experts, all computed in fp32."""
        logits_TE = F.linear(hidden_TD.float(), self.weight.float())
        return logits_TE, *self.choose(logits_TE)

    def choose(self, logits_TE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The routing decision on given logits: weights `[T, K]` and expert indices `[T, K]`."""
        scores_TE = logits_TE.sigmoid()
        experts_TK = self.corrected_scores(scores_TE).topk(self.chosen, dim=-1).indices
        weights_TK = scores_TE.gather(1, experts_TK)
        if self.normalises:
            weights_TK = weights_TK / (weights_TK.sum(dim=-1, keepdim=True) + 1e-20)
        return weights_TK * self.scaling, experts_TK

    def corrected_scores(self, scores_TE: torch.Tensor) -> torch.Tensor:
        """Affinities plus bias, −inf outside the `topk_group` groups whose two best experts add up to most."""
        corrected_TE = scores_TE + self.e_score_correction_bias
        if self.eligible_groups == self.groups:
            return corrected_TE
        corrected_Tge = corrected_TE.unflatten(-1, (self.groups, -1))
        best_groups = corrected_Tge.topk(2, dim=-1).values.sum(-1).topk(self.eligible_groups, dim=-1).indices
        closed_Tg = torch.ones_like(corrected_Tge[..., 0], dtype=torch.bool).scatter(1, best_groups, False)
        return corrected_Tge.masked_fill(closed_Tg.unsqueeze(-1), float("-inf")).flatten(1)


@use_experts_implementation
class AxionExperts(nn.Module):
    """The routed experts' SwiGLU weights, stacked: gate and up in one `[E, 2F, D]`, down `[E, D, F]`.

    `forward` is what transformers calls the "eager" implementation, the one for processors. For a GPU there is
    `model.set_experts_implementation("grouped_mm")`, transformers' own: it waits for no list of loads, and compiles.
    """

    def __init__(self, config: AxionConfig):
        super().__init__()
        experts, width, hidden = config.n_routed_experts, config.moe_intermediate_size, config.hidden_size
        self.num_experts = experts
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_TD: torch.Tensor, experts_TK: torch.Tensor, weights_TK: torch.Tensor) -> torch.Tensor:
        """The weighted sum of the chosen experts' outputs, `[T, D]`.

        The (token, expert) pairs are sorted by expert, so that every expert reads its tokens as one matrix. One token
        by itself, the usual case while a text is written, goes straight to its experts.
        """
        if len(hidden_TD) == 1:
            return self._one_token(hidden_TD, experts_TK, weights_TK)
        chosen = experts_TK.shape[-1]
        order = experts_TK.flatten().argsort(stable=True)
        rows_per_expert = experts_TK.flatten().bincount(minlength=self.num_experts).tolist()
        inputs = hidden_TD.index_select(0, order // chosen).split(rows_per_expert)
        outputs = []
        # unbind, not an index per expert: the backward pass of an index fills a zero tensor as large as all experts
        for rows_xD, gate_up_xD, down_DF in zip(
            inputs, self.gate_up_proj.unbind(), self.down_proj.unbind(), strict=True
        ):
            if len(rows_xD):
                outputs.append(self._expert(rows_xD, gate_up_xD, down_DF))
        sorted_weights = weights_TK.flatten().index_select(0, order).unsqueeze(-1)
        weighted = (torch.cat(outputs) * sorted_weights).to(hidden_TD.dtype)
        return torch.zeros_like(hidden_TD).index_add(0, order // chosen, weighted)

    def _one_token(self, hidden_1D, experts_1K, weights_1K):
        experts = experts_1K[0].tolist()
        outputs = [self._expert(hidden_1D, self.gate_up_proj[expert], self.down_proj[expert]) for expert in experts]
        return (weights_1K @ torch.cat(outputs).to(weights_1K.dtype)).to(hidden_1D.dtype)

    def _expert(self, rows_xD, gate_up_xD, down_DF):
        gate, up = F.linear(rows_xD, gate_up_xD).chunk(2, dim=-1)
        return F.linear(self.act_fn(gate) * up, down_DF)


class AxionMoE(nn.Module):
    """The shared experts, which read every token, plus the weighted sum of the routed experts that the router chose."""

    def __init__(self, config: AxionConfig):
        super().__init__()
        self.gate = AxionRouter(config)
        self.experts = AxionExperts(config)
        self.shared_experts = AxionMLP(config, config.moe_intermediate_size * config.n_shared_experts)

    def forward(self, hidden_BSD: torch.Tensor) -> torch.Tensor:
        hidden_TD = hidden_BSD.flatten(0, 1)
        _, weights_TK, experts_TK = self.gate(hidden_TD)
        routed_TD = self.experts(hidden_TD, experts_TK, weights_TK)
        return routed_TD.view_as(hidden_BSD) + self.shared_experts(hidden_BSD)


def sequence_balance_loss(
    router_logits: tuple[torch.Tensor, ...], config: AxionConfig, batch_size: int
) -> torch.Tensor:
    """The complementary sequence-wise balance loss, before its weight α (report, equations 17–20).

    For each sequence, Σᵢ fᵢ·Pᵢ with fᵢ the share of its tokens whose K highest affinities include expert i, over the
    fair share K/E, and Pᵢ the mean of its normalised affinity. Averaged over sequences, summed over layers; a layer
    with an exactly even load gives 1.

    Args:
        router_logits: per mixture layer `[B·S, E]`, as `output_router_logits=True` returns them.
        config: for K.
        batch_size: B; every position counts, so leave padding out of training windows.
    """
    total = router_logits[0].new_zeros(())
    for logits_TE in router_logits:
        scores_BSE = logits_TE.sigmoid().unflatten(0, (batch_size, -1))
        experts, chosen = scores_BSE.shape[-1], config.num_experts_per_tok
        top_BSK = scores_BSE.topk(chosen, dim=-1).indices
        load_BE = torch.zeros_like(scores_BSE).scatter(-1, top_BSK, 1.0).mean(dim=1) * (experts / chosen)
        affinity_BE = (scores_BSE / scores_BSE.sum(dim=-1, keepdim=True)).mean(dim=1)
        total = total + (load_BE * affinity_BE).sum(dim=-1).mean()
    return total


# --- The model --------------------------------------------------------------------------------------------------------


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
