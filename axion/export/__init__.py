"""A release in other people's formats: `native` for transformers without remote code, `gguf` for llama.cpp.

`deliver` puts what an export wrote where the user wants it, and never over anything else of the user's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from axion.errors import AxionError
from axion.files import read_json, sha256, write_json
from axion.release import Release

MANIFEST = "export.json"
"""Lists the files of an export with their sha256; by it the next export knows what it may replace."""


def export_name(release: Release) -> str:
    """The release's own name, fit for a file: a Hub id loses its owner and its revision."""
    return release.info.get("name") or release.name.partition("@")[0].rpartition("/")[2]


def deliver(write: Callable[[Path], object], target: Path) -> list[Path]:
    """Let `write` fill an empty folder, then move its files to `target`, each in one step; returns where they are.

    Raises:
        AxionError: a file is in the way that is not, unchanged, one of an earlier export.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as workshop:
        write(Path(workshop))
        target.mkdir(exist_ok=True)
        written = sorted(path.name for path in Path(workshop).iterdir())
        known = _read_manifest(target)
        for name in written:
            if (target / name).exists() and known.get(name) != sha256(target / name):
                raise AxionError(
                    f"{target / name} is there already and not as an export left it; move it away or give another --out"
                )
        known |= {name: sha256(Path(workshop, name)) for name in written}
        write_json(Path(workshop, MANIFEST), {"files": known})
        for name in (*written, MANIFEST):
            Path(workshop, name).chmod(0o644)  # safetensors lets nobody else read what it writes
            os.replace(Path(workshop, name), target / name)
    return [target / name for name in written]


def _read_manifest(folder: Path) -> dict[str, str]:
    try:
        return dict(read_json(folder / MANIFEST)["files"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}  # nothing here is known to be ours
