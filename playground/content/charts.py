"""Charts as SVG paths, for Jinja templates.

Not `gr.LinePlot`: it downloads 0.8 MB for its first chart, keeps dark text on a dark page, has no logarithmic axis, and
needs colours, which on this page stand for experts.

A plot is a square of SIZE × SIZE units that the page stretches to its place (strokes keep their width). Its labels are
HTML, placed in percent, so that they keep their size on a phone.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from playground.content.metrics import Points
from playground.locales import DEFAULT, Language, format_number

SIZE = 1000
MANTISSAS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Axis:
    """The range of numbers along one side of a chart."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    """Position in percent of the way from low to high, and label."""
    log: bool = False

    def place(self, value: float) -> float:
        """Percent of the way from low to high."""
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return 100 * (value - low) / (high - low)


@dataclass(frozen=True)
class Curve:
    """One line of a chart, with a dot at each point where `dots` is given."""

    style: str
    """A class of css/model.css."""
    points: Points
    path: str
    label: str = ""
    """Its name beside the values that are read off; a curve without one has no readings."""
    dots: str = ""


@dataclass(frozen=True)
class Chart:
    """What the template chart.html draws."""

    title: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    x_title: str
    marks: tuple[dict, ...] = field(default=())
    """Points with names: {"x", "y" (percent), "label", "current"}."""
    change: float | None = None
    """Where on the x axis, in percent, something about the run changed; the text below the chart says what."""


def linear_axis(
    values: Iterable[float],
    write: Callable[[float], str] | None = None,
    ticks: int = 5,
    zero: bool = False,
    language: Language = DEFAULT,
) -> Axis:
    """An axis around the values that starts and ends on round numbers.

    Args:
        write: the label of a tick; without it, a number of the language with as many decimals as the ticks need.
        ticks: about how many.
        zero: whether the axis starts at zero.

    Raises:
        ValueError: no values.
    """
    values = list(values)
    low, high = min([0.0] * zero + values), max(values)
    step = _round_step((high - low or abs(high) or 1) / ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    low, high = first * step, last * step
    decimals = _decimals(step)
    write = write or (lambda value: format_number(value, language, decimals))
    marks = tuple((100 * n / (last - first), write((first + n) * step)) for n in range(last - first + 1))
    return Axis(low, high, marks)


def span_axis(values: Iterable[float], write: Callable[[float], str], ticks: int = 5) -> Axis:
    """An axis from zero to exactly the largest value, so that a curve fills the whole width."""
    high = max(values)
    step = _round_step(high / ticks)
    marks = tuple((100 * n * step / high, write(n * step)) for n in range(math.floor(high / step + 1e-9) + 1))
    return Axis(0, high, marks)


def log_axis(values: Iterable[float], write: Callable[[float], str]) -> Axis:
    """A logarithmic axis with a margin around the positive values, and ticks at 1, 2 and 5 times powers of ten."""
    values = list(values)
    low, high = min(values) / 1.6, max(values) * 1.6
    axis = Axis(low, high, (), log=True)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    mantissas = (1, 2, 5) if high / low < 100 else (1,)
    ticks = [m * 10.0**decade for decade in decades for m in mantissas if low <= m * 10.0**decade <= high]
    return Axis(low, high, tuple((axis.place(tick), write(tick)) for tick in ticks), log=True)


def curve(style: str, points: Points, x: Axis, y: Axis, label: str = "", dots: bool = False) -> Curve:
    """Place points on two axes."""
    places = [f"{x.place(a) * SIZE / 100:.0f} {SIZE - y.place(b) * SIZE / 100:.0f}" for a, b in points]
    # A line of length zero with round ends is a dot, and stays round when the plot is stretched.
    dotted = "".join(f"M{place}h0" for place in places) if dots else ""
    return Curve(style, points, f"M{'L'.join(places)}" if places else "", label, dotted)


def readings(chart: Chart) -> str:
    """What views/charts.js shows under the pointer, as JSON: the end of the x axis, and the points of named curves."""
    curves = [
        {"label": line.label, "points": [[x, float(f"{y:.5g}")] for x, y in line.points]}
        for line in chart.curves
        if line.label
    ]
    return json.dumps({"end": chart.x.high, "curves": curves}, separators=(",", ":"))


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is no less than `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(mantissa for mantissa in MANTISSAS if mantissa * power >= rough * (1 - 1e-9))


def _decimals(step: float) -> int:
    """The decimals that a step of 1, 2, 2.5 or 5 times a power of ten needs."""
    places = -math.floor(math.log10(step) + 1e-9)
    return max(0, places + (not math.isclose(step * 10.0**places, round(step * 10.0**places))))
