"""Reads and writes the logs of a run: metrics.csv and eval.csv.

metrics.csv has one row every few steps, at most 400 in total. Columns: step, epoch, tokens, seconds, tokens_per_second,
lr, train_loss (nats per token), val_loss (nats per token) and val_bits_per_byte where the row was evaluated, and
max_violation_layer_N for each decoder layer N with routed experts, numbered from 1 (0 is an even load). Earlier
versions numbered the layers with experts among themselves, which is the same unless the first layers are dense.

train_loss and val_loss are always those of the labels themselves. With label smoothing a column smoothed_loss has the
loss that is trained. With multi-token prediction, mtp_loss has the loss of the token after the next, before its weight
λ (smoothed where labels are), and max_violation_mtp the load of that layer's router.

eval.csv repeats the evaluated rows as step, loss (nats per token) and perplexity.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from axion.errors import AxionError, one_line
from axion.files import staged, writing

METRICS_FILE = "metrics.csv"
EVALUATIONS_FILE = "eval.csv"
HISTORY_FILE = "history.json"
"""What the model writes while it trains, see `axion.training.history`."""
MAX_ROWS = 400
MTP_VIOLATION = "max_violation_mtp"
"""The column of the load balance in the layer of multi-token prediction."""

_VIOLATION = re.compile(r"max_violation_layer_(\d+)")
_RESTORE = "restore it, or start a new run with --out DIR"


# --- Reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metrics:
    """The columns of a metrics.csv. `metrics["train_loss"]` is an array `[rows]`; cells without a value are NaN."""

    columns: Mapping[str, np.ndarray]
    """Column name → float64 `[rows]`, as they stand in the file."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column: str) -> np.ndarray:
        """A column; all NaN if the file does not have it."""
        return self.columns.get(column, np.full(len(self), np.nan))

    @property
    def violation_columns(self) -> list[str]:
        """The names of the max_violation columns, ordered by layer."""
        return _violation_columns(self.columns)

    def curve(self, column: str) -> list[tuple[float, float]]:
        """(tokens, value) for every row in which both are finite, ordered by tokens."""
        points = np.stack([self["tokens"], self[column]], axis=1)
        return sorted((x, y) for x, y in points[np.isfinite(points).all(axis=1)].tolist())


def read_metrics(path: Path) -> Metrics:
    """Reads a metrics.csv.

    Raises:
        AxionError: the file is missing, is not a table of numbers with a column "tokens", or has no rows.
    """
    rows = _read_rows(path)
    if not rows:
        raise AxionError(f"{path.name} has no rows")
    if "tokens" not in rows[0]:
        raise AxionError(f"{path.name} cannot be read: it has no column tokens")
    try:
        columns = {name: np.array([_number(row[name]) for row in rows]) for name in rows[0]}
    except ValueError as error:
        raise AxionError(f"{path.name} cannot be read: {one_line(error)}") from None
    return Metrics(columns)


def _number(cell: str) -> float:
    """The number in a cell, NaN for an empty one. Raises ValueError where it holds something else."""
    return float(cell or "nan")


def _violation_columns(names: Iterable[str]) -> list[str]:
    found = ((int(match[1]), name) for name in names if (match := _VIOLATION.fullmatch(name)))
    return [name for _, name in sorted(found)]


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of the file, as text. Raises AxionError if it cannot be read as a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            # a row cut off by a crash has too few cells
            return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
    except OSError as error:
        raise AxionError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise AxionError(f"{path.name} cannot be read: {one_line(error)}") from None


# --- Writing ----------------------------------------------------------------------------------------------------------


class _Table:
    """Writes a CSV file row by row."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path = path
        self.columns = columns

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replaces the file by one with these rows."""
        with staged(self.path) as staging, staging.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def append(self, row: Mapping[str, float]) -> None:
        """Adds a row; columns that it lacks stay empty. Raises AxionError where it cannot be written."""
        with (
            writing(self.path, "free some space and continue with --resume"),
            self.path.open("a", newline="", encoding="utf-8") as file,
        ):
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)


