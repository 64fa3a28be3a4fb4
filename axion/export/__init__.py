"""A release in other formats: `native` for transformers without remote code, `gguf` for llama.cpp.

`deliver` moves what an export wrote to the user's folder and never replaces files that are not an export's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from axion.errors import AxionError
from axion.families import ExportFormat, Family
from axion.files import read_json, scratch_folder, sha256, sync_to_disk, write_json, writing
from axion.model.configuration_axion import AxionConfig
from axion.release import Release

MANIFEST = "export.json"
"""Lists an export's files with their sha256 and their release, so that the next export knows what it may replace."""


def check_export(config: AxionConfig, family: Family, form: ExportFormat) -> None:
    """Checks, without weights, that a model can be exported to a format.

    Raises:
        AxionError: its family has no such export, or the format cannot express this configuration.
    """
    if form == "native":
        from axion.export.native import native_config

        native_config(config)
    else:
        from axion.export.gguf import check_model

        check_model(config)
    family.architecture(form)


def export_name(release: Release) -> str:
    """The name of a release's files: that in release.json, or the release's own without a Hub id's owner and revision.

    Raises:
        AxionError: the name in release.json is not the name of a file.
    """
    if (name := release.info.get("name")) is None:
        return release.name.partition("@")[0].rpartition("/")[2]
    if not (isinstance(name, str) and name and name == Path(name).name and name.isprintable()):
        raise AxionError(
            f"{release.name}: release.json is broken: its name is {name!r}; it must be that of a file, without a folder"
        )
    return name


def deliver(release: Release, write: Callable[[Path], object], target: Path) -> list[Path]:
    """Lets `write` fill an empty folder, then moves its files to `target`, each in one step; returns their paths.

    The manifest lists them as pending before the first is moved, so that the next export also knows the files of one
    that was killed in between.

    Raises:
        AxionError: `target` holds a file of the same name that is not, unchanged, from an earlier export of this
            release; or it cannot be written.
    """
    with writing(target):
        return _deliver(release, write, target)


def _deliver(release: Release, write: Callable[[Path], object], target: Path) -> list[Path]:
    with scratch_folder(target.parent, "export") as staging:
        write(staging)
        target.mkdir(exist_ok=True)
        written = sorted(path.name for path in staging.iterdir())
        files, releases = _read_manifest(target)
        for name in written:
            if (target / name).exists() and files.get(name) != sha256(target / name):
                raise AxionError(
                    f"{target / name} exists and is not an unchanged file of an earlier export; "
                    "move it away or give another --out"
                )
            if (target / name).exists() and releases.get(name, release.name) != release.name:
                raise AxionError(
                    f"{target / name} was exported from {releases[name]}; move it away or give another --out"
                )
        pending = {name: sha256(staging / name) for name in written}
        releases |= dict.fromkeys(written, release.name)
        sync_to_disk(staging)
        write_json(target / MANIFEST, {"files": files, "releases": releases, "pending": pending})
        for name in written:
            (staging / name).chmod(0o644)  # safetensors lets nobody else read what it writes
            os.replace(staging / name, target / name)
        write_json(target / MANIFEST, {"files": files | pending, "releases": releases})
    return [target / name for name in written]


def _read_manifest(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The sha256 and the release of each exported file; of pending ones those that were moved before a kill."""
    try:
        manifest = read_json(folder / MANIFEST)
        files, releases, pending = (dict(manifest.get(part) or {}) for part in ("files", "releases", "pending"))
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}, {}  # then no file here is known to be an export's
    moved = {name for name in pending if (folder / name).is_file() and sha256(folder / name) == pending[name]}
    return files | {name: pending[name] for name in moved}, releases
