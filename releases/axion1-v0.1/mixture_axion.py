"""The feed-forward part of a layer: SwiGLU, the router, and the mixture of shared and routed experts.

Shape suffixes in names: B batch, S positions, T all tokens (B·S), D hidden, E routed experts, K experts per token,
F expert width.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.

Source: DeepSeek-V3 technical report, arXiv 2412.19437, section 2.1.2.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN
from transformers.integrations.moe import use_experts_implementation

from .configuration_axion import AxionConfig
from .projection_axion import projection


class AxionMLP(nn.Module):
    """SwiGLU: down(act(gate(x)) · up(x)). The dense layers and the shared experts."""

    def __init__(self, config: AxionConfig, intermediate_size: int):
        super().__init__()
        self.gate_proj = projection(config, config.hidden_size, intermediate_size)
        self.up_proj = projection(config, config.hidden_size, intermediate_size)
        self.down_proj = projection(config, intermediate_size, config.hidden_size)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))


class AxionRouter(nn.Module):
    """Chooses K of E experts per token by sigmoid affinity (report, equations 12–16).

    `e_score_correction_bias` is added to the affinities only to choose; the weights of the chosen experts come from the
    affinities alone. It is a buffer, saved with the weights: training moves it towards an even load after each
    optimizer step, and nothing else changes it.
    """

    e_score_correction_bias: torch.Tensor

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
        """The routing decision for given logits: weights `[T, K]` and expert indices `[T, K]`."""
        scores_TE = logits_TE.sigmoid()
        experts_TK = self.corrected_scores(scores_TE).topk(self.chosen, dim=-1).indices
        weights_TK = scores_TE.gather(1, experts_TK)
        if self.normalises:
            weights_TK = weights_TK / (weights_TK.sum(dim=-1, keepdim=True) + 1e-20)
        return weights_TK * self.scaling, experts_TK

    def corrected_scores(self, scores_TE: torch.Tensor) -> torch.Tensor:
        """Affinities plus bias; −inf outside the `topk_group` groups with the highest sum of their two best experts."""
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

    `forward` is the "eager" implementation, the default and the fastest on a CPU. It reads how many tokens each expert
    has, which makes a GPU wait and breaks the graph of `torch.compile` and `torch.export`. Use one of transformers' own
    there: `model.set_experts_implementation("grouped_mm")` or, for few tokens at a time, `"batched_mm"`.
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

        The (token, expert) pairs are sorted by expert, so that every expert reads its tokens as one matrix.
        """
        chosen = experts_TK.shape[-1]
        order = experts_TK.flatten().argsort(stable=True)
        rows_per_expert = experts_TK.flatten().bincount(minlength=self.num_experts).tolist()
        inputs = hidden_TD.index_select(0, order // chosen).split(rows_per_expert)
        outputs = []
        # unbind instead of indexing: the backward pass of an index allocates a zero tensor as large as all experts
        for rows_xD, gate_up_xD, down_DF in zip(
            inputs, self.gate_up_proj.unbind(), self.down_proj.unbind(), strict=True
        ):
            if len(rows_xD):
                gate, up = F.linear(rows_xD, gate_up_xD).chunk(2, dim=-1)
                outputs.append(F.linear(self.act_fn(gate) * up, down_DF))
        sorted_weights = weights_TK.flatten().index_select(0, order).unsqueeze(-1)
        weighted = (torch.cat(outputs) * sorted_weights).to(hidden_TD.dtype)
        return torch.zeros_like(hidden_TD).index_add(0, order // chosen, weighted)


class AxionMoE(nn.Module):
    """The shared experts, which read every token, plus the weighted sum of the chosen routed experts."""

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
