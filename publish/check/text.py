"""Rules for every file: no path of the machine that built it, and no secrets."""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from axion.training.metrics import HISTORY_FILE
from publish.check.folder import BINARY, Folder, Problem
from publish.check.secrets import find_secrets
from publish.manifest import HELD_OUT
from publish.markdown import line_of

_UNIX = r"(?<![\w.])/(?:home|Users|root|tmp|work|workspace|mnt|content|kaggle|scratch|Volumes|var/folders)/[\w.-]"
_WINDOWS = r"(?<![\w.])[A-Za-z]:(?:\\\\|\\(?![nrt])|\\(?=te?mp\\))[\w.-]"  # "A:\n" in JSON is a line end
_FILE_URL = r"(?<![\w.])file:/{2,3}[\w.%-]"
_LOCAL_PATH = re.compile(f"{_UNIX}|{_WINDOWS}|{_FILE_URL}")
TEXTS = (HELD_OUT, HISTORY_FILE)
"""Files whose texts are data, or were written by the model."""
WEIGHTS = ".safetensors"
_CODE = (".py", ".js", ".mjs", ".ts")
_PRINTABLE = re.compile(rb"[\x20-\x7e\t]{8,}")


def no_local_path(folder: Folder) -> Iterator[Problem]:
    """No file contains a path of the machine that built it: it means nothing elsewhere (transformers#32212)."""
    for name, text in _texts(folder):
        if name.endswith(WEIGHTS):  # among millions of weights some look like the short beginning of a path
            text = _header(folder.path / name)
        if name not in TEXTS and (path := _LOCAL_PATH.search(text)):
            what = f"contains a path of this machine ({path[0]}…)"
            yield Problem(name, _line(name, text, path.start()), what, "remove it, since it means nothing elsewhere")


def no_secret(folder: Folder) -> Iterator[Problem]:
    """No file contains a token, key or password (diffusers#6916, autotrain#762)."""
    remedy = "remove and revoke it, since it was about to be published"
    for name, text in _texts(folder):
        kinds = {}
        for found in find_secrets(text, code=name.endswith(_CODE)):
            kinds.setdefault(found.kind, found.start)
        for kind, start in kinds.items():
            yield Problem(name, _line(name, text, start), f"contains {kind}", remedy)


def _texts(folder: Folder) -> Iterator[tuple[str, str]]:
    """Each file as text; of a binary file, the printable parts, such as the metadata of a picture or of weights."""
    for name in folder.files:
        path = folder.path / name
        try:
            if path.stat().st_size == 0:
                continue
            text = "" if path.suffix in BINARY else folder.text(name)
            if not text:
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    text = "\n".join(piece[0].decode("ascii") for piece in _PRINTABLE.finditer(content))
        except OSError:
            continue  # reported by `publish.check.files.readable`
        yield name, text


def _header(path: Path) -> str:
    """The header of a safetensors file, with the names of the tensors and the metadata; empty if it has none."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return file.read(min(size, path.stat().st_size)).decode("utf-8", errors="replace")


def _line(name: str, text: str, offset: int) -> int | None:
    return None if name.endswith(BINARY) else line_of(text, offset)
