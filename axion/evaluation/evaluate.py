"""Runs the tasks on a release. One whose data is not available is reported as skipped, with the reason.

Tasks for models of another kind, such as sums for a model of stories, are left out unless they are to be listed too.

Text is generated greedily, so a second run gives the same results, except for the speed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from axion.data.recipe import DataRecipe
from axion.errors import AxionError
from axion.evaluation.results import EARLIER_TASKS
from axion.evaluation.tasks import READ_DATA, TASKS, NotApplicable, NotAvailable, Subject
from axion.release import Release


def evaluate(
    release: Release,
    data: DataRecipe,
    tasks: Sequence[str] | None = None,
    progress: bool = False,
    known: Mapping[str, dict] | None = None,
    arguments: Sequence[str] = (),
    list_inapplicable: bool = False,
) -> dict:
    """Measures a release.

    Args:
        release: the model and its tokenizer. How often a looped model runs its shared layers is what its config says;
            see `Release.with_loops`.
        data: the data section of the recipe that the model was trained with: what was held out, and from where.
        tasks: names from TASKS, or those of earlier releases; by default, every task that applies and has its data.
        progress: whether to show progress bars on standard error.
        known: earlier results that still hold; these tasks are not measured again.
        arguments: of the commands, besides the task: the release and settings; by default its name, and for the tasks
            that read data the names of its local files.
        list_inapplicable: whether tasks for models of another kind are listed as skipped.

    Returns:
        Task → its results, the "command" that repeats the measurement and, for a looped model, "num_loops"; or
        {"skipped": reason}.

    Raises:
        AxionError: a task is unknown, a local data file is broken, or a task in `tasks` does not apply or has no data.
    """
    names = list(TASKS) if tasks is None else [EARLIER_TASKS.get(task, task) for task in tasks]
    if unknown := sorted(set(names) - set(TASKS)):
        raise AxionError(f"no task {unknown[0]!r}; known: {', '.join(TASKS)}")
    subject = Subject(release, data, progress)
    results, known = {}, known or {}
    loops = {"num_loops": release.config.num_loops} if release.config.num_shared_layers else {}
    for task in dict.fromkeys(names):
        if task in known:
            results[task] = known[task]
            continue
        try:
            figures = TASKS[task](subject)
        except NotApplicable as reason:
            if tasks is not None:
                raise
            if list_inapplicable:
                results[task] = {"skipped": str(reason)}
        except NotAvailable as reason:
            if tasks is not None:
                raise
            results[task] = {"skipped": str(reason)}
        else:
            files = data.file_options() if task in READ_DATA else []
            given = shlex.join(arguments or [release.name, *files])
            results[task] = figures | loops | {"command": f"python -m axion eval {given} --tasks {task}"}
    return results
