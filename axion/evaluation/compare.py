"""Releases compared on tasks of the suite, figure by figure, over the items that all of them have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from axion.evaluation.intervals import bootstrap_difference
from axion.evaluation.outcomes import OUTCOMES, Outcomes, on_shared_items, without_outcomes
from axion.evaluation.results import result_rows, skipped_tasks
from axion.evaluation.tasks import TASKS

FEWEST_DIFFERING = 6
"""A difference that rests on fewer items is never called significant: even if all of them point the same way, a sign
test gives p > .05 (2 · .5⁵ = .0625), while a bootstrap of few items is too sure of itself."""


@dataclass(frozen=True)
class Difference:
    """How far a release's figure is above that of the first release, over the same items."""

    value: float
    interval: list[float] | None
    """Of 95%, by paired bootstrap; None for fewer than two items."""
    significant: bool
    """Whether the interval leaves out 0, and the releases differ on at least FEWEST_DIFFERING items."""


@dataclass(frozen=True)
class Cell:
    """A release's figure."""

    value: float
    interval: list[float] | None
    """Of 95%."""
    difference: Difference | None
    """From the first release; None for that itself, and where the two can't be compared."""


@dataclass(frozen=True)
class Figure:
    """One figure of all releases."""

    task: str
    label: str
    is_share: bool
    """Whether it is a share of right answers, where more is better; else bits per byte, where less is."""
    items: int | None
    """How many answers or documents all releases have, over which it is computed; None where they have none in common.
    Each release's figure is then over its own, and no difference is given."""
    cells: list[Cell | None]
    """One for each release; None where it has not this figure."""


@dataclass(frozen=True)
class Plain:
    """A figure that is not made of items, such as a speed, so that its differences have no interval."""

    task: str
    label: str
    values: list[str | None]
    """One for each release."""


@dataclass(frozen=True)
class Comparison:
    """Several releases side by side."""

    releases: list[str]
    figures: list[Figure]
    others: list[Plain]
    notes: list[str]
    """What could not be compared, and why."""

    @property
    def differences(self) -> list[Difference]:
        """Every difference that was computed."""
        cells = [cell for figure in self.figures for cell in figure.cells]
        return [cell.difference for cell in cells if cell and cell.difference]

    def to_json(self) -> dict:
        """As `--json` prints it."""
        significant = sum(each.significant for each in self.differences)
        return asdict(self) | {"comparisons": len(self.differences), "significant": significant}


def compare(results: Mapping[str, dict], same_vocabulary: bool = True) -> Comparison:
    """Compares releases with the first of them.

    Args:
        results: name of a release → what `evaluate` returns with `keep_outcomes`.
        same_vocabulary: whether all releases read text as the same tokens.
    """
    found = [_figures_of(each) for each in results.values()]
    keys = sorted(dict.fromkeys(key for each in found for key in each), key=lambda key: [*TASKS].index(key[0]))
    figures = [_figure(key, [each.get(key) for each in found]) for key in keys]
    notes = [
        f"{task}: {name} is not measured: {reason}"
        for task in TASKS
        for name, each in results.items()
        if (reason := skipped_tasks(each).get(task))
    ]
    notes += [
        f"{figure.label}: the releases have no documents or questions in common" for figure in figures if _apart(figure)
    ]
    if not same_vocabulary:
        notes.append("the vocabularies differ, so of the losses only those in bits per byte can be compared")
    return Comparison([*results], figures, _others(results, {key[0] for key in keys}), notes)


def _figures_of(results: dict) -> dict[tuple[str, str], tuple[str, Outcomes]]:
    """(task, what tells it from the task's others) → the label and the outcomes of each figure.

    The label of a result's own figures may name the files that were read, which differ between releases, so these are
    told apart by their place.
    """
    figures = {}
    for task, result in results.items():
        rows = result_rows(without_outcomes({task: result}))
        for place, outcomes in enumerate(result.get(OUTCOMES, ())):
            if outcomes is not None:
                figures[task, f"row {place}"] = rows[place].label, outcomes
        for score in result.get("scores", ()):
            for outcomes in score.get(OUTCOMES, ()):
                label = result_rows(without_outcomes({task: result | {"scores": [score]}}))[-1].label
                figures[task, label] = label, outcomes
    return figures


def _figure(key: tuple[str, str], found: Sequence[tuple[str, Outcomes] | None]) -> Figure:
    label, first = next(each for each in found if each is not None)
    own = [each[1] for each in found if each is not None]
    shared = on_shared_items(own)
    items = len(shared[0].ids) if sum(shared[0].sizes) else None
    used = iter(own if items is None else shared)
    outcomes = [None if each is None else next(used) for each in found]
    base = None if items is None else outcomes[0]
    cells = [
        each and Cell(each.value, each.interval(), _difference(base, each) if base and place else None)
        for place, each in enumerate(outcomes)
    ]
    return Figure(key[0], label, first.is_share, items, cells)


def _difference(base: Outcomes, other: Outcomes) -> Difference:
    interval = bootstrap_difference(base.parts, base.sizes, other.parts, other.sizes)
    differing = sum(before != now for before, now in zip(base.parts, other.parts, strict=True))
    leaves_out_0 = interval is not None and not interval[0] <= 0 <= interval[1]
    return Difference(other.value - base.value, interval, leaves_out_0 and differing >= FEWEST_DIFFERING)


def _apart(figure: Figure) -> bool:
    return figure.items is None and sum(cell is not None for cell in figure.cells) > 1


def _others(results: Mapping[str, dict], with_items: set[str]) -> list[Plain]:
    """The rows of tasks without any figure that is made of items."""
    values = [
        {(row.task, row.label): row.value for row in result_rows(without_outcomes(each)) if row.task not in with_items}
        for each in results.values()
    ]
    keys = dict.fromkeys(key for each in values for key in each)
    return [Plain(task, label, [each.get((task, label)) for each in values]) for task, label in keys]
