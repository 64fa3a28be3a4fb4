"""What size and tokens buy: the same recipe at several sizes and lengths, the law that fits, and what it predicts.

One protocol for all: the architecture of Axion1 v0.1 in its proportions, one tokenizer, generated problems of which no
run reads one twice, and learning rates that follow one rule. The largest size is held out: the law is fitted without
it, and must predict it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axion.errors import AxionError
from axion.evaluation.experiments import Experiment, Results, run_missing
from axion.evaluation.scaling_law import Law, Point, bootstrap, fit, interval
from axion.params import count_parameters
from axion.recipe import load_recipe

BASE = "axion1-v0.1"
PREDICTED = ("axion1-v0.4", "axion1-v0.5")
HEAD = 16
"""Width of a head, of which 4 are rotary."""
BASE_WIDTH = 64
MEASURES = ("total", "active")
"""Which parameters N counts."""
TARGET = 0.02
"""By how many nats per token the prediction of the held-out size may be off."""
SPARE = 1.05
"""How many times the tokens of the longest runs the data has, so that no run reads a document twice."""
FEWEST_TOKENS = 25
"""Any problem has more tokens than this, so that as many problems as are generated give the tokens that are wanted."""


@dataclass(frozen=True)
class Size:
    """A model in the proportions of v0.1."""

    width: int
    layers: int

    @property
    def overrides(self) -> tuple[str, ...]:
        """Of v0.1's recipe: the shape, and the learning rates, which fall with the square root of the width."""
        shape = {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.width // HEAD,
            "q_lora_rank": self.width // 4,
            "kv_lora_rank": self.width // 8,
            "moe_intermediate_size": self.width,
        }
        rates = {
            f"{name}learning_rate": f"{rate * (BASE_WIDTH / self.width) ** 0.5:.6f}"
            for name, rate in (("muon_", 1.2e-2), ("", 6e-3), ("router_", 5e-3))
        }
        return tuple(
            f"{section}.{name}={value}"
            for section, fields in (("architecture", shape), ("training", rates))
            for name, value in fields.items()
        )


SIZES = (Size(32, 4), Size(48, 4), Size(64, 4), Size(96, 5), Size(128, 5), Size(192, 5), Size(240, 6))
"""From 0.1 to 6 million parameters; the last is held out."""
TOKENS = (2_500_000, 5_000_000, 10_000_000)
QUICK_SIZES, QUICK_TOKENS = SIZES[:3], (40_000, 80_000, 160_000)
"""A smoke test; its figures are meaningless."""


