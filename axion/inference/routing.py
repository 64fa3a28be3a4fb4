"""Which experts read which token: the routing of one pass, the load of the experts, the tokens that each one favours.

The routing decision itself is the model's own (`layer.mlp.gate.choose`); nothing here repeats its rules.

Shape suffixes: T tokens, L mixture-of-experts layers, E routed experts, K experts per token, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from axion.model.mixture_axion import AxionMoE, AxionRouter
from axion.model.modeling_axion import AxionForCausalLM

Routing = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Per mixture-of-experts layer: gates [T, K] and experts [T, K], the heaviest expert first, experts numbered from 0."""

TOKENS_PER_BATCH = 8192


def routers(model: AxionForCausalLM) -> list[AxionRouter]:
    """The routers of the mixture-of-experts layers, from the first layer to the last."""
    return [layer.mlp.gate for layer in model.model.layers if isinstance(layer.mlp, AxionMoE)]


def route(model: AxionForCausalLM, router_logits: Sequence[torch.Tensor]) -> Routing:
    """The experts that read each token and their weights, from `output_router_logits=True`'s tuple of [T, E]."""
    choices = (router.choose(logits_TE) for router, logits_TE in zip(routers(model), router_logits, strict=True))
    return tuple(_heaviest_first(gates_TK, experts_TK) for gates_TK, experts_TK in choices)


