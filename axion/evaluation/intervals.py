"""Intervals of 95% for measured figures."""

import math
from collections.abc import Sequence

import numpy as np

from axion.training.validation import DocumentLoss

NORMAL_97_5 = 1.959963984540054
"""The standard normal distribution's 97.5% quantile, for intervals of 95%."""
RESAMPLES = 2_000
"""How often the documents are drawn anew for a bootstrap interval."""
BOOTSTRAP_SEED = 0


def wilson_interval(correct: int, total: int) -> list[float]:
    """Wilson's 95% score interval of a share, [low, high]; within 0 and 1, and not empty for shares of 0 or 1.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209–212.
    """
    share, z2 = correct / total, NORMAL_97_5**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = NORMAL_97_5 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return [round(max(0.0, centre - half), 6), round(min(1.0, centre + half), 6)]


def bootstrap_interval(parts: Sequence[float], sizes: Sequence[float]) -> list[float] | None:
    """The 95% percentile bootstrap interval of `sum(parts) / sum(sizes)`, [low, high]; None for fewer than two parts.

    Whole documents are drawn with replacement, because the tokens of one are not independent. The draws are the same
    each time.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        parts: each document's share of the numerator, such as its loss in bits.
        sizes: each document's share of the denominator, such as its length in bytes.
    """
    if len(parts) < 2:
        return None
    parts_D, sizes_D = np.asarray(parts, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    ratios = []
    for _ in range(RESAMPLES):
        drawn_D = rng.integers(0, len(parts_D), len(parts_D))
        if size := sizes_D[drawn_D].sum():
            ratios.append(parts_D[drawn_D].sum() / size)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return [round(float(low), 6), round(float(high), 6)]


def bits_interval(losses: Sequence[DocumentLoss]) -> list[float] | None:
    """`bootstrap_interval` of bits per byte over documents."""
    return bootstrap_interval([loss.nats / math.log(2) for loss in losses], [loss.bytes for loss in losses])
