"""What a release folder holds: the allowed files, and `release.json`, which lists each with its sha256."""

import json
import re
from pathlib import Path

import axion.model
from axion.errors import AxionError
from axion.files import read_json, sha256, write_json

CODE = Path(axion.model.__path__[0])
"""The folder of the remote code, which is copied into every release."""
REMOTE_CODE = tuple(sorted(path.name for path in CODE.glob("*_axion.py")))
"""The remote code that this version of Axion writes. Older releases have other files, see `remote_code`."""

REQUIRED_FILES = (
    "README.md",
    "config.json",
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
"""Every release has these files, in addition to its remote code."""
OPTIONAL_FILES = (".eval_results/gsm8k.yaml",)
"""A release has these files where their figures were measured."""


_RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.(\w+)\s+import", re.MULTILINE)  # as transformers finds them


def files_in(folder: Path) -> list[str]:
    """All files below a folder, as sorted relative paths with forward slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def remote_code(folder: Path) -> set[str]:
    """The Python files that transformers loads from a release: those of `auto_map`, and what they import.

    Files that are named but missing are included. Releases differ in how many files their code has, so this reads the
    folder instead of assuming `REMOTE_CODE`.
    """
    try:
        auto_map = json.loads(_read(folder / "config.json"))["auto_map"]
        targets = [target for target in auto_map.values() if isinstance(target, str)]
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return set()
    modules = (target.rpartition(".")[0].rpartition("--")[2] for target in targets)
    waiting, found = {f"{module}.py" for module in modules if module.isidentifier()}, set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            imports = _RELATIVE_IMPORT.findall(_read(folder / name))
        except (OSError, ValueError):
            continue
        waiting |= {f"{module}.py" for module in imports} - found
    return found


def _read(path: Path) -> str:
    if not path.is_file():  # opening a pipe would block
        raise FileNotFoundError(path)
    return path.read_text(encoding="utf-8")


def required_files(code: set[str]) -> set[str]:
    """The files that a release must have, given its remote code."""
    return {*REQUIRED_FILES, *code}


def allowed_files(code: set[str]) -> set[str]:
    """The files that a release may have, given its remote code; anything else is never sent."""
    return {*REQUIRED_FILES, *code, *REMOTE_CODE, *OPTIONAL_FILES}


def check_names(folder: Path) -> None:
    """Check that a folder has all required files and only allowed ones.

    Raises:
        AxionError: it has not; the message names the first file.
    """
    present, code = set(files_in(folder)), remote_code(folder)
    if missing := sorted(required_files(code) - present):
        raise AxionError(f"{missing[0]} is missing from the release")
    if unexpected := sorted(present - allowed_files(code)):
        raise AxionError(f"{unexpected[0]} does not belong in the release")


def read_manifest(folder: Path) -> dict:
    """The content of a folder's `release.json`.

    Raises:
        AxionError: there is none, it is not valid JSON, or it lists no files.
    """
    try:
        info = read_json(folder / "release.json")
    except FileNotFoundError:
        info = {}
    except ValueError as error:
        raise AxionError(f"{folder / 'release.json'} is not valid JSON: {error}") from None
    if not isinstance(info, dict) or not info.get("files"):
        raise AxionError(
            f"{folder} has no release.json with the sha256 of its files; build the release with `python -m publish`"
        )
    return info


def write_manifest(folder: Path, info: dict) -> None:
    """Write `release.json`: `info`, and the sha256 of every other file of the folder."""
    files = {name: sha256(folder / name) for name in files_in(folder) if name != "release.json"}
    content = {key: value for key, value in info.items() if key != "files"} | {"files": files}
    write_json(folder / "release.json", content)


def check_files(folder: Path) -> dict:
    """Check the sha256 of every file that `release.json` lists.

    Returns:
        The content of `release.json`.

    Raises:
        AxionError: there is no valid `release.json`, or a file is missing or has another sha256.
    """
    info = read_manifest(folder)
    for name, digest in info["files"].items():
        if not (folder / name).is_file():
            raise AxionError(f"{folder} lacks {name}, which its release.json lists; build the release again")
        if sha256(folder / name) != digest:
            raise AxionError(f"{folder / name} does not match its sha256 in release.json; build the release again")
    return info