def protocol(tokens: Sequence[int], overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """The overrides that all runs share.

    Args:
        tokens: the lengths of the runs.
        overrides: further ones, such as other data.
    """
    wanted = round(SPARE * max(tokens))
    return (
        f"data.sources=[{{kind: events, count: {wanted // FEWEST_TOKENS}, reasoning: 0.8}}]",
        f"data.max_tokens={wanted}",
        f"data.shard_tokens={max(wanted, 2**23)}",  # one shard: all runs draw from all of the data
        "data.max_validation_bytes=262_144",
        *overrides,
    )


def experiments(
    sizes: Sequence[Size], tokens: Sequence[int], seeds: int = 1, overrides: Sequence[str] = ()
) -> list[Experiment]:
    """One for each size, length and seed; the shortest first."""
    shared = protocol(tokens, overrides)
    return [
        Experiment(BASE, (*shared, *size.overrides), length, seed)
        for length in sorted(tokens)
        for size in sizes
        for seed in range(1, seeds + 1)
    ]


def scale(
    results: Results,
    folder: Path,
    sizes: Sequence[Size] = SIZES,
    tokens: Sequence[int] = TOKENS,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Trains what has no result yet, fits the law, and records and returns the report.

    Args:
        results: the file of results.
        folder: where unfinished runs are kept.
        sizes: the last is held out of the fit.
        tokens: the lengths of the runs.
        seeds: of each size and length.
        overrides: of all runs, such as other data.
        jobs: runs at the same time.
        say: receives a line for each finished run.

    Raises:
        AxionError: a run failed; a recipe cannot be loaded; there are too few sizes for a fit.
    """
    wanted = experiments(sizes, tokens, seeds, overrides)
    if failed := run_missing(wanted, results, folder, jobs, say):
        raise AxionError(f"{len(failed)} of {len(wanted)} runs failed; the first: {next(iter(failed.values()))}")
    runs = results.runs
    report = analyse([runs[each.key] for each in wanted])
    results.change(lambda content: content.update({"report": report}))
    return report


# --- The report -------------------------------------------------------------------------------------------------------


def analyse(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fits, the prediction of the held-out size and of later versions, as JSON.

    Args:
        runs: results of experiments. Those of the most parameters are held out.

    Raises:
        AxionError: there are too few without these.
    """
    largest = max(run["parameters"]["total"] for run in runs)
    fitted = [run for run in runs if run["parameters"]["total"] < largest]
    held_out = [run for run in runs if run["parameters"]["total"] == largest]
    return {
        "points": [_point(run) for run in runs],
        "held_out": largest,
        "laws": {measure: _report_of(fitted, held_out, measure) for measure in MEASURES},
    }


def _point(run: Mapping[str, Any]) -> dict[str, Any]:
    counts = {name: run["parameters"][name] for name in MEASURES}
    return {**counts, "tokens": run["tokens"], "seed": run["seed"], "loss": run["val_loss"]}


def _report_of(fitted: Sequence[Mapping], held_out: Sequence[Mapping], measure: str) -> dict[str, Any]:
    """The law of one count of parameters: fitted without the held-out size, and for later versions with it."""

    def points_of(runs: Sequence[Mapping]) -> list[Point]:
        return [Point(run["parameters"][measure], run["tokens"], run["val_loss"]) for run in runs]

    points, tests = points_of(fitted), points_of(held_out)
    without, everything = fit(points), fit([*points, *tests])
    laws = bootstrap(points, without)
    tested = [
        {
            **{"tokens": test.tokens, "loss": test.loss, "predicted": without(*test[:2])},
            "interval": interval(laws, *test[:2]),
            "error": without(*test[:2]) - test.loss,
        }
        for test in tests
    ]
    all_laws = bootstrap([*points, *tests], everything)
    return {
        "law": asdict(everything),
        "intervals": {name: _spread([getattr(law, name) for law in all_laws]) for name in asdict(everything)},
        "residual": max(abs(everything(*point[:2]) - point.loss) for point in [*points, *tests]),
        "held_out": tested,
        "error": max(abs(each["error"]) for each in tested),
        "predictions": [_predict(name, measure, everything, all_laws) for name in PREDICTED],
    }


def _spread(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    cut = round(0.025 * (len(ordered) - 1))
    return ordered[cut], ordered[-1 - cut]


def _predict(name: str, measure: str, law: Law, laws: Sequence[Law]) -> dict[str, Any]:
    """The loss under this protocol at the size and the tokens of a version's recipe."""
    recipe = load_recipe(name)
    parameters = getattr(count_parameters(recipe.build_config()), measure)
    tokens = (recipe.data.max_tokens or 0) * recipe.training.epochs
    return {
        **{"name": name, "parameters": parameters, "tokens": tokens},
        "predicted": law(parameters, tokens),
        "interval": interval(laws, parameters, tokens),
    }


def table(report: Mapping[str, Any]) -> str:
    """The report as Markdown: the losses, the laws, the held-out size and the predictions."""
    return "\n".join([_losses_table(report), _laws_table(report), _tests_table(report), _predictions_table(report)])


def _losses_table(report: Mapping[str, Any]) -> str:
    """Mean loss over the seeds: a row for each size, a column for each number of tokens."""
    by_place: dict[tuple[int, int], dict[int, list[float]]] = {}
    for point in report["points"]:
        row = by_place.setdefault((point["total"], point["active"]), {})
        row.setdefault(point["tokens"], []).append(point["loss"])
    lengths = sorted({point["tokens"] for point in report["points"]})
    heads = [_millions(length) for length in lengths]
    lines = [f"| parameters | active | {' | '.join(heads)} |", f"| ---: | ---: |{' ---: |' * len(lengths)}"]
    for (total, active), losses in sorted(by_place.items()):
        cells = [f"{sum(losses[each]) / len(losses[each]):.4f}" if each in losses else "–" for each in lengths]
        mark = " (held out)" if total == report["held_out"] else ""
        lines.append(f"| {total:,}{mark} | {active:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _laws_table(report: Mapping[str, Any]) -> str:
    """The numbers of each law, with 95% intervals."""
    lines = ["| N counts | E | α | β | largest residual, nats |", "| --- | ---: | ---: | ---: | ---: |"]
    for measure, found in report["laws"].items():
        cells = [
            f"{found['law'][name]:.3f} ({found['intervals'][name][0]:.3f} to {found['intervals'][name][1]:.3f})"
            for name in ("floor", "alpha", "beta")
        ]
        lines.append(f"| {measure} parameters | {' | '.join(cells)} | {found['residual']:.4f} |")
    return "\n".join([*lines, ""])


def _tests_table(report: Mapping[str, Any]) -> str:
    """The held-out size: measured, and predicted by the laws of the others."""
    lines = ["| N counts | tokens | measured | predicted | off by |", "| --- | ---: | ---: | ---: | ---: |"]
    for measure, found in report["laws"].items():
        for test in found["held_out"]:
            lines.append(
                f"| {measure} parameters | {test['tokens']:,} | {test['loss']:.4f} | {_estimate(test)} | "
                f"{test['error']:+.4f} |"
            )
    return "\n".join([*lines, ""])


def _predictions_table(report: Mapping[str, Any]) -> str:
    """Later versions, as they would be under this protocol."""
    lines = ["| version | N counts | N | tokens | predicted |", "| --- | --- | ---: | ---: | ---: |"]
    for measure, found in report["laws"].items():
        for each in found["predictions"]:
            counts = f"{each['parameters']:,} | {each['tokens']:,}"
            lines.append(f"| {each['name']} | {measure} parameters | {counts} | {_estimate(each)} |")
    return "\n".join([*lines, ""])


def _estimate(each: Mapping[str, Any]) -> str:
    low, high = each["interval"]
    return f"{each['predicted']:.4f} ({low:.4f} to {high:.4f})"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draws the losses and the law over all parameters, the held-out size and the later versions marked."""
    import matplotlib.pyplot as plt
    import numpy as np

    from axion.drawing import INK, PALE, PALETTE, STYLE, save

    found, points = report["laws"]["total"], report["points"]
    law, predictions = Law(**found["law"]), found["predictions"]
    sizes = np.geomspace(min(point["total"] for point in points), max(each["parameters"] for each in predictions), 100)
    lengths = sorted({point["tokens"] for point in points})
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        for number, length in enumerate(lengths):
            colour = PALETTE[number % len(PALETTE)]
            for point in (point for point in points if point["tokens"] == length):
                face = "none" if point["total"] == report["held_out"] else colour
                axes.scatter(point["total"], point["loss"], edgecolors=colour, facecolors=face, zorder=3)
            curve = [law(size, length) for size in sizes]
            axes.plot(sizes, curve, color=colour, lw=1.2, label=_millions(length))
        for each in predictions:
            place = (each["parameters"], each["predicted"])
            # drawn by itself: a percentile interval need not contain the prediction of all points
            axes.plot([place[0]] * 2, each["interval"], "_-", color=INK, ms=8)
            axes.plot(*place, "D", color=INK)
            label = f"{each['name']}, {_millions(each['tokens'])}"
            axes.annotate(label, place, xytext=(-6, 6), textcoords="offset points", ha="right", fontsize=8)
        axes.set(xscale="log", xlabel="parameters", ylabel="loss (nats per token)", title="Loss by size and tokens")
        axes.grid(color=PALE, lw=0.7)
        axes.legend()
        save(figure, path)


def _millions(tokens: int) -> str:
    """A number of tokens for a heading: `0.04 million tokens`, `12.5 million tokens`, `2,000 million tokens`."""
    return f"{tokens / 1e6:,.10g} million tokens"
