"""The plot of a comparison: every figure of every release with its interval."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from axion.drawing import INK, PALE, PALETTE, STYLE, save
from axion.evaluation.compare import Comparison, Figure

ROW_INCHES = 0.17
"""The height of a release in a row."""
MARKERS = "osDv"


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draws one panel for shares of right answers and one for bits per byte, whichever there are.

    A star is beside each figure that differs significantly from that of the first release.
    """
    kinds = {"right answers (%)": True, "bits per byte (less is better)": False}
    panels = {name: [each for each in comparison.figures if each.is_share == share] for name, share in kinds.items()}
    panels = {name: figures for name, figures in panels.items() if figures}
    rows = [len(figures) for figures in panels.values()]
    height = ROW_INCHES * (len(comparison.releases) + 1) * sum(rows) + 0.9 * len(rows) + 0.5
    with plt.rc_context(STYLE):
        figure, every = plt.subplots(
            len(rows), squeeze=False, height_ratios=rows, figsize=(8, height), layout="constrained"
        )
        for axes, (name, figures) in zip(every[:, 0], panels.items(), strict=True):
            _draw_panel(axes, figures, comparison.releases, 100 if kinds[name] else 1)
            axes.set_xlabel(name)
        figure.suptitle(" and ".join(comparison.releases), x=0.01, ha="left", weight="bold")
        every[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(PALETTE))
        save(figure, path)


def _draw_panel(axes: Axes, figures: Sequence[Figure], releases: Sequence[str], scale: float) -> None:
    for place, name in enumerate(releases):
        offset = (place - (len(releases) - 1) / 2) / (len(releases) + 1)
        colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place // len(PALETTE) % len(MARKERS)]
        axes.plot([], [], marker, color=colour, label=name)  # also of a release without a figure in this panel
        for row, figure in enumerate(figures):
            if (cell := figure.cells[place]) is None:
                continue
            low, high = (scale * bound for bound in cell.interval or [cell.value] * 2)
            axes.plot([low, high], [row + offset] * 2, color=colour, lw=1.4)
            axes.plot(scale * cell.value, row + offset, marker, color=colour, ms=4.5)
            if cell.difference and cell.difference.significant:
                axes.annotate("*", (high, row + offset), (3, -5), textcoords="offset points", color=INK)
    axes.set_yticks(range(len(figures)), [figure.label for figure in figures])
    axes.set_ylim(len(figures) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.grid(axis="x", color=PALE, lw=0.7)
