"""How a release was trained: the facts in its release.json, and the curves of its run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from axion.data.sources.base import names_of
from axion.errors import AxionError
from axion.files import parse_yaml
from playground.content.charts import Axis, Chart, curve, linear_axis, span_axis
from playground.content.metrics import Curves, Points, smooth, thin
from playground.generate.catalogue import OpenModel
from playground.locales import Language, Texts, fill, format_number, format_percent, format_short, texts

MOST_POINTS = 160
WINDOWS = 40
"""A curve is smoothed over 1 / WINDOWS of its length."""

WIDE = ("data", "libraries")

Fact = tuple[str, str, str, bool]
"""Label, value, note (may be empty), and whether it is twice as wide."""


def list_facts(model: OpenModel, language: Language) -> list[Fact]:
    """How the release was trained; facts that it does not state are left out.

    Raises:
        AxionError: its release.json or run.json is broken.
    """
    text, info = texts("model", language), model.release.info or _of_run(model.release.run_info)
    training, data = info.get("training") or {}, info.get("data") or {}
    number = partial(format_number, language=language)
    try:
        rows: list[tuple[str, Callable[[], tuple[str, str]]]] = [
            ("tokens", lambda: (number(training["tokens"]), _write_epochs(training, data, language))),
            ("steps", lambda: (number(training["steps"]), "")),
            ("time", lambda: _write_time(training, language)),
            ("machine", lambda: _write_machine(training["machine"], language)),
            ("seed", lambda: (str(info["seed"]), "")),
            ("commit", lambda: _write_commit(training, language)),
            ("start", lambda: _write_start(info, language)),
            ("data", lambda: _write_data(info, data, language)),
            ("libraries", lambda: (_write_libraries(training), "")),
        ]
        return [
            (text[key], *cells, key in WIDE) for key, read in rows if (cells := _read(read)) is not None and cells[0]
        ]
    except (AttributeError, TypeError, ValueError):
        raise AxionError(f"{model.name}: release.json is broken: its training section is malformed") from None


def _of_run(run: dict) -> dict:
    """What the run.json of a finished run says, in the form of a release.json."""
    if not run.get("finished"):
        return {}
    try:
        recipe = parse_yaml(str(run["recipe"]))
        made_from = {key: recipe.get(key) for key in ("start", "lora")}
        return run | made_from | {"training": run | {"recipe": recipe["training"]}}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _write_commit(training: dict, language: Language) -> tuple[str, str]:
    if (commit := training["git_commit"]) is None:  # trained with an installed package that recorded none
        return "", ""
    return fill(texts("model", language)["commit_note"], language, commit=commit[:8]), training.get("date", "")


def _write_start(info: dict, language: Language) -> tuple[str, str]:
    """The release that a fine-tuned one started from, and how it was adapted."""
    if (start := info["start"]) is None:
        return "", ""
    note = fill(texts("model", language)["start_lora"], language, rank=info["lora"]["rank"]) if info.get("lora") else ""
    return str(start["repo_id"] or start["name"]), note


def _read(read: Callable[[], tuple[str, str]]) -> tuple[str, str] | None:
    try:
        return read()
    except KeyError:  # not stated
        return None


def _write_epochs(training: dict, data: dict, language: Language) -> str:
    """How often the training set was read."""
    recipe, tokens = training.get("recipe", {}), data.get("train", {}).get("tokens")
    epochs = recipe.get("epochs")
    if not epochs or not tokens:
        return ""
    if recipe.get("max_steps"):  # which may end the run before
        epochs = min(epochs, float(f"{training['tokens'] / tokens:.2g}"))
    text = texts("model", language)["one_epoch" if epochs == 1 else "epochs"]
    return fill(text, language, epochs=epochs, tokens=tokens)


def _write_time(training: dict, language: Language) -> tuple[str, str]:
    text, seconds = texts("model", language), round(training["seconds"])
    hours, minutes = divmod(round(seconds / 60), 60)
    unit = "hours" if hours else "minutes" if minutes else "seconds"
    time = fill(text[unit], language, hours=hours, minutes=minutes, seconds=seconds)
    return time, fill(text["speed"], language, speed=round(training["tokens"] / seconds)) if seconds else ""


def _write_machine(machine: dict, language: Language) -> tuple[str, str]:
    if "cores" not in machine:
        return str(machine["processor"]), ""
    text = texts("model", language)["one_core" if machine["cores"] == 1 else "cores"]
    return str(machine["processor"]), fill(text, language, cores=machine["cores"])


def _write_data(info: dict, data: dict, language: Language) -> tuple[str, str]:
    """The data set on the Hub, or the first kind of source if there is none, and the tokens of the other kinds."""
    text, sources = texts("model", language), data.get("train", {}).get("by_source", {})
    named = {"text": fill(text["source_text_of"], language, names=names)} if (names := _text_names(data)) else {}
    parts = [
        fill(
            text["source_tokens"],
            language,
            source=named.get(kind) or text.get(f"source_{kind}", kind.replace("_", " ")),
            tokens=format_short(counted["tokens"], language),
        )
        for kind, counted in sources.items()
    ]
    return str(info.get("dataset") or (parts and parts.pop(0)) or ""), " · ".join(parts)


def _text_names(data: dict) -> str:
    """The local files that a model of text was trained on; the data set on the Hub has a place of its own."""
    files = [
        file
        for source in data.get("sources", [])
        if source["kind"] == "text"
        for file in source.get("local_files") or ()
    ]
    return names_of([str(file["name"]) for file in files]) if files else ""


def _write_libraries(training: dict) -> str:
    versions = {"python": training.get("python"), **training["libraries"]}
    return " · ".join(f"{name} {version}" for name, version in versions.items() if version)


@dataclass(frozen=True)
class WindowChange:
    """Where a run went from short windows to long ones."""

    tokens: float
    """That were read before."""
    short: int
    window: int


def read_window_change(model: OpenModel) -> WindowChange | None:
    """When the recipe's short windows ended; None where the run had none, or its release does not say."""
    info = model.release.info or _of_run(model.release.run_info)
    training = info.get("training") or {}
    try:
        recipe, tokens = training["recipe"], training["tokens"]
        short, window, share = (recipe[name] for name in ("short_window", "window", "short_share"))
        return WindowChange(share * tokens, int(short), int(window)) if short and 0 < share < 1 else None
    except (KeyError, TypeError, ValueError):
        return None


