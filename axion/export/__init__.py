"""A release in other formats: `native` for transformers without remote code, `gguf` for llama.cpp.

`deliver` moves what an export wrote to the user's folder and never replaces files that are not an export's own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from axion.errors import AxionError
from axion.families import ExportFormat, Family
from axion.files import read_json, sha256, sync_to_disk, write_json, writing
from axion.model.configuration_axion import AxionConfig
from axion.release import Release

MANIFEST = "export.json"
"""Lists an export's files with their sha256 and their release, so that the next export knows what it may replace."""


def check_export(config: AxionConfig, family: Family, form: ExportFormat) -> None:
    """Checks, without weights, that a model can be exported to a format.

    Raises:
        AxionError: its family has no such export, or the format cannot express this configuration.
    """
    family.architecture(form)
    if form == "native":
        from axion.export.native import native_config

        native_config(config)
    else:
        from axion.export.gguf import check_model

        check_model(config)


def export_name(release: Release) -> str:
    """The release's name without the owner and revision of a Hub id, for use in file names."""
    return release.info.get("name") or release.name.partition("@")[0].rpartition("/")[2]


def deliver(release: Release, write: Callable[[Path], object], target: Path) -> list[Path]:
    """Lets `write` fill an empty folder, then moves its files to `target`, each in one step; returns their paths.

    Raises:
        AxionError: `target` holds a file of the same name that is not, unchanged, from an earlier export of this
            release; or it cannot be written.
    """
    with writing(target):
        return _deliver(release, write, target)


def _deliver(release: Release, write: Callable[[Path], object], target: Path) -> list[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as staging:
        write(Path(staging))
        target.mkdir(exist_ok=True)
        written = sorted(path.name for path in Path(staging).iterdir())
        known, releases = (_read_manifest(target, part) for part in ("files", "releases"))
        for name in written:
            if (target / name).exists() and known.get(name) != sha256(target / name):
                raise AxionError(
                    f"{target / name} exists and is not an unchanged file of an earlier export; "
                    "move it away or give another --out"
                )
            if (target / name).exists() and releases.get(name, release.name) != release.name:
                raise AxionError(
                    f"{target / name} was exported from {releases[name]}; move it away or give another --out"
                )
        known |= {name: sha256(Path(staging, name)) for name in written}
        releases |= dict.fromkeys(written, release.name)
        write_json(Path(staging, MANIFEST), {"files": known, "releases": releases})
        sync_to_disk(Path(staging))
        for name in (*written, MANIFEST):
            Path(staging, name).chmod(0o644)  # safetensors lets nobody else read what it writes
            os.replace(Path(staging, name), target / name)
    return [target / name for name in written]


def _read_manifest(folder: Path, part: str) -> dict[str, str]:
    try:
        return dict(read_json(folder / MANIFEST)[part])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}  # then no file here is known to be an export's
