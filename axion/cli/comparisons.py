"""Commands that hold models against each other: `compare`, `reproduce`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from axion.cli.recipes import run_to_the_end
from axion.cli.releases import data_of
from axion.cli.tables import comparison_table
from axion.errors import AxionError
from axion.files import staged
from axion.options import Json, Overrides, ReleaseName, check_plot

if TYPE_CHECKING:
    from axion.data.recipe import DataRecipe
    from axion.evaluation.compare import Comparison
    from axion.recipe import Recipe
    from axion.release import Release

DataFolder = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="A folder of local copies; `axion eval --help` lists what it may have."),
]


def compare(
    releases: Annotated[
        list[str],
        typer.Argument(metavar="RELEASE...", help="Two or more: folders, names under releases/, or Hub ids."),
    ],
    tasks: Annotated[
        str, typer.Option(help="Comma-separated names of tasks and sets of tasks, as for `axion eval`.")
    ] = "quick",
    data: DataFolder = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the figures with their intervals, as .png or .svg.")
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Compare releases with the first of them: every figure, its 95% interval, and the difference with its own.

    Answers and documents are paired: the interval of a difference comes from a bootstrap that draws the same items for
    both releases. Where releases hold out different documents or sums, a figure is over those that all have. Bits per
    byte can be compared between vocabularies; losses in nats per token are left out.
    """
    from axion.release import open_release

    if len(releases) < 2:
        raise AxionError(f"give at least two releases to compare; {releases[0]} is one")
    check_plot(plot)
    opened = [open_release(release) for release in releases]
    names = [release.name for release in opened]
    if len({*names}) < len(names):  # two folders of one name
        names = releases
    if repeated := [name for name in names if names.count(name) > 1]:
        raise AxionError(f"{repeated[0]} is given twice; give different releases")
    subjects = {name: (each, data_of(each, overrides or ())) for name, each in zip(names, opened, strict=True)}
    comparison = _side_by_side(subjects, [name.strip() for name in tasks.split(",")], data)
    if plot and not comparison.figures:
        raise AxionError(f"nothing to draw in {plot}: no task of {tasks} has answers or documents to compare")
    if plot:
        from axion.evaluation.comparison_chart import draw_comparison

        with staged(plot) as staging:
            draw_comparison(comparison, staging)
    print(json.dumps(comparison.to_json()) if as_json else comparison_table(comparison))


def _side_by_side(
    subjects: Mapping[str, tuple[Release, DataRecipe]], tasks: Sequence[str], copies: Path | None = None
) -> Comparison:
    """Measures releases, each on what its own data holds out, and compares them.

    Args:
        subjects: name → the release and the data that it was trained on.
        tasks: names of tasks and sets of tasks.
        copies: a folder of local copies.
    """
    from axion.evaluation.compare import compare as side_by_side
    from axion.evaluation.evaluate import evaluate

    results, progress = {}, sys.stderr.isatty()
    for name, (release, data) in subjects.items():
        if progress:
            print(f"measuring {name}", file=sys.stderr)
        results[name] = evaluate(
            release, data, tasks, progress, list_inapplicable=True, folder=copies, strict=False, keep_outcomes=True
        )
    vocabularies = [release.tokenizer.get_vocab() for release, _ in subjects.values()]
    return side_by_side(results, same_vocabulary=all(each == vocabularies[0] for each in vocabularies))


def reproduce(
    release: ReleaseName,
    data: DataFolder = None,
    overrides: Overrides = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="RELEASE", help="What it started from; by default what its recipe names."),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="The backend: torch, native or auto; by default that of the release.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME-again by default.")] = None,
    as_json: Json = False,
) -> None:
    """Train a release again from its own recipe and say whether the weights are the same to the bit.

    With the same code and libraries, the same kind of processor and the same number of threads, which is set to that of
    the release, they are. What differs is said before the training starts. If the weights differ, the figures of both
    models are compared. --set may only name local files of the same data.

    Exits with 0 where the weights are the same and with 1 where they differ. Ctrl-C saves a checkpoint, and the same
    command continues.
    """
    import torch

    from axion.evaluation.reproduce import (
        TASKS,
        compare_weights,
        conditions_here,
        differing,
        recipe_of,
        recorded_conditions,
    )
    from axion.release import open_release
    from axion.training.run import choose_backend, train

    opened = open_release(release)
    recipe, before = recipe_of(opened, overrides or (), data), recorded_conditions(opened)
    run = out or Path("runs") / f"{recipe.name}-again"
    if run.resolve() == opened.folder.resolve().parent:
        raise AxionError(f"{run} is the run that made {opened.name}; give another folder with --out DIR")
    base = _base(recipe, opened.name, start)
    if isinstance(threads := before.get("threads"), int) and threads > 0:
        torch.set_num_threads(threads)
    requested = backend or str(before.get("backend") or "auto")
    changed = differing(before, conditions_here(choose_backend(recipe, requested), recipe), recipe.data)
    for name, (was, now) in changed.items():
        print(f"differs: {name} was {was}, is {now}", file=sys.stderr)
    with run_to_the_end():
        train(recipe, run, resume=True, backend=requested, start=base)
    both = {opened.name: opened, str(run): open_release(run / "final")}
    weights = compare_weights(*(each.folder for each in both.values()))
    comparison = None
    if weights.different:
        comparison = _side_by_side({name: (each, recipe.data) for name, each in both.items()}, TASKS)
    if as_json:
        told = {"release": opened.name, "run": str(run), "changed": changed, "same": not weights.different}
        told |= {"tensors": weights.tensors, "different": weights.different, "largest_difference": weights.largest}
        print(json.dumps(told | {"figures": comparison and comparison.to_json()}))
    else:
        print(weights)
        if comparison:
            print(f"\n{comparison_table(comparison)}")
    if weights.different:
        raise typer.Exit(1)


def _base(recipe: Recipe, name: str, start: str | None) -> Release | None:
    """The release that a release started from; None for one that was trained from scratch."""
    from axion.release import open_release

    if recipe.start is None:
        if start:
            raise AxionError(f"{name} was trained from scratch; leave out --from")
        return None
    at = f"@{recipe.start.revision}" if recipe.start.revision else ""
    return open_release(start or (f"{recipe.start.repo_id}{at}" if recipe.start.repo_id else recipe.start.name))
