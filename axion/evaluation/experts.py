"""What the routed experts of a model do: how evenly they are used, and what each of them is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from axion.data.prepare import ValidationDocument
from axion.errors import AxionError
from axion.evaluation.choices import spread
from axion.evaluation.intervals import bootstrap_interval
from axion.evaluation.subject import NotApplicable, Subject
from axion.inference.routing import expert_load, routing_rows
from axion.inference.scoring import score_texts
from axion.inference.variants import with_tampering
from axion.kernels.stored import tampering_of
from axion.model.modeling_axion import AxionForCausalLM
from axion.tampering import Expert
from axion.training.validation import DocumentLoss, document_losses, total_loss

MOST_DOCUMENTS, FEWEST_DOCUMENTS = 200, 25
"""Over how many of the held-out documents the worth of an expert is measured, evenly spread."""
PASSES = 3_200
"""Documents that are read for all experts of a model together: the more experts, the fewer documents for each."""
DEAD = 0.01
"""An expert that reads less than this part of its fair share of the tokens counts as dead."""


def measure_experts(subject: Subject) -> dict:
    """Load, entropy and dead experts of each layer, and the loss without each expert.

    Returns:
        "documents", "tokens" and "nats_per_token" of the whole model;
        "rows": for each pass through a layer with routed experts "layer" and "loop", "load" (multiples of the fair
        share), "entropy" (of the load, 1 where it is even) and "dead" (experts, numbered from 1);
        "worth": for each expert of each layer "layer", "expert" (both numbered from 1), "nats_per_token" (how much
        higher the loss is while the expert is muted, see `axion.tampering`) and "interval" over documents. It is left
        out where muting leaves too few experts to choose from.
    """
    release = subject.release
    if not release.config.mixture_layers:
        raise NotApplicable("the model has no experts: every token passes through all of its weights")
    experts = len(release.config.mixture_layers) * release.config.n_routed_experts
    count = max(FEWEST_DOCUMENTS, min(MOST_DOCUMENTS, PASSES // experts))
    documents: Any = spread(subject.validation, count)
    whole = document_losses(release.model, documents)
    return {
        "documents": len(documents),
        "tokens": sum(loss.tokens for loss in whole),
        "nats_per_token": total_loss(whole).nats_per_token,
        "rows": _rows(subject, documents),
        "worth": _worth(subject, documents, whole),
    }


def measure_absences(model: AxionForCausalLM, texts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """How well the model predicts every token of some texts, and how much worse without each of its experts.

    Unlike `measure_experts` it takes the texts as they are, says how often the likeliest token was right, and gives no
    intervals.

    Args:
        texts: token ids; what exceeds the context is left out.

    Returns:
        "documents", "tokens", "nats_per_token" and "accuracy" of the whole model, and "absences": for each expert of
        each layer "layer", "expert" (both numbered from 1), "nats_per_token" and "accuracy" without it, as differences
        to the whole model's. Experts without which too few would be left to choose from are left out.

    Raises:
        AxionError: the model has no experts, or the texts have no token to predict.
    """
    experts, context = _experts_of(model), model.config.max_position_embeddings
    if not experts:
        raise AxionError("the model has no experts: every token passes through all of its weights")
    pieces = [ids[:context] for ids in texts if len(ids) > 1]
    if not pieces:
        raise AxionError("the texts have no token to predict")
    nats, accuracy = _mean_scores(model, pieces)
    absences = []
    for expert in experts:
        try:
            variant = with_tampering(model, tampering_of(model).without(expert))
        except AxionError:  # too few would be left
            continue
        nats_without, accuracy_without = _mean_scores(variant, pieces)
        difference = {"nats_per_token": nats_without - nats, "accuracy": accuracy_without - accuracy}
        absences.append({"layer": expert.layer, "expert": expert.number, **difference})
    tokens = sum(len(ids) - 1 for ids in pieces)
    whole = {"documents": len(pieces), "tokens": tokens, "nats_per_token": nats, "accuracy": accuracy}
    return {**whole, "absences": absences}


def _mean_scores(model: AxionForCausalLM, texts: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Nats per predicted token, and the share of tokens that the model would have predicted."""
    scores = score_texts(model, texts)
    nats_T = -np.concatenate([each.log_probabilities_T for each in scores])
    right_T = np.concatenate([each.right_T for each in scores])
    return float(nats_T.mean(dtype=np.float64)), float(right_T.mean())


def _experts_of(model: AxionForCausalLM) -> list[Expert]:
    """Every routed expert of the model, layer by layer."""
    numbers = range(1, model.config.n_routed_experts + 1)
    return [Expert(index + 1, number) for index in model.config.mixture_layers for number in numbers]


def _rows(subject: Subject, documents: Sequence[ValidationDocument]) -> list[dict]:
    config = subject.release.config
    counts_LE = expert_load(subject.release.model, [document.ids.tolist() for document in documents])
    shares_LE = counts_LE / counts_LE.sum(dim=1, keepdim=True)
    return [
        {
            **row._asdict(),
            "load": [round(share * config.n_routed_experts, 4) for share in shares_E.tolist()],
            "entropy": round(_evenness(shares_E), 4),
            "dead": [
                number
                for number, share in enumerate(shares_E.tolist(), start=1)
                if share * config.n_routed_experts < DEAD
            ],
        }
        for row, shares_E in zip(routing_rows(config), shares_LE, strict=True)
    ]


def _evenness(shares_E: torch.Tensor) -> float:
    """The entropy of a distribution as a part of the highest that it may have."""
    if len(shares_E) == 1:
        return 1.0
    return torch.special.entr(shares_E.double()).sum().item() / math.log(len(shares_E))


def _worth(
    subject: Subject, documents: Sequence[ValidationDocument], whole: Sequence[DocumentLoss]
) -> list[dict[str, Any]]:
    model = subject.release.model
    experts = _experts_of(model)
    sizes, worth = [loss.tokens for loss in whole], []
    for expert in tqdm(experts, "experts", unit="expert", disable=not subject.progress, leave=False):
        try:
            variant = with_tampering(model, tampering_of(model).without(expert))
        except AxionError:  # too few would be left
            continue
        without = document_losses(variant, documents)
        more = [muted.nats - loss.nats for muted, loss in zip(without, whole, strict=True)]
        figures = {"nats_per_token": round(sum(more) / sum(sizes), 6), "interval": bootstrap_interval(more, sizes)}
        worth.append({"layer": expert.layer, "expert": expert.number, **figures})
    return worth
