"""A release as older versions wrote it: the whole model in modeling_axion.py."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from publish.manifest import read_manifest, write_manifest

PARTS = ("projection_axion", "attention_axion", "mixture_axion", "layer_axion", "mtp_axion")


def copy_as_old_release(release: Path, folder: Path) -> Path:
    """Copy a release into a new folder in the old form, with correct checksums."""
    shutil.copytree(release, folder)
    names = r"(\([^)]*\)|.*)"  # in parentheses over several lines, or up to the end of the line
    own_imports = re.compile(rf"^from \.({'|'.join(PARTS)}) import {names}\n", re.MULTILINE)
    code = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in (*PARTS, "modeling_axion")]
    (folder / "modeling_axion.py").write_text(own_imports.sub("", "\n".join(code)), encoding="utf-8")
    for name in PARTS:
        (folder / f"{name}.py").unlink()
    write_manifest(folder, read_manifest(release))
    return folder
