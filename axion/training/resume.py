"""Whether a run may start or resume in a folder, and from which checkpoint."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import ValidationError

from axion.data.prepare import data_fingerprint, data_versions
from axion.data.recipe import DataRecipe, TokenizerRecipe
from axion.errors import AxionError, one_line
from axion.files import locked, parse_yaml
from axion.recipe import OF_THE_CARD, DistributedRecipe, Recipe, TrainingRecipe
from axion.training import checkpoint, parallel
from axion.training.metrics import EVALUATIONS_FILE, HISTORY_FILE, METRICS_FILE
from axion.training.runfile import ADAPTER, FINAL, RECIPE_FILE, RUN_FILE, RunSetup, read_run_file, write_started

MAY_CHANGE = {
    *OF_THE_CARD,
    *(f"training.{name}" for name in ("checkpoints", "keep_checkpoints", "keep_best", "trackers")),
    *(f"training.distributed.{name}" for name in DistributedRecipe.model_fields),
}
"""Keys of a recipe that may differ when a run is resumed, because they do not change its result."""


@dataclass(frozen=True)
class EarlierRun:
    """The run that a folder holds already, of the same recipe and data."""

    finished: bool
    backend: str
    """What computed it."""
    optimizer: str | None
    """The optimizer that it was started with; None where an earlier version of Axion did."""
    data: DataRecipe
    """The data section of its recipe, with the revisions that it was started with."""
    tokenizer: TokenizerRecipe
    """The tokenizer section, likewise."""
    checkpoint: Path | None
    """The newest, with every file verified; None if the run was stopped before its first."""
    windows: dict = field(default_factory=dict)
    """The order and the number of its windows, see `axion.training.runfile.describe_windows`; empty in runs of earlier
    versions, which had the order "documents"."""
    restarts: list[int] = field(default_factory=list)
    """`training.restarts` of the run as it goes on."""
    goes_on: bool = False
    """Whether it was finished, and is to train for more epochs."""


def find_earlier(run: Path, recipe: Recipe, resume: bool) -> EarlierRun | None:
    """The run to resume, or None for a new one. Nothing is prepared, compiled or written before this check.

    Args:
        run: the folder.
        recipe: what is to be trained.
        resume: continue what the folder holds; if it holds nothing, a new run starts. A finished run goes on if the
            recipe differs in nothing but more epochs.

    Raises:
        AxionError: without `resume`, the folder holds a run or files that a run would overwrite; with it, a run of
            another recipe or other data, or a broken checkpoint.
    """
    saved = checkpoint.checkpoints(run)
    if not saved and not (run / RUN_FILE).exists():
        _check_free(run)
        return None
    if not resume:
        raise AxionError(f"{run} holds a run already; --resume continues it, --out DIR starts another")
    info, recorded = read_run_file(run), _recorded_recipe(run)
    changed, before = changed_since(run, recipe), recorded.training
    goes_on = bool(info.get("finished")) and changed == ["training.epochs"] and recipe.training.epochs > before.epochs
    if goes_on and before.max_steps is not None:
        raise AxionError(f"{run} ends after training.max_steps ({before.max_steps}), whatever the number of epochs")
    if changed and not goes_on:
        raise AxionError(f"{run} was started with another recipe; resume with the same {', '.join(changed)}")
    backend, optimizer = info.get("backend", "torch"), info.get("optimizer")
    if info.get("finished") and not goes_on and (run / FINAL / "config.json").is_file():
        return EarlierRun(True, backend, optimizer, recorded.data, recorded.tokenizer, None)
    _check_data(run, info, recipe, recorded)
    newest = checkpoint.newest_complete(run) if saved or goes_on else None
    if goes_on and newest and checkpoint.step_of(newest) != info.get("steps"):
        raise AxionError(
            f"{run} lacks the checkpoint of its last step, {info.get('steps')}, from which more epochs would go on; "
            "restore it, or start another run with --out DIR"
        )
    restarts = [*before.restarts, *([checkpoint.step_of(newest)] if goes_on and newest else [])]
    windows = info.get("windows") or {}
    return EarlierRun(False, backend, optimizer, recorded.data, recorded.tokenizer, newest, windows, restarts, goes_on)


@contextmanager
def open_run(run: Path, setup: RunSetup, earlier: EarlierRun | None) -> Iterator[None]:
    """Creates the folder of a new run, or clears what an interrupted write left in that of an earlier one.

    Until the block ends, no other run can be opened in this folder.

    Raises:
        AxionError: another one is, or was since `find_earlier` looked.
    """
    with ExitStack() as stack:

        def open_folder() -> None:
            run.mkdir(parents=True, exist_ok=True)
            if stack.enter_context(locked(run, wait=False)) is False:
                raise AxionError(f"another process is training in {run}; wait until it ends, or give another --out DIR")
            newest = next(reversed(checkpoint.checkpoints(run)), None)
            if newest != (earlier and earlier.checkpoint) or (run / RUN_FILE).exists() != (earlier is not None):
                raise AxionError(f"another process has started or continued the run in {run}; --resume continues it")
            checkpoint.clear_staging(run)
            if earlier is None:
                write_started(run, setup)
            elif earlier.goes_on:
                shutil.rmtree(run / FINAL, ignore_errors=True)  # its weights are those of the newest checkpoint
                write_started(run, setup, finished_before=read_run_file(run))

        parallel.barrier()  # every process has made its checks before one of them writes
        parallel.from_main_process(open_folder)
        yield


def changed_since(run: Path, recipe: Recipe) -> list[str]:
    """The dotted keys in which a recipe differs from the one that a run was started with.

    A data set that the recipe does not pin counts as the revision that the run recorded.
    """
    recorded = _recorded_recipe(run)
    current = recipe.model_copy(
        update={
            "data": recipe.data.with_revisions_of(recorded.data),
            "tokenizer": recipe.tokenizer.with_revision_of(recorded.tokenizer),
            "training": with_restarts(recipe, recipe.training.restarts or recorded.training.restarts),
        }
    )
    return differences(yaml.safe_load(recorded.to_yaml()), yaml.safe_load(current.to_yaml()))


def with_restarts(recipe: Recipe, restarts: list[int]) -> TrainingRecipe:
    """The training section of a recipe whose schedule starts again after these steps."""
    return recipe.training.model_copy(update={"restarts": restarts})


def differences(before: dict, now: dict, prefix: str = "") -> list[str]:
    """The dotted keys whose values differ between two recipes, without those of MAY_CHANGE."""
    names = []
    for key in sorted({*before, *now}):
        path, old, new = prefix + key, before.get(key), now.get(key)
        if path == "data.sources" and old and new and [each["kind"] for each in old] == [each["kind"] for each in new]:
            for number, (source, other) in enumerate(zip(old, new, strict=True)):
                names += differences(source, other, f"{path}.{number}.")
        elif isinstance(old, dict) and isinstance(new, dict):
            names += differences(old, new, f"{path}.")
        elif old != new and path not in MAY_CHANGE:
            names.append(path)
    return names


def _check_data(run: Path, info: dict, recipe: Recipe, recorded: Recipe) -> None:
    """Checks that a recipe's data is that of an unfinished run.

    Args:
        run: the run's folder.
        info: the content of its run.json.
        recipe: what is to be trained.
        recorded: the run's recipe.
    """
    data = info.get("data")
    if not isinstance(data, dict):
        raise AxionError(f"{run / RUN_FILE} is broken: it does not describe the data; start a new run with --out DIR")
    recipe = recipe.model_copy(update={"tokenizer": recipe.tokenizer.pinned(recorded.tokenizer)})
    if data.get("fingerprint") == data_fingerprint(recipe, recorded.data):
        return
    if info.get("data_versions") != data_versions(recorded.data):
        prepared = f"the data of {run} was prepared by another version of Axion or of tokenizers"
        raise AxionError(f"{prepared}; start a new run with --out DIR")
    raise AxionError(f"the data has changed since {run} was started; restore it, or start a new run with --out DIR")


def _recorded_recipe(run: Path) -> Recipe:
    """The recipe that a run was started with. Raises AxionError where this version cannot read it."""
    text = read_run_file(run).get("recipe")
    try:
        return Recipe.model_validate(parse_yaml(text if isinstance(text, str) else ""))
    except (ValueError, ValidationError) as error:
        raise AxionError(f"the recipe in {run / RUN_FILE} cannot be read: {one_line(error)}") from None


def _check_free(run: Path) -> None:
    """Checks that a new run can write into a folder without replacing anything."""
    if run.exists() and not run.is_dir():
        raise AxionError(f"{run} is a file; give a folder for the run as --out DIR")
    for name in (FINAL, ADAPTER, METRICS_FILE, EVALUATIONS_FILE, HISTORY_FILE, RECIPE_FILE, checkpoint.STAGING):
        if (run / name).exists():
            raise AxionError(f"{run / name} exists but is not part of a run; move it away, or give another --out DIR")
    existing = next(folder for folder in (run, *run.absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        raise AxionError(f"{existing} is not writable; give another --out DIR")
