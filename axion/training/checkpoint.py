"""Checkpoints that are whole or not there: staged, sealed with a manifest, renamed into place, verified before use."""

import os
import re
import shutil
from pathlib import Path

from axion.errors import AxionError
from axion.files import read_json, sha256, write_json

STAGING = ".staging"
MANIFEST = "manifest.json"
KEEP = 2


def step_of(checkpoint: Path) -> int:
    """The step that `checkpoint-N` was saved after."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first; what was never finished is not among them."""
    found = [path for path in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=step_of)


def commit(staged: Path, run: Path) -> Path:
    """Seals a staged checkpoint with the sha256 of its files, renames it into the run, drops all but the newest two."""
    sums = {path.name: sha256(path) for path in sorted(staged.iterdir())}
    write_json(staged / MANIFEST, sums)
    target = run / staged.name
    if target.exists():
        _discard(target)
    os.replace(staged, target)
    for old in checkpoints(run)[:-KEEP]:
        _discard(old)
    return target


def clear_staging(run: Path) -> None:
    """Removes what an interrupted write left behind."""
    shutil.rmtree(run / STAGING, ignore_errors=True)


def newest_whole(run: Path) -> Path:
    """The newest checkpoint, checked file by file.

    Raises:
        AxionError: there is none, or a file of it is missing or broken.
    """
    found = checkpoints(run)
    if not found:
        raise AxionError(f"{run} has no checkpoint to resume from; start without --resume")
    newest = found[-1]
    advice = f"restore it, or delete {newest} to resume from the checkpoint before it"
    try:
        sums = read_json(newest / MANIFEST)
    except (OSError, ValueError):
        raise AxionError(f"{newest / MANIFEST} is missing or broken; {advice}") from None
    for name, expected in sums.items():
        if not (newest / name).is_file():
            raise AxionError(f"{newest / name} is missing; {advice}")
        if sha256(newest / name) != expected:
            raise AxionError(f"{newest / name} is broken: its sha256 is not the one in {MANIFEST}; {advice}")
    return newest


def _discard(folder: Path) -> None:
    """Deletes a checkpoint in one step as seen from outside: renamed away first, so that half of it never shows."""
    doomed = folder.parent / STAGING / f"old-{folder.name}"
    doomed.parent.mkdir(exist_ok=True)
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(folder, doomed)
    shutil.rmtree(doomed)
