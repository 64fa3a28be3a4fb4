"""Charts as SVG paths, for Jinja to put on the page.

Made by hand and not by `gr.LinePlot`, which fetches 0.8 MB when it first draws, keeps dark letters when a visitor turns
the page dark, has no logarithmic axis, and would need colours, which on this page belong to the experts.

A chart's plot is a square of SIZE × SIZE units that the page stretches to its place (strokes keep their width); what is
written beside it is HTML, placed in percent, so that it keeps its size on a telephone.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from playground.content.metrics import Points

SIZE = 1000
MANTISSAS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Axis:
    """What stretch of numbers a side of a chart shows."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    """Percent of the way from low to high, and what is written there."""
    log: bool = False

    def place(self, value: float) -> float:
        """Percent of the way from low to high."""
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return 100 * (value - low) / (high - low)


@dataclass(frozen=True)
class Curve:
    """One line of a chart, or with `dots` its points."""

    style: str
    """A class of css/model.css."""
    points: Points
    path: str
    label: str = ""
    """What a reader is told beside the values; without one, the curve is only drawn."""
    dots: str = ""


@dataclass(frozen=True)
class Chart:
    """Everything that the template chart.html draws."""

    title: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    x_title: str
    marks: tuple[dict, ...] = field(default=())
    """Points with names: {"x", "y" (percent), "label", "current"}."""


def linear_axis(
    values: Iterable[float], write: Callable[[float], str] | None = None, ticks: int = 5, zero: bool = False
) -> Axis:
    """An axis around the values that begins and ends on round numbers, with about so many ticks.

    Without `write`, ticks have as many decimals as it takes to tell them apart.

    Raises:
        ValueError: no values.
    """
    values = list(values)
    low, high = min([0.0] * zero + values), max(values)
    step = _round_step((high - low or abs(high) or 1) / ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    low, high = first * step, last * step
    write = write or f"{{:.{_decimals(step)}f}}".format
    marks = tuple((100 * n / (last - first), write((first + n) * step)) for n in range(last - first + 1))
    return Axis(low, high, marks)


def span_axis(values: Iterable[float], write: Callable[[float], str], ticks: int = 5) -> Axis:
    """An axis from zero to exactly the largest value, so that a curve over it fills the whole width."""
    high = max(values)
    step = _round_step(high / ticks)
    marks = tuple((100 * n * step / high, write(n * step)) for n in range(math.floor(high / step + 1e-9) + 1))
    return Axis(0, high, marks)


def log_axis(values: Iterable[float], write: Callable[[float], str]) -> Axis:
    """A logarithmic axis with some air around the positive values, ticks at 1, 2 and 5 times the powers of ten."""
    values = list(values)
    low, high = min(values) / 1.6, max(values) * 1.6
    axis = Axis(low, high, (), log=True)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    mantissas = (1, 2, 5) if high / low < 100 else (1,)
    ticks = [m * 10.0**decade for decade in decades for m in mantissas if low <= m * 10.0**decade <= high]
    return Axis(low, high, tuple((axis.place(tick), write(tick)) for tick in ticks), log=True)


def curve(style: str, points: Points, x: Axis, y: Axis, label: str = "", dots: bool = False) -> Curve:
    """Lay points out on two axes."""
    places = [f"{x.place(a) * SIZE / 100:.0f} {SIZE - y.place(b) * SIZE / 100:.0f}" for a, b in points]
    # A line of no length with round ends is a dot, and stays round when the plot is stretched.
    dotted = "".join(f"M{place}h0" for place in places) if dots else ""
    return Curve(style, points, f"M{'L'.join(places)}" if places else "", label, dotted)


def readings(chart: Chart) -> str:
    """What view/charts.js shows under the pointer, as JSON: the end of the x axis, and each named curve's points."""
    curves = [
        {"label": line.label, "points": [[x, float(f"{y:.5g}")] for x, y in line.points]}
        for line in chart.curves
        if line.label
    ]
    return json.dumps({"end": chart.x.high, "curves": curves}, separators=(",", ":"))


def short(count: float) -> str:
    """A number for people in three digits at most: 344 k, 1.5 M, 40 M."""
    for unit, size in (("", 1), (" k", 1e3), (" M", 1e6), (" G", 1e9)):
        if abs(count) < 999.5 * size or unit == " G":
            return f"{count / size:.{0 if abs(count) >= 99.5 * size else 1}f}".removesuffix(".0") + unit
    raise AssertionError("the loop returns")


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is no less than `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(mantissa for mantissa in MANTISSAS if mantissa * power >= rough * (1 - 1e-9))


def _decimals(step: float) -> int:
    """How many decimals a step of 1, 2, 2.5 or 5 times a power of ten needs."""
    places = -math.floor(math.log10(step) + 1e-9)
    return max(0, places + (not math.isclose(step * 10.0**places, round(step * 10.0**places))))
