"""What the page says of a model as a whole: where its parameters are, how it was trained, and what was measured."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from axion.data.sources import SOURCES
from axion.errors import AxionError
from axion.evaluation.results import MalformedResults, Row, measured, result_rows
from playground.content.charts import Chart, curve, linear_axis, log_axis
from playground.content.learning import read_learning
from playground.content.markup import render
from playground.content.metrics import read_curves
from playground.content.roadmap import Measured, compare_sizes, read_roadmap
from playground.content.training import (
    draw_overload,
    draw_training,
    final_overload,
    list_evaluations,
    list_facts,
    read_window_change,
    smoothing,
)
from playground.generate.catalogue import OpenModel
from playground.generate.places import command_again
from playground.locales import Language, LocaleNumbers, format_number, format_short, texts

Read = TypeVar("Read")

LETTER, LINE = 1.1, 12
"""About the width of a letter and the height of a line on the chart of sizes, in percent of the chart's."""


def model_html(model: OpenModel, language: Language, others: Iterable[tuple[str, dict]] = ()) -> str:
    """The HTML of all this; its charts are read by views/charts.js.

    Args:
        others: names and release.json files of other models, to compare it with.

    Raises:
        AxionError: its release.json is broken.
    """
    facts, info = model.facts, model.release.info
    metrics, problem = _or_problem(model, lambda: read_curves(model.release.metrics_file))
    learning, learning_problem = _or_problem(model, lambda: read_learning(model.release.history_file, language))
    results, change = _results(model, language), read_window_change(model)
    return render(
        "model.html",
        language,
        facts=facts,
        components=sorted(facts.components.items(), key=lambda item: -item[1]),
        results=results,
        commands=list(dict.fromkeys(row.command for row in results if row.command)),
        training=list_facts(model, language),
        again=command_again(model.release) or (info.get("training") or {}).get("command"),
        problem=problem,
        window=smoothing(metrics.train_loss) if metrics else 0,
        charts=draw_training(metrics, language, change) if metrics else [],
        change=change,
        overload=draw_overload(metrics, facts.first_layer, language) if metrics else [],
        overload_end=metrics and final_overload(metrics),
        load_highest=_highest_load(info),
        overload_window=smoothing(max(metrics.overload, key=len, default=())) if metrics else 0,
        evaluations=list_evaluations(metrics) if metrics else [],
        learning=learning,
        learning_problem=learning_problem,
        roadmap=read_roadmap(info),
        current=info.get("name"),
        scaling=draw_scaling(compare_sizes(model.name, info, others), model.name, language),
        text=texts("model", language),
    )


def draw_scaling(points: list[Measured], current: str, language: Language) -> tuple[Chart, int] | None:
    """The bits per byte of releases over their size, and the number of documents; None for fewer than two releases.

    A line connects those of the current one's family.
    """
    text = texts("model", language)
    if len(points) < 2:
        return None
    values = [point.bits_per_byte for point in points]
    room = (max(values) - min(values)) / 3  # for the names beside the points
    x = log_axis([point.parameters for point in points], partial(format_short, language=language))
    y = linear_axis([max(min(values) - room, 0), max(values) + room], ticks=4, language=language)
    family = next((point.family for point in points if point.name == current), "")
    places = [(float(point.parameters), point.bits_per_byte) for point in points if point.family == family]
    marks = [
        {
            "x": x.place(point.parameters),
            "y": y.place(point.bits_per_byte),
            "label": point.name,
            "note": f"{format_short(point.parameters, language)} · {format_number(point.bits_per_byte, language, 3)}",
            "current": point.name == current,
        }
        for point in points
    ]
    line = curve("ax-line-raw", tuple(places), x, y)
    chart = Chart(text["scaling"], x, y, (line,), text["scaling_axis"], tuple(_spread(marks)))
    return chart, points[0].documents


def _spread(marks: list[dict]) -> list[dict]:
    """The marks, from left to right, with the names below their points where they would lie over another name above."""
    above: list[dict] = []
    for mark in marks:
        width = LETTER * len(f"{mark['label']} {mark['note']}")
        crowded = any(mark["x"] < other["x"] + other["width"] and abs(mark["y"] - other["y"]) < LINE for other in above)
        mark |= {"width": width, "below": crowded}
        if not crowded:
            above.append(mark)
    return marks


def _or_problem(model: OpenModel, read: Callable[[], Read | None]) -> tuple[Read | None, str]:
    """What a file of the release says, or None and what is wrong with it ("" if the release has none)."""
    try:
        return read(), ""
    except AxionError as error:
        return None, f"{model.name}: {error}"


def _highest_load(info: dict) -> float | None:
    """The load of the busiest expert over all held-out documents, in multiples of its fair share."""
    try:
        return float((measured(info.get("results", {}), "expert_load") or {})["together"]["highest"])
    except (KeyError, MalformedResults, TypeError, ValueError):
        return None


def _results(model: OpenModel, language: Language) -> list[Row]:
    kinds = texts("model", language)
    names = {f"data_{kind.replace('_', ' ')}": kinds[f"source_{kind}"] for kind in SOURCES}
    translated = {**texts("results", language), **names}
    try:
        return result_rows(model.release.info.get("results", {}), translated, LocaleNumbers(language))
    except MalformedResults as error:
        raise AxionError(f"{model.name}: release.json is broken: {error}; build it again") from None
