"""run.json: what a run was made from, with which software and machine, and whether it is finished."""

import platform
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType

from axion.data.openings import openings
from axion.data.packing import PackedWindows
from axion.data.prepare import Prepared, data_versions
from axion.data.whole_documents import WholeDocuments
from axion.errors import AxionError, one_line
from axion.files import read_json, write_json, write_text
from axion.kernels.backend import Choice
from axion.machine import git_commit, libraries, machine
from axion.recipe import Recipe
from axion.training.metrics import METRICS_FILE, read_metrics

RUN_FILE = "run.json"
RECIPE_FILE = "recipe.yaml"
FINAL = "final"
"""The folder of a finished run that holds its model; it opens like a release."""
ADAPTER = "adapter"
"""The folder of a finished run with LoRA that holds the adapters alone, as peft writes them."""

_OF_A_FINISHED_RUN = ("steps", "tokens", "seconds", "date", "git_commit")

_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "recipe", "backend", "python", "date"), str),
    **dict.fromkeys(("optimizer", "git_commit"), (str, NoneType)),
    **dict.fromkeys(("data", "windows", "data_versions", "libraries", "machine", "environment"), dict),
    **dict.fromkeys(("before", "openings"), list),
    **dict.fromkeys(("seed", "steps", "tokens"), int),
    **{"seconds": (int, float), "finished": bool},
}
"""What run.json has; earlier versions of Axion wrote fewer keys."""


@dataclass(frozen=True)
class RunSetup:
    """What a run is made from."""

    recipe: Recipe
    """With the revisions of its data filled in."""
    data: Prepared
    windows: PackedWindows | WholeDocuments
    backend: Choice
    optimizer: str
    """The one of the recipe, or AdamW in place of adamw8bit."""


def read_run_file(run: Path) -> dict:
    """The content of a run's run.json. Raises AxionError if it is missing, cannot be read, or has another form."""
    try:
        content = read_json(run / RUN_FILE)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise AxionError(f"{run} is not a run: it has no readable {RUN_FILE}; start another with --out DIR")
    for key, kind in _TYPES.items():
        if key in content and not isinstance(content[key], kind):
            found = one_line(repr(content[key]), limit=60)
            raise AxionError(
                f"{run / RUN_FILE} is broken: {key} is {found}; restore it, or start a new run with --out DIR"
            )
    return content


def write_started(run: Path, setup: RunSetup, finished_before: dict | None = None) -> None:
    """Writes the run.json of a run that starts, and recipe.yaml, which evaluation reads.

    Args:
        finished_before: the run.json of the same run when it was finished, which now goes on for more epochs. "before"
            keeps what it said of itself.
    """
    before = finished_before or {}
    earlier = {key: before.get(key) for key in _OF_A_FINISHED_RUN} if finished_before else None
    _write(run, _describe(setup) | {"before": [*before.get("before", []), *([earlier] if earlier else [])]})


def write_finished(run: Path, setup: RunSetup, steps: int, environment: dict[str, str | int | None]) -> None:
    """Writes the run.json of a finished run. It keeps the commit of the code that the run was started with.

    Args:
        environment: see `axion.training.environment`.
    """
    training, started = setup.recipe.training, read_run_file(run)
    info = _describe(setup) | {
        "finished": True,
        **{key: started.get(key, default) for key, default in (("git_commit", None), ("before", []))},
        "steps": steps,
        "tokens": steps * training.batch_size * training.window,
        "seconds": read_metrics(run / METRICS_FILE)["seconds"][-1].item(),
        "date": datetime.now(UTC).date().isoformat(),
        "environment": environment,
    }
    _write(run, info)


def describe_windows(windows: PackedWindows | WholeDocuments) -> dict:
    """The order of a run's windows, "shards" or "documents", and their number in an epoch, which resuming keeps."""
    by_shard = isinstance(windows, PackedWindows) and windows.by_shard
    return {"order": "shards" if by_shard else "documents", "per_epoch": windows.windows_per_epoch}


def _describe(setup: RunSetup) -> dict:
    recipe, data = setup.recipe, setup.data
    return {
        "name": recipe.name,
        "finished": False,
        "recipe": recipe.to_yaml(),
        "seed": recipe.seed,
        "backend": setup.backend.name,
        "optimizer": setup.optimizer,
        "data": data.summary,
        "windows": describe_windows(setup.windows),
        "openings": openings(data),
        "data_versions": data_versions(data.data),
        "libraries": libraries(),
        "python": platform.python_version(),
        "machine": machine(),
        "git_commit": git_commit(),
    }


def _write(run: Path, info: dict) -> None:
    write_json(run / RUN_FILE, info)  # first: it marks the folder as a run's
    write_text(run / RECIPE_FILE, info["recipe"])


def latest_run(name: str, root: Path = Path("runs")) -> Path | None:
    """The newest finished run of a recipe under `root`, or None."""
    finished = []
    for file in root.glob(f"*/{RUN_FILE}"):
        with suppress(AxionError):  # a damaged run does not hide the others
            info = read_run_file(file.parent)
            if info.get("finished") and info.get("name") == name:
                finished.append(file)
    return max(finished, key=lambda file: file.stat().st_mtime).parent if finished else None
