"""The curves in a release's metrics.csv, over the tokens read."""

import math
from dataclasses import dataclass
from pathlib import Path

from axion.training.metrics import read_metrics

Points = tuple[tuple[float, float], ...]
"""(x, y), x growing; x is the number of tokens read so far."""


@dataclass(frozen=True)
class Curves:
    """The curves of one run; a curve without measurements is empty."""

    train_loss: Points
    """Nats per token."""
    validation_loss: Points
    """Nats per token."""
    bits_per_byte: Points
    """On the validation documents."""
    overload: tuple[Points, ...]
    """One curve for each layer with experts: how far its busiest expert is above its fair share (0.1 is 10% above)."""


def read_curves(path: Path | None) -> Curves | None:
    """Read a run's curves; None if there is no such file.

    Raises:
        AxionError: the file is not a table of metrics.
    """
    if path is None or not path.is_file():
        return None
    metrics = read_metrics(path)

    def curve(column: str) -> Points:
        return tuple(metrics.curve(column))

    return Curves(
        train_loss=curve("train_loss"),
        validation_loss=curve("val_loss"),
        bits_per_byte=curve("val_bits_per_byte"),
        overload=tuple(map(curve, metrics.violation_columns)),
    )


def smooth(points: Points, window: int) -> Points:
    """Replace each value by the mean of the `window` values around it, of fewer at the ends."""
    back, ahead = (window - 1) // 2, window // 2
    values = [y for _, y in points]
    return tuple(
        (x, math.fsum(near) / len(near))
        for index, (x, _) in enumerate(points)
        if (near := values[max(0, index - back) : index + ahead + 1])
    )


def thin(points: Points, most: int) -> Points:
    """At most `most` of the points, evenly spaced, including the first and the last."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return tuple(points[round(index * step)] for index in range(most))
