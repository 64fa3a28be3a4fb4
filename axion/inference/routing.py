"""Which experts read which token: the routing of one pass, the load of the experts, and their favourite tokens.

The model's own router decides (`layer.mlp.gate.choose`); nothing here repeats its rules.

Shape suffixes: T tokens, L routing rows (one for each pass through a layer with routed experts), E routed experts,
K experts per token, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from axion.data.batches import TOKENS_PER_BATCH, batches_by_length
from axion.inference.rows import RoutingRow, TokenRouting, routing_rows
from axion.kernels.stored import tampering_of
from axion.model.mixture_axion import AxionMoE, AxionRouter
from axion.model.modeling_axion import AxionForCausalLM

CONTEXT_DOCUMENTS = 200
"""Among how many documents a place of each favourite token is looked for."""
CONTEXT_TOKENS = 10
"""How many tokens of a place are kept on each side."""


class Selection(NamedTuple):
    """The experts of each token in one row, heaviest first."""

    gates_TK: torch.Tensor
    experts_TK: torch.Tensor
    """Numbered from 0."""


def routers(model: AxionForCausalLM) -> dict[RoutingRow, AxionRouter]:
    """The router of each routing row; a looped layer has the same one in all of its rows."""
    return {row: _router(model, row.layer) for row in routing_rows(model.config)}


def _router(model: AxionForCausalLM, layer: int) -> AxionRouter:
    mixture = model.model.layers[layer - 1].mlp
    assert isinstance(mixture, AxionMoE)
    return mixture.gate


def route(model: AxionForCausalLM, router_logits: Sequence[torch.Tensor]) -> dict[RoutingRow, Selection]:
    """The experts of each token and their weights.

    Args:
        router_logits: the model's output of this name (`output_router_logits=True`): a tensor [T, E] for each row.
    """
    rows = zip(routers(model).items(), router_logits, strict=True)
    return {row: _heaviest_first(*router.choose(logits_TE)) for (row, router), logits_TE in rows}


def _heaviest_first(gates_TK: torch.Tensor, experts_TK: torch.Tensor) -> Selection:
    """The router returns them ordered by score + bias."""
    gates_TK, order_TK = gates_TK.sort(dim=-1, descending=True)
    return Selection(gates_TK, experts_TK.gather(-1, order_TK))


class RoutingRecorder:
    """Turns a pass's router logits into one `TokenRouting` for each token."""

    def __init__(self, model: AxionForCausalLM):
        self._model = model
        self._rows = tuple(routers(model))
        # A new router's bias is zero; `choose` uses no other parameter.
        self._unbiased = AxionRouter(model.config).to(model.device) if self._rows else None
        if self._unbiased is not None:
            self._unbiased.chosen = tampering_of(model).experts_per_token(model.config)

    def __call__(self, router_logits: Sequence[torch.Tensor], tokens: int) -> list[TokenRouting]:
        """The routing of `tokens` tokens, from router logits as `route` takes them; without rows for a dense model."""
        if self._unbiased is None:
            return [TokenRouting((), [], [], [], [])] * tokens
        selections = route(self._model, router_logits).values()
        gates_TLK, experts_TLK = (torch.stack(part, dim=1) for part in zip(*selections, strict=True))
        logits_TLE = torch.stack(tuple(router_logits), dim=1)
        affinities_TLK = logits_TLE.sigmoid().gather(-1, experts_TLK)
        unbiased_TLK = self._unbiased.choose(logits_TLE.flatten(0, 1))[1].view_as(experts_TLK)
        columns = (part.tolist() for part in (experts_TLK, gates_TLK, affinities_TLK, unbiased_TLK))
        return [
            TokenRouting(
                self._rows,
                experts_LK,
                gates_LK,
                affinities_LK,
                [sorted({*free} - {*taken}) for free, taken in zip(unbiased_LK, experts_LK, strict=True)],
            )
            for experts_LK, gates_LK, affinities_LK, unbiased_LK in zip(*columns, strict=True)
        ]


def expert_load(model: AxionForCausalLM, documents: Sequence[Sequence[int]]) -> torch.Tensor:
    """How many tokens of the documents each expert read: integers [L, E]. Each row sums to tokens × K."""
    return count_reads(model, documents)[0].sum(dim=-1)


