"""Runs the tasks on a release. One whose data is not available is reported as skipped, with the reason.

Tasks for models of another kind, such as sums for a model of stories, are left out unless they are to be listed too.

Text is generated greedily or with given seeds, so a second run gives the same results, except for the speed.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from axion.data.recipe import DataRecipe
from axion.errors import AxionError
from axion.evaluation.outcomes import without_outcomes
from axion.evaluation.results import EARLIER_TASKS
from axion.evaluation.subject import NotApplicable, NotAvailable, Subject, with_copies
from axion.evaluation.tasks import CARD, QUICK, READ_DATA, SAMPLES, SETS, TASKS
from axion.release import Release


def evaluate(
    release: Release,
    data: DataRecipe,
    tasks: Sequence[str] | None = None,
    progress: bool = False,
    known: Mapping[str, dict] | None = None,
    arguments: Sequence[str] = (),
    list_inapplicable: bool = False,
    folder: Path | None = None,
    strict: bool = True,
    keep_outcomes: bool = False,
    seconds: dict[str, float] | None = None,
) -> dict:
    """Measures a release.

    Args:
        release: the model and its tokenizer. How often a looped model runs its shared layers is what its config says;
            see `Release.with_loops`.
        data: the data section of the recipe that the model was trained with: what was held out, and from where.
        tasks: names from TASKS, those of earlier releases, or names from SETS, which stand for every task of the set
            that applies and has its data; the set `card` by default.
        progress: whether to show progress bars on standard error.
        known: earlier results that still hold; these tasks are not measured again.
        arguments: of the commands, besides the task: the release and settings; by default its name, for the tasks that
            read data the names of its local files, and for those that read copies `--data DIR`.
        list_inapplicable: whether tasks for models of another kind are listed as skipped.
        folder: where local copies lie, see `axion.evaluation.subject.COPIES`.
        strict: whether a task that `tasks` names has to apply and to have its data; else it is treated as in a set.
        keep_outcomes: whether the results have the outcomes too, see `axion.evaluation.outcomes`.
        seconds: is given how long each task took.

    Returns:
        Task → its results, the "command" that repeats the measurement, for a looped model "num_loops" and for rounded
        weights "weights"; or {"skipped": reason}. JSON, unless the outcomes are kept.

    Raises:
        AxionError: a task is unknown, a local data file is broken, or with `strict` a task that `tasks` names does not
            apply or has no data; `folder` has no copies.
    """
    named = {EARLIER_TASKS.get(task, task) for task in tasks or () if task not in SETS}
    if unknown := sorted(named - set(TASKS)):
        raise AxionError(f"no task {unknown[0]!r}; known: {', '.join([*SETS, *TASKS])}")
    wanted = named.union(*(SETS[task] for task in tasks or () if task in SETS)) if tasks is not None else {*CARD}
    in_full = named.union(*(SETS[task] for task in tasks or () if task in SETS and task != QUICK))
    subject = Subject(release, with_copies(data, folder) if folder else data, progress, folder)
    results, known = {}, known or {}
    variant = {"num_loops": release.config.num_loops} if release.config.num_shared_layers else {}
    variant |= {"weights": release.weights} if release.weights != "fp32" else {}
    for task in (task for task in TASKS if task in wanted):
        if task in known:
            results[task] = known[task]
            continue
        is_sample, started = task in SAMPLES and task not in in_full, time.perf_counter()
        subject.copies_read.clear()
        try:
            figures = (SAMPLES if is_sample else TASKS)[task](subject)
        except NotApplicable as reason:
            if strict and task in named:
                raise
            if list_inapplicable:
                results[task] = {"skipped": str(reason)}
        except NotAvailable as reason:
            if strict and task in named:
                raise
            results[task] = {"skipped": str(reason)}
        else:
            files = subject.data.file_options() if task in READ_DATA else []
            copies = ["--data", "DIR"] if subject.copies_read else []
            given = shlex.join(arguments or [release.name, *files, *copies])
            asked = QUICK if is_sample else task
            results[task] = figures | variant | {"command": f"python -m axion eval {given} --tasks {asked}"}
            if seconds is not None:
                seconds[task] = round(time.perf_counter() - started, 2)
    return results if keep_outcomes else without_outcomes(results)
