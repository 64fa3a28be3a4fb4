"""What OpenAI's parameters do with logits: changes before sampling, and probabilities of tokens that were given."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from transformers import LogitsProcessor

from axion.inference.readers import pick_backend
from axion.kernels.decoder import NativeDecoder
from axion.model.modeling_axion import AxionForCausalLM

ROWS = 256
"""How many positions are scored at a time: with a large vocabulary, all logits of a context would take much memory."""


class LogitBias(LogitsProcessor):
    """Adds a number to the logits of some tokens.

    Args:
        bias: token id → what is added.
    """

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._tokens, self._bias = torch.tensor(list(bias)), torch.tensor(list(bias.values()))

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """As transformers calls it: ids [B, T] and logits [B, V]."""
        return scores.index_add(1, self._tokens, self._bias.expand(len(scores), -1))  # pyright: ignore[reportReturnType]


class Penalties(LogitsProcessor):
    """Lowers the logits of tokens that the model has already generated; those of the prompt do not count.

    Args:
        prompt_length: tokens before the first new one.
        presence: how much for each token that occurred.
        frequency: how much for each of its occurrences.
    """

    def __init__(self, prompt_length: int, presence: float, frequency: float) -> None:
        self._prompt_length, self._presence, self._frequency = prompt_length, presence, frequency

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """As transformers calls it: ids [B, T] and logits [B, V]."""
        new_BT = input_ids[:, self._prompt_length :]
        counts_BV = torch.zeros_like(scores).scatter_add(1, new_BT, torch.ones_like(new_BT, dtype=scores.dtype))
        return scores - self._frequency * counts_BV - self._presence * (counts_BV > 0)  # pyright: ignore[reportReturnType]


class Score(NamedTuple):
    """The model's prediction of one token, before it was read."""

    probability: float | None
    """Of the token itself; None for the first token of a text, which nothing predicts."""
    likeliest: list[tuple[int, float]]
    """The likeliest tokens and their probabilities, likeliest first."""


def score_tokens(model: AxionForCausalLM, ids: Sequence[int], top: int) -> list[Score]:
    """Score every token but the first, which nothing predicts.

    Args:
        top: how many of the likeliest tokens are listed at each position, at most ALTERNATIVES.
    """
    if pick_backend(model).name != "native":
        return _score_in_torch(model, ids, top)
    scored = NativeDecoder(model).score_with_alternatives(ids)
    return [
        Score(probability, list(zip(tokens, chances, strict=True))[:top]) for probability, tokens, chances in scored
    ]


@torch.inference_mode()
def _score_in_torch(model: AxionForCausalLM, ids: Sequence[int], top: int) -> list[Score]:
    hidden_TD = model.model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0, :-1]
    scores = []
    for start in range(0, len(hidden_TD), ROWS):
        probabilities_RV = model.lm_head(hidden_TD[start : start + ROWS]).double().softmax(-1)
        following_R = torch.tensor(ids[start + 1 : start + 1 + len(probabilities_RV)])
        chosen_R = probabilities_RV.gather(1, following_R[:, None])[:, 0]
        best = probabilities_RV.topk(min(top, probabilities_RV.shape[1]), dim=-1)
        for chance, tokens, chances in zip(chosen_R.tolist(), best.indices.tolist(), best.values.tolist(), strict=True):
            scores.append(Score(chance, list(zip(tokens, chances, strict=True))))
    return scores
