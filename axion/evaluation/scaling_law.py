"""The fit of L(N, D) = E + A / N^α + B / D^β: the loss of N parameters after D tokens.

Source: Hoffmann et al., Training Compute-Optimal Large Language Models, arXiv 2203.15556, approach 3 and appendix D.3;
the sum of the Huber losses, as Besiroglu et al. (arXiv 2404.10102) found to be needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from axion.errors import AxionError

HUBER_DELTA = 1e-3
"""Of residuals of the logarithm of the loss, as in the paper."""
RESAMPLES = 200
BOOTSTRAP_SEED = 0
FEWEST = 5
"""Points that determine five numbers."""
EXPONENTS, SHARE = (0.3, 0.8), 0.25
"""Where the search starts: each of the exponents, and the share of the mean loss that each of the two terms has."""


class Point(NamedTuple):
    """A finished run."""

    parameters: float
    tokens: float
    loss: float
    """In nats per token."""


@dataclass(frozen=True)
class Law:
    """L(N, D) = floor + (A / N^alpha) + (B / D^beta), in nats per token."""

    floor: float
    """E: the loss that neither more parameters nor more tokens take away."""
    log_a: float
    alpha: float
    log_b: float
    beta: float

    def __call__(self, parameters: float, tokens: float) -> float:
        """The loss of so many parameters after so many tokens."""
        by_size = math.exp(self.log_a - self.alpha * math.log(parameters))
        return self.floor + by_size + math.exp(self.log_b - self.beta * math.log(tokens))


def fit(points: Sequence[Point]) -> Law:
    """The law that fits best, from several starts.

    Raises:
        AxionError: there are fewer than five points, or one size or number of tokens alone.
    """
    _check(points)
    mean_loss = float(np.mean([point.loss for point in points]))
    best_value, best = math.inf, None
    term, floor = math.log(SHARE * mean_loss), math.log((1 - 2 * SHARE) * mean_loss)
    for alpha, beta in product(EXPONENTS, EXPONENTS):
        value, law = _minimise(points, [floor, term, alpha, term, beta])
        if value < best_value:
            best_value, best = value, law
    assert best is not None
    return best


def bootstrap(points: Sequence[Point], law: Law, resamples: int = RESAMPLES) -> list[Law]:
    """The laws of so many draws of the points with replacement; the draws are the same each time.

    Args:
        law: the fit of all points, from which each search starts.
    """
    rng, laws = np.random.default_rng(BOOTSTRAP_SEED), []
    log_n, log_d = _centres(points)
    centred = [law.log_a - law.alpha * log_n, law.log_b - law.beta * log_d]
    start = [math.log(max(law.floor, 1e-6)), centred[0], law.alpha, centred[1], law.beta]
    while len(laws) < resamples:
        drawn = [points[index] for index in rng.integers(0, len(points), len(points))]
        if _is_enough(drawn):
            laws.append(_minimise(drawn, start, centres=(log_n, log_d))[1])
    return laws


def interval(laws: Sequence[Law], parameters: float, tokens: float) -> tuple[float, float]:
    """The 95% percentile interval of a prediction over the laws of a bootstrap."""
    low, high = np.percentile([law(parameters, tokens) for law in laws], [2.5, 97.5])
    return float(low), float(high)


def _is_enough(points: Sequence[Point]) -> bool:
    different = {(point.parameters, point.tokens) for point in points}
    return (
        len(different) >= FEWEST
        and len({point.parameters for point in points}) > 1
        and len({point.tokens for point in points}) > 1
    )


def _check(points: Sequence[Point]) -> None:
    if not _is_enough(points):
        raise AxionError(
            f"{len(points)} finished runs are too few for a fit; it takes {FEWEST}, of two sizes and two numbers of "
            "tokens at least"
        )


def _centres(points: Sequence[Point]) -> tuple[float, float]:
    """The means of log N and of log D, around which the search is well conditioned."""
    return tuple(float(np.mean(np.log([point[axis] for point in points]))) for axis in (0, 1))  # pyright: ignore[reportReturnType]


def _minimise(
    points: Sequence[Point], start: Sequence[float], centres: tuple[float, float] | None = None
) -> tuple[float, Law]:
    """The sum of Huber losses at a minimum, and its law.

    Args:
        start: log E, then of N and of D the logarithm of the term at the centre, and the exponent.
        centres: the means of log N and log D.
    """
    log_n, log_d = centres or _centres(points)
    table = torch.tensor(points, dtype=torch.float64)
    n_P, d_P, loss_P = table[:, 0].log() - log_n, table[:, 1].log() - log_d, table[:, 2].log()
    values = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [values], max_iter=300, tolerance_grad=1e-10, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        floor, by_size, alpha, by_tokens, beta = values
        terms_3P = torch.stack([floor.expand_as(n_P), by_size - alpha * n_P, by_tokens - beta * d_P])
        residual_P = torch.logsumexp(terms_3P, dim=0) - loss_P
        return torch.nn.functional.huber_loss(
            residual_P, torch.zeros_like(residual_P), reduction="sum", delta=HUBER_DELTA
        )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        return value

    optimizer.step(closure)  # pyright: ignore[reportArgumentType] (a closure may return a tensor)
    with torch.no_grad():
        value = float(objective())
    floor, by_size, alpha, by_tokens, beta = values.tolist()
    if not math.isfinite(value):
        value = math.inf
    return value, Law(math.exp(floor), by_size + alpha * log_n, alpha, by_tokens + beta * log_d, beta)
