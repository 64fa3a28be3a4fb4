"""What the page shows of a release's training: the facts that its release.json states, and the curves of its run."""

from collections.abc import Callable
from dataclasses import replace

from axion.errors import AxionError
from playground.content.charts import Chart, curve, linear_axis, short, span_axis
from playground.content.metrics import Curves, Points, smooth, thin
from playground.generate.catalogue import OpenModel
from playground.locales import Language
from playground.locales.model import TEXT

MOST_POINTS = 160
WINDOWS = 40
"""Into so many windows a curve is cut to be smoothed."""

WIDE = ("data", "libraries")

Fact = tuple[str, str, str, bool]
"""Label, value, a note that may be empty, and whether it takes the space of two."""


def list_facts(model: OpenModel, language: Language) -> list[Fact]:
    """How the release was trained; what it does not say is left out.

    Raises:
        AxionError: its release.json is broken.
    """
    text, info = TEXT[language], model.release.info
    training, data = info.get("training") or {}, info.get("data") or {}
    try:
        rows: list[tuple[str, Callable[[], tuple[str, str]]]] = [
            ("tokens", lambda: (f"{training['tokens']:,}", _write_epochs(training, data, text))),
            ("steps", lambda: (f"{training['steps']:,}", "")),
            ("time", lambda: _write_time(training, text)),
            ("machine", lambda: _write_machine(training["machine"], text)),
            ("seed", lambda: (str(info["seed"]), "")),
            (
                "commit",
                lambda: (text["commit_note"].format(commit=training["git_commit"][:8]), training.get("date", "")),
            ),
            ("data", lambda: _write_data(info, data, text)),
            ("libraries", lambda: (_write_libraries(training), "")),
        ]
        return [
            (text[key], *cells, key in WIDE) for key, read in rows if (cells := _read(read)) is not None and cells[0]
        ]
    except (AttributeError, TypeError, ValueError):
        raise AxionError(f"{model.name}: release.json is broken: its training is not told as it should be") from None


def _read(read: Callable[[], tuple[str, str]]) -> tuple[str, str] | None:
    try:
        return read()
    except KeyError:  # not said
        return None


def _write_epochs(training: dict, data: dict, text: dict[str, str]) -> str:
    epochs, tokens = training.get("recipe", {}).get("epochs"), data.get("train", {}).get("tokens")
    return text["tokens_note"].format(epochs=f"{epochs:g}", tokens=f"{tokens:,}") if epochs and tokens else ""


def _write_time(training: dict, text: dict[str, str]) -> tuple[str, str]:
    seconds = round(training["seconds"])
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        time = text["hours"].format(hours=hours, minutes=minutes)
    else:
        time = text["minutes" if minutes else "seconds"].format(minutes=minutes, seconds=seconds)
    return time, text["speed"].format(speed=f"{training['tokens'] / seconds:,.0f}") if seconds else ""


def _write_machine(machine: dict, text: dict[str, str]) -> tuple[str, str]:
    return str(machine["processor"]), text["cores"].format(cores=machine["cores"]) if "cores" in machine else ""


def _write_data(info: dict, data: dict, text: dict[str, str]) -> tuple[str, str]:
    sources = data.get("train", {}).get("by_source", {})
    parts = [
        text["source_tokens"].format(source=source.replace("_", " "), tokens=short(counted["tokens"]))
        for source, counted in sources.items()
    ]
    return str(info.get("dataset") or (parts and parts.pop(0)) or ""), " · ".join(parts)


def _write_libraries(training: dict) -> str:
    versions = {"python": training.get("python"), **training["libraries"]}
    return " · ".join(f"{name} {version}" for name, version in versions.items() if version)


def draw_training(metrics: Curves, language: Language) -> list[Chart]:
    """The losses and the bits per byte over the tokens read; charts without points are left out."""
    text, charts = TEXT[language], []
    if metrics.train_loss or metrics.validation_loss:
        charts.append(_draw_loss(metrics, text))
    if len(metrics.bits_per_byte) > 1:
        points = thin(metrics.bits_per_byte, MOST_POINTS)
        values = [y for _, y in points]
        x, y = _tokens_axis(points), linear_axis(values, ticks=4)
        line = curve("ax-line-validation", points, x, y, text["bits_per_byte"], dots=True)
        charts.append(Chart(text["bits_per_byte"], x, y, (line,), text["tokens_axis"]))
    return charts


def draw_overload(metrics: Curves, first_layer: int, language: Language) -> list[tuple[str, Chart, float]]:
    """A small chart per layer on common axes: the layer's name, the chart, and the overload where training ended."""
    text = TEXT[language]
    curves = [(first_layer + row, smooth(points, smoothing(points))) for row, points in enumerate(metrics.overload)]
    curves = [(layer, thin(points, MOST_POINTS)) for layer, points in curves if points]
    if not curves:
        return []
    everything = [point for _, points in curves for point in points]
    x = _tokens_axis(everything)
    y = linear_axis([max(max(value for _, value in everything), 0.01)], "{:.0%}".format, ticks=2, zero=True)
    y = replace(y, ticks=(y.ticks[0], y.ticks[-1]))  # there is no room for more
    drawn = []
    for layer, points in curves:
        name = text["layer"].format(layer=layer)
        drawn.append((name, Chart(name, x, y, (curve("ax-line-train", points, x, y, name),), ""), points[-1][1]))
    return drawn


def smoothing(points: Points) -> int:
    """How many rows of a curve are averaged."""
    return max(1, len(points) // WINDOWS)


def _draw_loss(metrics: Curves, text: dict[str, str]) -> Chart:
    rows = thin(metrics.train_loss, MOST_POINTS)
    smoothed = thin(smooth(metrics.train_loss, smoothing(metrics.train_loss)), MOST_POINTS)
    validation = thin(metrics.validation_loss, MOST_POINTS)
    x = _tokens_axis((*rows, *validation))
    y = linear_axis([value for _, value in (*rows, *validation)])
    curves = [
        curve("ax-line-raw", rows, x, y),
        curve("ax-line-train", smoothed, x, y, text["train_loss"]),
        curve("ax-line-validation", validation, x, y, text["validation_loss"], dots=True),
    ]
    return Chart(text["loss"], x, y, tuple(line for line in curves if line.points), text["tokens_axis"])


def _tokens_axis(points: Points | list[tuple[float, float]]):
    return span_axis([max(max(x for x, _ in points), 1)], short)


def list_evaluations(metrics: Curves) -> list[tuple[float, float | None, float | None]]:
    """Tokens read, validation loss and bits per byte, one row for each evaluation."""
    losses, bits = dict(metrics.validation_loss), dict(metrics.bits_per_byte)
    return [(tokens, losses.get(tokens), bits.get(tokens)) for tokens in sorted({*losses, *bits})]
