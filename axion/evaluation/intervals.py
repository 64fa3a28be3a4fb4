"""Intervals of 95% for measured figures, and for the difference of two."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from axion.training.validation import DocumentLoss

NORMAL_97_5 = 1.959963984540054
"""The standard normal distribution's 97.5% quantile, for intervals of 95%."""
RESAMPLES = 2_000
"""How often the documents are drawn anew for a bootstrap interval."""
BOOTSTRAP_SEED = 0
DRAWN_AT_ONCE = 2_000_000
"""Indices that are held in memory."""


def wilson_interval(correct: float, total: int) -> list[float]:
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
    return _percentiles([_ratios(parts, sizes, drawn_RD) for drawn_RD in _resamples(len(parts))])


def bootstrap_difference(
    parts: Sequence[float], sizes: Sequence[float], other_parts: Sequence[float], other_sizes: Sequence[float]
) -> list[float] | None:
    """The 95% interval of `sum(other_parts) / sum(other_sizes) - sum(parts) / sum(sizes)` over the same items.

    It is a paired bootstrap: the same items are drawn for both, so what makes an item hard for both does not widen the
    interval. Otherwise as `bootstrap_interval`.
    """
    if len(parts) < 2:
        return None
    return _percentiles(
        [
            _ratios(other_parts, other_sizes, drawn_RD) - _ratios(parts, sizes, drawn_RD)
            for drawn_RD in _resamples(len(parts))
        ]
    )


def _resamples(count: int) -> Iterator[np.ndarray]:
    """RESAMPLES rows of `count` indices drawn with replacement, some rows `[R, count]` at once; each time the same."""
    rng, left = np.random.default_rng(BOOTSTRAP_SEED), RESAMPLES
    while left:
        rows = min(left, max(1, DRAWN_AT_ONCE // count))
        yield rng.integers(0, count, (rows, count))
        left -= rows


def _ratios(parts: Sequence[float], sizes: Sequence[float], drawn_RD: np.ndarray) -> np.ndarray:
    """The ratio of sums in each resample `[R]`; NaN where nothing has a size."""
    sums_R, totals_R = (np.asarray(values, dtype=np.float64)[drawn_RD].sum(axis=1) for values in (parts, sizes))
    return np.divide(sums_R, totals_R, out=np.full(len(sums_R), np.nan), where=totals_R != 0)


def _percentiles(values: Sequence[np.ndarray]) -> list[float]:
    low, high = np.nanpercentile(np.concatenate(values), [2.5, 97.5])
    return [round(float(low), 6), round(float(high), 6)]


def bits_interval(losses: Sequence[DocumentLoss]) -> list[float] | None:
    """`bootstrap_interval` of bits per byte over documents."""
    return bootstrap_interval([loss.nats / math.log(2) for loss in losses], [loss.bytes for loss in losses])