def copy_until(source: Path, target: Path, step: int) -> None:
    """Copies a metrics.csv or eval.csv up to a step.

    Raises:
        AxionError: it cannot be read, or a row has no step.
    """
    rows = _read_rows(source)
    try:
        kept = [row for row in rows if int(row["step"]) <= step]
    except (KeyError, ValueError):
        raise AxionError(f"{source} is broken: a row has no step") from None
    _Table(target, list(rows[0]) if rows else []).write(kept)


class MetricsFile(_Table):
    """Writes a run's metrics.csv.

    Args:
        path: the file.
        layers: the decoder layers with routed experts, numbered from 1.
        row_every: steps between two rows.
        losses: columns of further training losses.
        has_mtp: whether the layer of multi-token prediction is trained.
    """

    COLUMNS = ("step", "epoch", "tokens", "seconds", "tokens_per_second", "lr", "train_loss")
    VALIDATION = ("val_loss", "val_bits_per_byte")

    def __init__(
        self,
        path: Path,
        layers: Iterable[int],
        row_every: int = 1,
        losses: Iterable[str] = (),
        has_mtp: bool = False,
    ):
        violations = [*map(violation_column, layers), *([MTP_VIOLATION] if has_mtp else [])]
        super().__init__(path, [*self.COLUMNS, *losses, *self.VALIDATION, *violations])
        self.row_every = row_every

    def start(self, step: int = 0) -> float:
        """Starts the file, or truncates it to the rows up to `step` of a resumed run.

        Returns:
            The seconds of training up to the last row that is left.

        Raises:
            AxionError: rows of the resumed run are missing or broken.
        """
        rows = self._rows_until(step) if step > 0 and self.path.exists() else []
        if not rows and step >= self.row_every:
            raise AxionError(f"{self.path} is missing or lost its rows; {_RESTORE}")
        self.write(rows)
        return float(rows[-1]["seconds"]) if rows else 0.0

    def _rows_until(self, step: int) -> list[dict[str, str]]:
        """The rows of the file up to a step, with the current columns."""
        rows = _read_rows(self.path)
        today = dict(zip(_violation_columns(rows[0] if rows else ()), _violation_columns(self.columns), strict=False))
        rows = [{today.get(name, name): value for name, value in row.items()} for row in rows]
        try:
            kept = [row for row in rows if int(row["step"]) <= step]
            has_seconds = all(math.isfinite(float(row["seconds"])) for row in kept[-1:])
        except (KeyError, ValueError):
            has_seconds = False
        if not has_seconds:
            raise AxionError(f"{self.path} is broken: a row has no step or no seconds; {_RESTORE}")
        for row in kept:
            for name, cell in row.items():
                try:
                    _number(cell)
                except ValueError:
                    where = f"{name} is {cell!r} at step {row['step']}"
                    raise AxionError(f"{self.path} is broken: {where}; {_RESTORE}") from None
        if unknown := [name for name in (kept[0] if kept else ()) if name not in self.columns]:
            raise AxionError(f"{self.path} is broken: its column {unknown[0]} is unknown; {_RESTORE}")
        return kept


class EvaluationsFile(_Table):
    """Writes a run's eval.csv, beside its metrics.csv."""

    def __init__(self, run: Path):
        super().__init__(run / EVALUATIONS_FILE, ("step", "loss", "perplexity"))
        self.metrics = run / METRICS_FILE

    def start(self) -> None:
        """Starts the file with the evaluated rows of metrics.csv, which a resumed run has truncated."""
        rows = _read_rows(self.metrics)
        self.write(self.row(row["step"], float(row["val_loss"])) for row in rows if row["val_loss"])

    @staticmethod
    def row(step: int | str, loss: float) -> dict[str, Any]:
        """A row of the file, from a loss in nats per token."""
        with np.errstate(over="ignore"):  # infinite above 709 nats
            return {"step": step, "loss": loss, "perplexity": float(np.exp(loss))}


def violation_column(layer: int) -> str:
    """The column of a decoder layer's load balance; layers are numbered from 1."""
    return f"max_violation_layer_{layer}"


def row_interval(steps: int) -> int:
    """Steps between two rows, such that a run of `steps` writes at most 400."""
    return math.ceil(steps / MAX_ROWS)
