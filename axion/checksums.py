"""The SHA-256 of data files. That of a large file is computed once and then found in the user's cache folder.

A file counts as the same while its size, inode and both times are: the system sets the second one (ctime) at every
change, also where a program sets back the first.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from axion.errors import AxionError
from axion.files import read_json, sha256, write_json

REMEMBERED_BYTES = 2**26
"""From this size on, 64 MiB, a checksum is remembered."""

SETTLED_SECONDS = 2
"""A file that was changed less than this ago may change again within the resolution of its times."""


def identify(paths: Iterable[Path | str]) -> list[dict[str, str]]:
    """Local files by name and SHA-256, never by path, as runs and releases record them."""
    return [{"name": Path(path).name, "sha256": remembered_sha256(Path(path))} for path in paths]


def remembered_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; for an unchanged large file, the one computed before."""
    state = _state(path)
    if state["size"] < REMEMBERED_BYTES:
        return sha256(path)
    entry = _folder() / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = read_json(entry)
        if content["state"] == state:
            return str(content["sha256"])
    is_settled = time.time_ns() - max(state["mtime_ns"], state["ctime_ns"]) > SETTLED_SECONDS * 10**9
    digest = sha256(path)
    if is_settled and _state(path) == state:
        with suppress(AxionError, OSError):  # it is computed again where the cache cannot be written
            write_json(entry, {"path": str(path.resolve()), "sha256": digest, "state": state})
    return digest


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {
        "size": found.st_size,
        "inode": found.st_ino,
        "device": found.st_dev,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
    }


def _folder() -> Path:
    """`axion/checksums` in the user's cache folder, which is `$XDG_CACHE_HOME` or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "axion" / "checksums"
