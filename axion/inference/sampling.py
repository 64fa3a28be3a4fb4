"""How the next token is drawn: the settings, their limits, and the filters of transformers' `generate`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from axion.errors import AxionError

UNIFORMS_AT_ONCE = 64

LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 5.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.1, 10.0),
    "max_new_tokens": (1, 1_000_000),
    "min_new_tokens": (0, 1_000_000),
    "seed": (0, 2**53 - 1),  # the whole numbers that JavaScript and JSON keep exactly: a shared link must not round one
}
"""Lowest and highest value of each of Sampling's fields; whole numbers where the bounds are."""

LEAST_TEMPERATURE = 0.01
"""Below, only 0 is allowed: the logits would be divided by next to nothing."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The defaults take the likeliest one, as `generate` in transformers does.

    Raises:
        AxionError: a value is no number, not finite, not whole where it must be, or out of its range (see LIMITS).
    """

    temperature: float = 0.0
    """0 takes the likeliest token every time; 1 is the model's own distribution."""
    top_k: int = 0
    """Draw among the k likeliest tokens only; 0 for all."""
    top_p: float = 1.0
    """Draw among the fewest tokens that hold this much probability; 1 for all."""
    min_p: float = 0.0
    """Leave out tokens with less than this fraction of the likeliest token's probability; 0 for none."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that were already there less likely."""
    max_new_tokens: int = 200
    """Stop after so many tokens; the end of the text or of the context stops earlier."""
    min_new_tokens: int = 0
    """Do not end the text before so many tokens."""
    seed: int = 0
    """The same seed gives the same text."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, check_setting(field.name, getattr(self, field.name)))
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise AxionError(
                f"temperature must be 0 (the likeliest token every time) or at least {LEAST_TEMPERATURE}, "
                f"not {self.temperature}"
            )
        if self.top_p == 0:
            raise AxionError("top_p must be above 0 (1 switches it off), not 0")
        if self.min_new_tokens > self.max_new_tokens:
            raise AxionError(
                f"min_new_tokens ({self.min_new_tokens}) must not exceed max_new_tokens ({self.max_new_tokens})"
            )


def check_setting(name: str, value: object) -> int | float:
    """The value of one of Sampling's fields, an int where it must be whole. Raises AxionError outside of LIMITS."""
    low, high = LIMITS[name]
    whole = isinstance(low, int)
    number = "a whole number" if whole else "a number"
    valid = isinstance(value, int | float) and not isinstance(value, bool)
    valid = valid and (isinstance(value, int) or math.isfinite(value))  # an int may be too large to be asked
    if not valid or not low <= value <= high or (whole and value != int(value)):
        raise AxionError(f"{name} must be {number} from {low:g} to {high:.16g}, not {str(value)[:40]}")
    return int(value) if whole else float(value)


class Picker:
    """Chooses the next token, with the filters and their order that transformers' `generate` has."""

    def __init__(self, sampling: Sampling, prompt_length: int, end_ids: set[int]):
        filters = LogitsProcessorList()
        if sampling.repetition_penalty != 1:
            filters.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if sampling.min_new_tokens > 0 and end_ids:
            filters.append(MinNewTokensLengthLogitsProcessor(prompt_length, sampling.min_new_tokens, sorted(end_ids)))
        self.greedy = sampling.temperature == 0
        if not self.greedy:
            filters.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k > 0:
                filters.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                filters.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p > 0:
                filters.append(MinPLogitsWarper(sampling.min_p))
        self.filters = filters
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, sequence: Sequence[int], logits: torch.Tensor) -> int:
        """One token id from logits [1, V] after the sequence."""
        scores = self.filters(torch.tensor([sequence]), logits.clone())[0]
        if self.greedy:
            return scores.argmax().item()
        # Inverse of the cumulative distribution in token order, at one uniform number a token: any other implementation
        # that draws from the same generator picks the same tokens.
        cumulative_V = scores.double().softmax(-1).cumsum(-1)
        uniform = torch.rand((), dtype=torch.float64, generator=self.generator)
        return torch.searchsorted(cumulative_V, uniform * cumulative_V[-1], right=True).item()


def uniforms(sampling: Sampling) -> Iterator[float]:
    """The numbers that Picker takes one at a time; torch gives the same ones many at a time."""
    generator = torch.Generator().manual_seed(sampling.seed)
    while sampling.temperature > 0:
        yield from torch.rand(UNIFORMS_AT_ONCE, dtype=torch.float64, generator=generator).tolist()
    yield from itertools.repeat(0.0)  # nothing is left to chance
