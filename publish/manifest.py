"""What a release folder holds: the allow-list of files, and `release.json`, which names each with its sha256."""

import hashlib
import json
import os
from pathlib import Path

from axion.errors import AxionError

REMOTE_CODE = ("attention_axion.py", "configuration_axion.py", "mixture_axion.py", "modeling_axion.py")
RELEASE_FILES = (
    "README.md",
    "config.json",
    *REMOTE_CODE,
    "expert-load.png",
    "generation_config.json",
    "metrics.csv",
    "model.model",
    "model.safetensors",
    "model.vocab",
    "recipe.yaml",
    "release.json",
    "tokenizer.json",
    "tokenizer.py",
    "tokenizer_config.json",
    "trace.json",
    "training.png",
)
"""A release holds these files, all of them."""
OPTIONAL_FILES = (".eval_results/gsm8k.yaml",)
"""What a release holds where its figures were measured. Nothing else belongs in one, and nothing else is ever sent."""


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path) -> list[str]:
    """The files of a folder and the folders in it, as paths relative to it with forward slashes, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def check_names(folder: Path) -> None:
    """Check that a folder holds the allow-list and nothing else.

    Raises:
        AxionError: it does not; the message names the first file.
    """
    present = set(files_in(folder))
    if missing := sorted(set(RELEASE_FILES) - present):
        raise AxionError(f"{missing[0]} is missing from the release")
    if stray := sorted(present - {*RELEASE_FILES, *OPTIONAL_FILES}):
        raise AxionError(f"{stray[0]} does not belong in the release")


def read_manifest(folder: Path) -> dict:
    """The content of a folder's `release.json`.

    Raises:
        AxionError: there is none, it is broken, or it lists no files.
    """
    try:
        info = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        info = {}
    except ValueError as error:
        raise AxionError(f"{folder / 'release.json'} is broken: {error}") from None
    if not isinstance(info, dict) or not info.get("files"):
        raise AxionError(f"{folder} has no release.json with the sha256 of its files; build the release with: publish")
    return info


def write_manifest(folder: Path, info: dict) -> None:
    """Write `release.json`: `info`, and the sha256 of every other file of the folder."""
    files = {name: sha256(folder / name) for name in files_in(folder) if name != "release.json"}
    content = {key: value for key, value in info.items() if key != "files"} | {"files": files}
    staging = folder / ".release.json"
    staging.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(staging, folder / "release.json")


def check_files(folder: Path) -> dict:
    """Check that every file that `release.json` lists is there, unchanged; returns its content.

    Raises:
        AxionError: it lists none, or a file is missing or differs from its sha256.
    """
    info = read_manifest(folder)
    for name, digest in info["files"].items():
        if not (folder / name).is_file():
            raise AxionError(f"{folder} lacks {name}, which its release.json lists; build the release again")
        if sha256(folder / name) != digest:
            raise AxionError(f"{folder / name} is not the file that release.json describes; build the release again")
    return info
