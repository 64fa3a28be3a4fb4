"""What training adds to the next-token loss: label smoothing, the weight of multi-token prediction, load balance.

Shape suffixes in names: B batch, S positions, V vocabulary, T all tokens (B·S), E routed experts, K experts per token.
"""

import torch
import torch.nn.functional as F

from axion.labels import IGNORED
from axion.model.configuration_axion import AxionConfig
from axion.model.mixture_axion import AxionMoE, AxionRouter
from axion.model.modeling_axion import AxionForCausalLM
from axion.model.mtp_axion import AxionMTPLayer
from axion.recipe import TrainingRecipe


def smooth_labels(model: AxionForCausalLM, smoothing: float) -> None:
    """Makes the model's losses, those of multi-token prediction too, smooth their labels while it is in training mode.

    In eval mode the loss stays the plain one.

    Args:
        smoothing: `label_smoothing` of `torch.nn.functional.cross_entropy`.
    """

    def loss_function(logits, labels, vocab_size=None, num_items_in_batch=None, **_) -> torch.Tensor:
        return next_token_loss(logits, labels, num_items_in_batch, smoothing if model.training else 0.0)

    model.loss_function = loss_function


def next_token_loss(
    logits_BSV: torch.Tensor,
    labels_BS: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """The loss of `AxionForCausalLM` with smoothed labels, in nats: a mean, or a sum over `num_items_in_batch`."""
    logits_TV, labels_T = logits_BSV[:, :-1].float().flatten(0, 1), labels_BS[:, 1:].flatten()
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = F.cross_entropy(logits_TV, labels_T, ignore_index=IGNORED, reduction=reduction, label_smoothing=smoothing)
    return loss if num_items_in_batch is None else loss / num_items_in_batch


def mtp_weight(training: TrainingRecipe, step: int, steps: int) -> float:
    """λ, the weight of the loss of multi-token prediction in the step after `step` others of a run.

    Where a finished run goes on for more epochs, λ stays at its second value.
    """
    first, then = training.mtp_weight
    steps = training.restarts[0] if training.restarts else steps
    return first if 3 * step < 2 * steps else then


def record_logits(layer: AxionMTPLayer, into: list[torch.Tensor]) -> None:
    """Appends the router's logits `[B·S, E]` of every pass through a layer of multi-token prediction to a list.

    The model's own `router_logits` are those of the decoder alone.
    """
    assert isinstance(layer.mlp, AxionMoE)

    def hook(_router: AxionRouter, _inputs: tuple, outputs: tuple) -> None:
        into.append(outputs[0])

    layer.mlp.gate.register_forward_hook(torch.compiler.disable(hook))  # pyright: ignore[reportArgumentType]  # see balance.py


def sequence_balance_loss(
    router_logits: tuple[torch.Tensor, ...], config: AxionConfig, batch_size: int
) -> torch.Tensor:
    """The complementary sequence-wise balance loss, before its weight α (report, equations 17–20).

    For each sequence, Σᵢ fᵢ·Pᵢ with fᵢ the share of its tokens whose K highest affinities include expert i, over the
    fair share K/E, and Pᵢ the mean of its normalised affinity. Averaged over sequences, summed over layers; a layer
    with an exactly even load gives 1.

    Args:
        router_logits: of each pass through a router `[B·S, E]`, as `output_router_logits=True` returns them and
            `record_logits` records them.
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
