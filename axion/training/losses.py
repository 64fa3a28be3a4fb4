"""Auxiliary losses.

Shape suffixes in names: B batch, S positions, T all tokens (B·S), E routed experts, K experts per token.
"""

import torch

from axion.model.configuration_axion import AxionConfig


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
