"""How the next token is drawn: settings and their limits, and the random numbers that decide."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from axion.errors import AxionError
from axion.inference.variants import MOST_LOOPS

LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 5.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.1, 10.0),
    "max_new_tokens": (1, 1_000_000),
    "min_new_tokens": (0, 1_000_000),
    "num_loops": (0, MOST_LOOPS),
    "seed": (0, 2**53 - 1),  # integers that JavaScript represents exactly, so that a shared link keeps its seed
}
"""Lowest and highest value of each field of Sampling. A field is an integer where its bounds are."""

LEAST_TEMPERATURE = 0.01
"""The lowest temperature above 0. Dividing the logits by less would overflow."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The defaults decode greedily, as `generate` in transformers does.

    Raises:
        AxionError: a value is not a finite number, not an integer where one is required, or out of range (see LIMITS).
    """

    temperature: float = 0.0
    """0 always takes the likeliest token; 1 samples from the model's own distribution."""
    top_k: int = 0
    """Keep only the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of likeliest tokens with at least this total probability; 1 keeps all."""
    min_p: float = 0.0
    """Drop tokens less likely than this fraction of the likeliest token's probability; 0 drops none."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that already occurred less likely, below 1 more likely."""
    max_new_tokens: int = 200
    """Stop after this many new tokens, if neither the text nor the context has ended before."""
    min_new_tokens: int = 0
    """Do not end the text before this many new tokens."""
    num_loops: int = 0
    """How often a looped model runs its shared layers; 0 for as often as its config says."""
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
    """Checks a value for one of Sampling's fields and converts it to int or float.

    Raises:
        AxionError: the value is not a number or is outside of LIMITS.
    """
    low, high = LIMITS[name]
    whole = isinstance(low, int)
    # NaN and infinity fail the comparison
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        if not whole:
            return float(value)
        if value == int(value):
            return int(value)
    number = "a whole number" if whole else "a number"
    raise AxionError(f"{name} must be {number} from {low:g} to {high:.16g}, not {str(value)[:40]}")


class Uniforms:
    """The random numbers in [0, 1) that decide the draws: `uniforms[i]` belongs to the new token with index i, from 0.

    A number depends on the seed and the index alone, not on which tokens were drawn, forced, drafted or rejected
    before. Number i is element i of `torch.rand(…, dtype=torch.float64)` from a `torch.Generator` with this seed: the
    same Mersenne Twister, of whose numbers two make 64 bits, and the lower 53 of these a float.
    """

    BLOCK = 64

    def __init__(self, seed: int):
        self._twister = np.random.RandomState(seed % 2**32)  # PyTorch, too, reads the lower 32 bits
        self._numbers: list[float] = []

    def __getitem__(self, index: int) -> float:
        """Raises AxionError for a negative index: there is no such number for a token of the prompt."""
        if index < 0:
            raise AxionError(f"{-index} tokens of the prompt were not read; read all of it before drawing a token")
        while index >= len(self._numbers):
            high, low = self._twister.randint(2**32, size=(self.BLOCK, 2), dtype=np.uint32).T
            self._numbers += (high % 2**21 * 2.0**-21 + low * 2.0**-53).tolist()
        return self._numbers[index]
