"""Whether a run may start or resume in a folder, and from which checkpoint."""

from pathlib import Path

import yaml

from axion.data.prepare import Prepared
from axion.data.recipe import DataRecipe
from axion.errors import AxionError
from axion.kernels.backend import Choice
from axion.recipe import Recipe
from axion.training import checkpoint, parallel
from axion.training.runfile import RUN_FILE, read_run_file, write_started

MAY_CHANGE = {"training.checkpoints", "training.trackers"}
"""Keys of a recipe that may differ when a run is resumed: they do not change what it computes."""


def open_run(run: Path, recipe: Recipe, data: Prepared, backend: Choice, resume: bool) -> Path | None:
    """Creates the run's folder, or checks that the run in it can be resumed.

    Returns:
        The checkpoint to resume from; None for a new run, and for one that was stopped before its first checkpoint.

    Raises:
        AxionError: a new run in a folder that holds one; nothing to resume; a finished run; another recipe, backend or
            data than the run was started with; a broken checkpoint.
    """
    saved = checkpoint.checkpoints(run)
    exists = bool(saved) or (run / RUN_FILE).exists()
    if resume and not exists:
        raise AxionError(f"{run} holds no run to resume; start without --resume")
    if exists and not resume:
        raise AxionError(f"{run} holds a run already; --resume continues it, --out DIR starts another")
    if resume:
        _check_unchanged(run, recipe, data, backend)
    parallel.barrier()  # every process has made its checks before one of them writes
    if parallel.is_main_process():
        run.mkdir(parents=True, exist_ok=True)
        checkpoint.clear_staging(run)
        if not resume:
            write_started(run, recipe, data, backend)
    parallel.barrier()
    return checkpoint.newest_complete(run) if saved else None


def recorded_data(run: Path) -> DataRecipe | None:
    """The data section that a run was started with; None if there is no run."""
    return _recorded_recipe(run).data if (run / RUN_FILE).exists() else None


def changed_since(run: Path, recipe: Recipe) -> list[str]:
    """The dotted keys in which a recipe differs from the one that a run was started with.

    A data set that the recipe does not pin counts as the revision that the run recorded.
    """
    recorded = _recorded_recipe(run)
    current = recipe.model_copy(update={"data": recipe.data.with_revisions_of(recorded.data)})
    return differences(yaml.safe_load(recorded.to_yaml()), yaml.safe_load(current.to_yaml()))


def _recorded_recipe(run: Path) -> Recipe:
    return Recipe.model_validate(yaml.safe_load(read_run_file(run)["recipe"]))


def _check_unchanged(run: Path, recipe: Recipe, data: Prepared, backend: Choice) -> None:
    info = read_run_file(run)
    if info["finished"]:
        raise AxionError(f"{run} is finished; --out DIR starts another run")
    if changed := changed_since(run, recipe):
        raise AxionError(f"{run} was started with another recipe; resume with the same {', '.join(changed)}")
    if (before := info.get("backend", "torch")) != backend.name:  # they round differently
        raise AxionError(f"{run} was started with another backend; resume with --backend {before}")
    if info["data"]["fingerprint"] != data.summary["fingerprint"]:
        raise AxionError(f"the data has changed since {run} was started; restore it, or start a new run with --out DIR")


def differences(before: dict, now: dict, prefix: str = "") -> list[str]:
    """The dotted keys whose values differ between two recipes, without those of MAY_CHANGE."""
    names = []
    for key in sorted({*before, *now}):
        path, old, new = prefix + key, before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names += differences(old, new, f"{path}.")
        elif old != new and path not in MAY_CHANGE:
            names.append(path)
    return names