def draw_training(metrics: Curves, language: Language, change: WindowChange | None = None) -> list[Chart]:
    """The losses and the bits per byte over the tokens read; charts without points are left out.

    Args:
        change: is marked on the chart of the losses.
    """
    text, charts = texts("model", language), []
    if metrics.train_loss or metrics.validation_loss:
        loss = _draw_loss(metrics, text, language)
        place = change and loss.x.place(change.tokens)
        charts.append(replace(loss, change=place) if place and place < 100 else loss)
    if len(metrics.bits_per_byte) > 1:
        points = thin(metrics.bits_per_byte, MOST_POINTS)
        values = [y for _, y in points]
        x, y = _tokens_axis(points, language), linear_axis(values, ticks=4, language=language)
        line = curve("ax-line-validation", points, x, y, text["bits_per_byte"], dots=True)
        charts.append(Chart(text["bits_per_byte"], x, y, (line,), text["tokens_axis"]))
    return charts


def draw_overload(metrics: Curves, first_layer: int, language: Language) -> list[tuple[str, Chart, float]]:
    """A small chart per layer, on common axes: the layer's name, the chart, and the overload at the end of training."""
    text = texts("model", language)
    curves = [(first_layer + row, smooth(points, smoothing(points))) for row, points in enumerate(metrics.overload)]
    curves = [(layer, thin(points, MOST_POINTS)) for layer, points in curves if points]
    if not curves:
        return []
    everything = [point for _, points in curves for point in points]
    x = _tokens_axis(everything, language)
    highest = max(max(value for _, value in everything), 0.01)
    y = linear_axis([highest], partial(format_percent, language=language, decimals=0), ticks=2, zero=True)
    y = replace(y, ticks=(y.ticks[0], y.ticks[-1]))  # there is no room for more
    drawn = []
    for layer, points in curves:
        name = fill(text["layer"], language, layer=layer)
        drawn.append((name, Chart(name, x, y, (curve("ax-line-train", points, x, y, name),), ""), points[-1][1]))
    return drawn


def final_overload(metrics: Curves) -> float | None:
    """How far the busiest expert of all layers was above its fair share at the end of training (0.1 is 10% above)."""
    finals = [smooth(points, smoothing(points))[-1][1] for points in metrics.overload if points]
    return max(finals, default=None)


def smoothing(points: Points) -> int:
    """The number of rows over which a curve is averaged."""
    return max(1, len(points) // WINDOWS)


def _draw_loss(metrics: Curves, text: Texts, language: Language) -> Chart:
    rows = thin(metrics.train_loss, MOST_POINTS)
    smoothed = thin(smooth(metrics.train_loss, smoothing(metrics.train_loss)), MOST_POINTS)
    validation = thin(metrics.validation_loss, MOST_POINTS)
    x = _tokens_axis((*rows, *validation), language)
    y = linear_axis([value for _, value in (*rows, *validation)], language=language)
    curves = [
        curve("ax-line-raw", rows, x, y),
        curve("ax-line-train", smoothed, x, y, text["train_loss"]),
        curve("ax-line-validation", validation, x, y, text["validation_loss"], dots=True),
    ]
    return Chart(text["loss"], x, y, tuple(line for line in curves if line.points), text["tokens_axis"])


def _tokens_axis(points: Points | list[tuple[float, float]], language: Language) -> Axis:
    return span_axis([max(max(x for x, _ in points), 1)], partial(format_short, language=language))


def list_evaluations(metrics: Curves) -> list[tuple[float, float | None, float | None]]:
    """Tokens read, validation loss and bits per byte, one row for each evaluation."""
    losses, bits = dict(metrics.validation_loss), dict(metrics.bits_per_byte)
    return [(tokens, losses.get(tokens), bits.get(tokens)) for tokens in sorted({*losses, *bits})]
