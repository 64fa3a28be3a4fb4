"""What a release's metrics.csv tells of its training, as curves over the tokens that were read."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from axion.errors import AxionError

Points = tuple[tuple[float, float], ...]
"""(x, y), x growing; x is the number of tokens read so far."""

_OVERLOAD = re.compile(r"max_violation_layer_(\d+)")


@dataclass(frozen=True)
class Metrics:
    """The curves of one run. A curve without measurements is empty."""

    train_loss: Points
    """Nats per token."""
    validation_loss: Points
    """Nats per token."""
    bits_per_byte: Points
    """On the validation documents."""
    overload: tuple[Points, ...]
    """One curve for each layer with experts: how far its most used expert is over its fair share (0.1: by a tenth)."""


def read_metrics(path: Path) -> Metrics | None:
    """Read a run's curves; None where there is no such file.

    Cells that are empty or no finite number are left out of their curve, as is a last row that was cut off.

    Raises:
        AxionError: the file is no table of metrics.
    """
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values() and None not in row]
        if not rows:
            raise AxionError("metrics.csv holds no measurements")
        layers = sorted(int(match[1]) for name in rows[0] if (match := _OVERLOAD.fullmatch(name)))
        return Metrics(
            train_loss=_curve(rows, "train_loss"),
            validation_loss=_curve(rows, "val_loss"),
            bits_per_byte=_curve(rows, "val_bits_per_byte"),
            overload=tuple(_curve(rows, f"max_violation_layer_{layer}") for layer in layers),
        )
    except OSError as error:
        raise AxionError(f"metrics.csv cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise AxionError(f"metrics.csv cannot be read: {' '.join(str(error).split())[:200]}") from None


def _curve(rows: Sequence[dict[str, str]], column: str) -> Points:
    if "tokens" not in rows[0]:
        raise AxionError("metrics.csv cannot be read: it has no column tokens")
    points = ((float(row["tokens"]), float(row[column])) for row in rows if row.get(column, "") != "")
    return tuple(sorted(point for point in points if all(map(math.isfinite, point))))


def smooth(points: Points, window: int) -> Points:
    """Each value becomes the mean of the `window` values around it, of fewer at the ends."""
    back, ahead = (window - 1) // 2, window // 2
    values = [y for _, y in points]
    return tuple(
        (x, math.fsum(near) / len(near))
        for index, (x, _) in enumerate(points)
        if (near := values[max(0, index - back) : index + ahead + 1])
    )


def thin(points: Points, most: int) -> Points:
    """At most `most` of the points, evenly picked, the first and the last among them."""
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return tuple(points[round(index * step)] for index in range(most))
