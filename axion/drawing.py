"""The style that all charts in files share."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # writes files, needs no display

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart, as can anyone in grey print.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE)
INK, PALE = "#333333", "#DDDDDD"

STYLE: dict[Any, Any] = {
    "figure.figsize": (8, 4.2),
    "figure.dpi": 110,
    "font.size": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "axion",
}
"""For `plt.rc_context`."""


def save(figure: Figure, path: Path) -> None:
    """Writes a figure in the format that the path's suffix names, and closes it.

    Without the library's name and version and the date, the same data gives the same bytes.
    """
    metadata = {"Creator": None, "Date": None} if path.suffix == ".svg" else {"Software": None}
    figure.savefig(path, bbox_inches="tight", metadata=metadata)
    plt.close(figure)
