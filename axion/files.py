"""Reading and writing files: checksums, atomic writes and strict JSON."""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: the folder that holds axion/, configs/ and releases/."""


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identify(paths: Iterable[Path | str]) -> list[dict[str, str]]:
    """Local files by name and SHA-256, never by path, as runs and releases record them."""
    return [{"name": Path(path).name, "sha256": sha256(path)} for path in paths]


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it when the block succeeds and is deleted when it fails.

    Readers see the old file or the complete new one, never a part of it. Missing parent folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.tmp")
    try:
        yield staging
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def staged_folder(folder: Path, last: str | None = None) -> Iterator[Path]:
    """Yields an empty temporary folder whose files are moved into `folder` when the block succeeds.

    Each file replaces one of the same name in a single step; other files in `folder` are left alone.

    Args:
        folder: created where it is missing.
        last: the file to move after all others, because its presence means that they are complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=folder) as staging:
        yield Path(staging)
        for file in sorted(Path(staging).iterdir(), key=lambda file: (file.name == last, file.name)):
            os.replace(file, folder / file.name)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically, with the line endings of `text` as they are."""
    with staged(path) as staging:
        staging.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: object) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8 or not JSON. NaN and Infinity, which Python would accept, are not JSON.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Parses JSON as strictly as a browser does. Raises ValueError, also for NaN and Infinity."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def git_commit() -> str | None:
    """The checkout's commit, with `+changes` where tracked files differ from it; None outside of a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit, changed = (
            subprocess.run([*git, *arguments], capture_output=True, text=True, check=True).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")