def _heaviest_first(gates_TK: torch.Tensor, experts_TK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The router's own order is that of score + bias; people read the weights."""
    gates_TK, order_TK = gates_TK.sort(dim=-1, descending=True)
    return gates_TK, experts_TK.gather(-1, order_TK)


class Explainer:
    """Says for people how each token was routed."""

    def __init__(self, model: AxionForCausalLM):
        self._model = model
        # A new router's bias is zero, and its choice looks at nothing else of its own.
        self._unbiased = AxionRouter(model.config) if routers(model) else None

    def __call__(self, router_logits: Sequence[torch.Tensor], tokens: int) -> list[dict[str, list]]:
        """The routing of so many tokens, from `output_router_logits=True`'s tuple of [T, E], one for each layer.

        Returns:
            Per token, with lists over the layers: "experts" [L][K] and their "gates" [L][K], the heaviest first; their
            "affinities" [L][K], which are the scores before the balancing bias; "displaced" [L], the experts, few or
            none, that affinity alone would have chosen and the bias did not.
        """
        if self._unbiased is None:
            return [{"experts": [], "gates": [], "affinities": [], "displaced": []} for _ in range(tokens)]
        gates_TLK, experts_TLK = (torch.stack(x, dim=1) for x in zip(*route(self._model, router_logits), strict=True))
        logits_TLE = torch.stack(tuple(router_logits), dim=1)
        affinities_TLK = logits_TLE.sigmoid().gather(-1, experts_TLK)
        unbiased_TLK = self._unbiased.choose(logits_TLE.flatten(0, 1))[1].view_as(experts_TLK)
        columns = (part.tolist() for part in (experts_TLK, gates_TLK, affinities_TLK, unbiased_TLK))
        return [
            {
                "experts": experts_LK,
                "gates": gates_LK,
                "affinities": affinities_LK,
                "displaced": [sorted({*free} - {*taken}) for free, taken in zip(unbiased_LK, experts_LK, strict=True)],
            }
            for experts_LK, gates_LK, affinities_LK, unbiased_LK in zip(*columns, strict=True)
        ]


def expert_load(model: AxionForCausalLM, documents: Sequence[Sequence[int]]) -> torch.Tensor:
    """How many tokens of these documents each expert read: integers [L, E]. Every row sums to tokens × K."""
    return count_reads(model, documents)[0].sum(dim=-1)


def count_reads(model: AxionForCausalLM, documents: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """How often each expert read each token of the vocabulary, integers [L, E, V], and how often it was there, [V]."""
    vocabulary, experts = model.config.vocab_size, model.config.n_routed_experts
    reads_LEV = torch.zeros(len(routers(model)), experts, vocabulary, dtype=torch.long)
    seen_V = torch.zeros(vocabulary, dtype=torch.long)
    for tokens_T, routing in _read(model, documents):
        seen_V += tokens_T.bincount(minlength=vocabulary)
        for reads_EV, (_, experts_TK) in zip(reads_LEV, routing, strict=True):
            cells = experts_TK * vocabulary + tokens_T.unsqueeze(-1)
            reads_EV += cells.flatten().bincount(minlength=experts * vocabulary).view_as(reads_EV)
    return reads_LEV, seen_V


def expert_favourites(
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Sequence[int]],
    top: int = 12,
    min_count: int = 10,
) -> list[dict]:
    """For every expert the tokens that it reads more often than chance would have it.

    Lift is P(expert reads | token) ÷ P(expert reads), 1 where the expert doesn't care about the token. Tokens seen
    fewer than `min_count` times are left out: their lift is noise.

    Returns:
        One entry per layer with experts and expert, both numbered from 1, with the share of all tokens that the expert
        reads: {"layer", "expert", "share", "tokens": [{"text", "count", "seen", "lift", "z"}, …]}, the highest lift
        first, at most `top` and none with a lift of 1 or less. `count` is how often the expert read the token, `seen`
        how often the token was there, and `z` how many standard deviations lie between that count and chance.
    """
    reads_LEV, seen_V = count_reads(model, documents)
    first_layer = model.config.mixture_layers.start + 1
    favourites = []
    for layer, reads_EV in enumerate(reads_LEV, start=first_layer):
        for expert, reads_V in enumerate(reads_EV, start=1):
            share = reads_V.sum().item() / max(seen_V.sum().item(), 1)
            lift_V = reads_V / seen_V.clamp(min=1) / (share or 1.0)
            lift_V[seen_V < min_count] = 0
            chance_V = seen_V * share
            z_V = (reads_V - chance_V) / (chance_V * (1 - share)).clamp(min=1e-9).sqrt()
            # Among equal lifts the most frequent token first: sorted by count, then stably by lift.
            order = reads_V.argsort(descending=True)
            order = order[lift_V[order].argsort(descending=True, stable=True)][:top]
            tokens = [
                {
                    "text": tokenizer.decode([token]),
                    "count": reads_V[token].item(),
                    "seen": seen_V[token].item(),
                    "lift": round(lift_V[token].item(), 3),
                    "z": round(z_V[token].item(), 1),
                }
                for token in order.tolist()
                if lift_V[token] > 1
            ]
            favourites.append({"layer": layer, "expert": expert, "share": round(share, 4), "tokens": tokens})
    return favourites


@torch.inference_mode()
def _read(model: AxionForCausalLM, documents: Sequence[Sequence[int]]) -> Iterator[tuple[torch.Tensor, Routing]]:
    """Runs every document once and alone, in pieces where the context is shorter; yields a batch's real tokens [T]."""
    context = model.config.max_position_embeddings
    pieces = [document[start : start + context] for document in documents for start in range(0, len(document), context)]
    for batch in batches_by_length(pieces, TOKENS_PER_BATCH):
        # Right padding: causal attention never looks at it, so that no mask is needed.
        rows = [torch.as_tensor(pieces[index], dtype=torch.long) for index in batch]
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        real_T = (torch.arange(input_ids.shape[1]) < lengths.unsqueeze(-1)).flatten()
        logits = model(input_ids, use_cache=False, output_router_logits=True, logits_to_keep=1).router_logits
        yield input_ids.flatten()[real_T], route(model, [layer_TE[real_T] for layer_TE in logits])


def batches_by_length(sequences: Sequence[Sequence[int]], tokens_per_batch: int) -> Iterator[list[int]]:
    """Indices of the sequences in batches of similar length, longest first, of at most so many tokens with padding."""
    order = sorted((index for index, ids in enumerate(sequences) if len(ids)), key=lambda index: -len(sequences[index]))
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // len(sequences[order[start]]))
        yield order[start : start + size]
        start += size
