"""The two charts of a release: the training curve and the load of the experts."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from axion.drawing import BLUE, INK, ORANGE, PALE, PALETTE, STYLE, save
from axion.inference.routing import RoutingRow
from axion.training.metrics import Metrics


def draw_training_curve(metrics: Metrics, title: str, path: Path) -> None:
    """Draw training and validation loss (nats per token) over the tokens seen, with bits per byte as a second axis.

    Bits per byte is the validation loss times a constant of the validation set, so one curve serves both axes.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        axes.plot(*_millions(metrics.curve("train_loss")), color=BLUE, alpha=0.55, label="training")
        if validation := metrics.curve("val_loss"):
            millions, losses = _millions(validation)
            axes.plot(millions, losses, color=ORANGE, marker="o", ms=4, lw=2, label="validation")
            axes.annotate(
                f"{losses[-1]:.3f}",
                (millions[-1], losses[-1]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="right",
                color=INK,
            )
            if bits := metrics.curve("val_bits_per_byte"):
                _add_bits_per_byte_axis(axes, bits[-1][1] / losses[-1])
        axes.set(title=title, xlabel="tokens seen (millions)", ylabel="loss (nats per token)")
        axes.set_xlim(left=0)
        axes.grid(color=PALE, lw=0.7)
        axes.legend()
        save(figure, path)


def draw_expert_load(load: Sequence[Sequence[float]], rows: Sequence[RoutingRow], title: str, path: Path) -> None:
    """Draw the load of each expert as a multiple of its fair share.

    Args:
        load: load[row][expert], 1.0 being the fair share.
        rows: the layer that each row belongs to, and which of its loops.
    """
    is_looped = any(row.loop > 1 for row in rows)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        width = 0.8 / len(load[0])
        for expert in range(len(load[0])):
            positions = [layer + (expert - (len(load[0]) - 1) / 2) * width for layer in range(len(load))]
            heights = [layer_load[expert] for layer_load in load]
            label = f"expert {expert + 1}" if len(load[0]) <= len(PALETTE) else None
            axes.bar(positions, heights, 0.92 * width, color=PALETTE[expert % len(PALETTE)], label=label)
        axes.axhline(1, color=INK, lw=1.2, ls="--", label="fair share")
        axes.set(title=title, xlabel="layer", ylabel="load (1 = fair share)")
        names = [row.label(rows).removeprefix("layer ").replace(", ", "\n") for row in rows]
        axes.set_xticks(range(len(load)), names)
        axes.set_ylim(0, 1.12 * max(1.0, max(max(layer) for layer in load)))
        axes.grid(axis="y", color=PALE, lw=0.7)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22 if is_looped else -0.16), ncols=len(PALETTE) + 1)
        save(figure, path)


def _millions(curve: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """x in millions of tokens, and y."""
    return [x / 1e6 for x, _ in curve], [y for _, y in curve]


def _add_bits_per_byte_axis(axes: Axes, ratio: float) -> None:
    second = axes.secondary_yaxis(
        "right", functions=(lambda nats: np.asarray(nats) * ratio, lambda bits: np.asarray(bits) / ratio)
    )
    second.set_ylabel("validation, bits per byte")
    second.spines["right"].set_visible(True)