def count_reads(model: AxionForCausalLM, documents: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """How often each expert read each token of the vocabulary, integers [L, E, V], and each token's count, [V]."""
    vocabulary, experts = model.config.vocab_size, model.config.n_routed_experts
    reads_LEV = torch.zeros(len(routers(model)), experts, vocabulary, dtype=torch.long, device=model.device)
    seen_V = torch.zeros(vocabulary, dtype=torch.long, device=model.device)
    for tokens_T, routing in _routed_batches(model, documents):
        seen_V += tokens_T.bincount(minlength=vocabulary)
        for reads_EV, selection in zip(reads_LEV, routing.values(), strict=True):
            cells = selection.experts_TK * vocabulary + tokens_T.unsqueeze(-1)
            reads_EV += cells.flatten().bincount(minlength=experts * vocabulary).view_as(reads_EV)
    return reads_LEV.cpu(), seen_V.cpu()


def expert_favourites(
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Sequence[int]],
    top: int = 12,
    min_count: int = 10,
) -> list[dict]:
    """For each expert, the tokens that it reads more often than chance.

    Lift is P(expert reads | token) ÷ P(expert reads): 1 where the expert is indifferent to the token. It cannot exceed
    1 ÷ P(expert reads), which every token has that the expert always reads, so tokens are ranked by
    `log_likelihood_ratio`, which also counts how often that was seen. Tokens seen fewer than `min_count` times are left
    out.

    Returns:
        One entry for each expert of each row, all numbered from 1, with the share of all tokens that the expert reads:
        {"layer", "loop", "expert", "share", "tokens": [{"text", "count", "seen", "lift", "z", "context"}, …]}. The
        strongest comes first; there are at most `top`, all with a lift above 1. `count` is how often the expert read
        the token, `seen` how often the token occurred, and `z` how many standard deviations `count` is from chance.
        `context` is one place where the expert read it, [before, token, after]; it is left out where none was found
        among CONTEXT_DOCUMENTS documents.
    """
    reads_LEV, seen_V = count_reads(model, documents)
    favourites = []
    for row, reads_EV in zip(routers(model), reads_LEV, strict=True):
        for expert, reads_V in enumerate(reads_EV, start=1):
            share = reads_V.sum().item() / max(seen_V.sum().item(), 1)
            lift_V = reads_V / seen_V.clamp(min=1) / (share or 1.0)
            lift_V[seen_V < min_count] = 0
            chance_V = seen_V * share
            z_V = (reads_V - chance_V) / (chance_V * (1 - share)).clamp(min=1e-9).sqrt()
            candidates = (lift_V > 1).nonzero().flatten().tolist()
            strength = {
                token: log_likelihood_ratio(int(reads_V[token]), int(seen_V[token]), share) for token in candidates
            }
            order = sorted(candidates, key=lambda token: (-strength[token], token))[:top]
            tokens = [
                {
                    "id": token,
                    "text": tokenizer.decode([token]),
                    "count": reads_V[token].item(),
                    "seen": seen_V[token].item(),
                    "lift": round(lift_V[token].item(), 3),
                    "z": round(z_V[token].item(), 1),
                }
                for token in order
            ]
            favourites.append({**row._asdict(), "expert": expert, "share": round(share, 4), "tokens": tokens})
    _add_contexts(favourites, model, tokenizer, documents)
    return favourites


def log_likelihood_ratio(count: int, seen: int, share: float) -> float:
    """Dunning's G² of a token and an expert: twice the nats by which the expert's own rate for the token explains what
    was seen better than its rate for all tokens does (https://aclanthology.org/J93-1003/). Negative where it reads the
    token more rarely than others.

    Args:
        count: how often the expert read the token.
        seen: how often the token occurred.
        share: the part of all tokens that the expert reads, between 0 and 1.
    """
    rate = count / seen
    reads = count * math.log(rate / share) if count else 0.0
    misses = (seen - count) * math.log((1 - rate) / (1 - share)) if seen > count else 0.0
    return 2 * (reads + misses) if rate >= share else -2 * (reads + misses)


def _add_contexts(
    favourites: Sequence[dict],
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Sequence[int]],
) -> None:
    """Adds to each favourite one place where its expert read it, and removes its "id"."""
    wanted: dict[tuple[int, int, int], dict] = {}
    for place, entry in enumerate(favourites):
        row, expert = divmod(place, model.config.n_routed_experts)
        wanted |= {(row, expert, token.pop("id")): token for token in entry["tokens"]}
    for document in documents[:CONTEXT_DOCUMENTS]:
        if not wanted:
            return
        for tokens_T, routing in _routed_batches(model, [document[: model.config.max_position_embeddings]]):
            ids = tokens_T.tolist()
            for row, selection in enumerate(routing.values()):
                for place, experts_K in enumerate(selection.experts_TK.tolist()):
                    for expert in experts_K:
                        if token := wanted.pop((row, expert, ids[place]), None):
                            token["context"] = _context(tokenizer, ids, place)


def _context(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], place: int) -> list[str]:
    parts = (ids[max(0, place - CONTEXT_TOKENS) : place], ids[place : place + 1], ids[place + 1 :][:CONTEXT_TOKENS])
    return [str(tokenizer.decode([*part])) for part in parts]


@torch.inference_mode()
def _routed_batches(
    model: AxionForCausalLM, documents: Sequence[Sequence[int]]
) -> Iterator[tuple[torch.Tensor, Mapping[RoutingRow, Selection]]]:
    """Runs each document alone, cut where it exceeds the context; yields each batch's tokens [T] and their routing."""
    context = model.config.max_position_embeddings
    pieces = [document[start : start + context] for document in documents for start in range(0, len(document), context)]
    for batch in batches_by_length(pieces, TOKENS_PER_BATCH):
        # Right padding needs no mask: with causal attention no real token sees it.
        rows = [torch.as_tensor(pieces[index], dtype=torch.long) for index in batch]
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        lengths = torch.tensor([len(row) for row in rows], device=model.device)
        real_T = (torch.arange(input_ids.shape[1], device=model.device) < lengths.unsqueeze(-1)).flatten()
        logits = model(input_ids, use_cache=False, output_router_logits=True, logits_to_keep=1).router_logits
        yield input_ids.flatten()[real_T], route(model, [layer_TE[real_T] for layer_TE in logits])
