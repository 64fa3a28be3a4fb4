"""Checkpoints that are complete or absent: staged, sealed with a manifest, renamed into place, verified before use."""

import os
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

from safetensors.torch import load_model
from torch import nn

from axion.errors import AxionError
from axion.files import read_json, sha256, sync_to_disk, write_json

STAGING = ".staging"
MANIFEST = "manifest.json"

NEEDED = {
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "trainer_state.json",
    "rng_state*.pth",
    "recorder.json",
}
"""The files without which a run does not resume; each process of a run has an rng_state file of its own."""


def step_of(checkpoint: Path) -> int:
    """N of `checkpoint-N`, the step after which it was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints(run: Path) -> list[Path]:
    """The run's complete checkpoints, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=step_of)


def commit(staged: Path, run: Path, keep: int, best: int | None = None) -> Path:
    """Writes the manifest of a staged checkpoint, renames it into the run and deletes old ones.

    The manifest maps every file to its SHA-256.

    Args:
        staged: the folder `checkpoint-N` in the run's staging folder.
        run: the run's folder.
        keep: how many checkpoints stay, the newest ones.
        best: the step of the best checkpoint, which is kept too.
    """
    sums = {path.name: sha256(path) for path in sorted(staged.iterdir())}
    write_json(staged / MANIFEST, sums)
    sync_to_disk(staged)
    target = run / staged.name
    if target.exists():
        _discard(target)
    os.replace(staged, target)
    for old in checkpoints(run)[:-keep]:
        if step_of(old) != best:
            _discard(old)
    return target


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Copies a checkpoint's weights into a model that was built from the same config.

    The model keeps its own memory. `from_pretrained` would leave its parameters in the mapped file, where they are not
    aligned as a new model's are, and PyTorch rounds differently.
    """
    load_model(model, checkpoint / "model.safetensors")


def clear_staging(run: Path) -> None:
    """Deletes what an interrupted write left behind."""
    shutil.rmtree(run / STAGING, ignore_errors=True)


def newest_complete(run: Path) -> Path:
    """The newest checkpoint, with every file verified.

    Raises:
        AxionError: there is none, or one of its files is missing or broken.
    """
    found = checkpoints(run)
    if not found:
        raise AxionError(f"{run} has no checkpoint to resume from; start without --resume")
    newest = found[-1]
    advice = f"restore it, or delete {newest} to resume from the checkpoint before it"
    try:
        sums = read_json(newest / MANIFEST)
    except (OSError, ValueError):
        sums = None
    if not isinstance(sums, dict) or not all(any(fnmatch(name, needed) for name in sums) for needed in NEEDED):
        raise AxionError(f"{newest / MANIFEST} is missing or broken; {advice}")
    for name, expected in sums.items():
        if not (newest / name).is_file():
            raise AxionError(f"{newest / name} is missing; {advice}")
        if sha256(newest / name) != expected:
            raise AxionError(f"{newest / name} is broken: its sha256 is not the one in {MANIFEST}; {advice}")
    return newest


def _discard(folder: Path) -> None:
    """Deletes a checkpoint; it is renamed away first, so that a part of it never looks like a checkpoint."""
    discarded = folder.parent / STAGING / f"old-{folder.name}"
    discarded.parent.mkdir(exist_ok=True)
    shutil.rmtree(discarded, ignore_errors=True)
    os.replace(folder, discarded)
    shutil.rmtree(discarded)
