"""A folder as the rules see it: plain files, read once, nothing in them executed; and what a rule says about one."""

import ast
import os
import reprlib
import stat
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from axion.errors import AxionError
from axion.files import parse_json
from publish.check.secrets import hide_secrets

PARSE_ERRORS = (ValueError, SyntaxError, RecursionError, MemoryError, yaml.YAMLError)
BINARY = (".png", ".safetensors")
"""Suffixes of the files of a release that are not text."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@dataclass(frozen=True)
class Problem:
    """Something in a folder that must not be published; `str()` of it is one line."""

    file: str
    """Relative to the folder, with forward slashes."""
    line: int | None
    """From 1; None where a line means nothing."""
    what: str
    """What is wrong, as the rest of a sentence that begins with the file's name."""
    remedy: str
    """What would be right."""

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        sentence = " ".join(f"{self.file} {self.what}{line}: {self.remedy}".split())
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in sentence)


Rule = Callable[["Folder"], Iterable[Problem]]


def shown(value: object) -> str:
    """A value for a message: short, in one line, without a secret."""
    return _short.repr(hide_secrets(value) if isinstance(value, str) else value)


def line_of(text: str, offset: int) -> int:
    """The line, from 1, that an offset of a text lies in."""
    return text.count("\n", 0, offset) + 1


class Folder:
    """Reads a folder; what is missing or broken reads as nothing, and `publish.check.files.readable` says so once."""

    def __init__(self, path: Path):
        if not path.is_dir():
            raise AxionError(f"{path} is not a folder")
        self.path = path
        self._read: dict[str, tuple[Any, Exception | None]] = {}

    @cached_property
    def names(self) -> dict[str, bool]:
        """Every name below the folder, sorted → whether it is a plain file (no link, pipe or device), to be read."""
        found = {}
        for root, folders, files in os.walk(self.path):
            links = [name for name in folders if os.path.islink(os.path.join(root, name))]
            for name in (*files, *links):
                path = Path(root, name)
                plain = stat.S_ISREG(path.lstat().st_mode) and os.access(path, os.R_OK)
                found[path.relative_to(self.path).as_posix()] = plain
        return dict(sorted(found.items()))

    @property
    def files(self) -> list[str]:
        """The plain files, sorted."""
        return [name for name, plain in self.names.items() if plain]

    def bytes(self, name: str) -> bytes:
        """The content of a plain file."""
        return (self.path / name).read_bytes()

    def text(self, name: str) -> str:
        """A text file with its lines ended by \\n; empty where it can't be read."""
        return self._once(name, _decode, "text")[0] or ""

    def data(self, name: str) -> dict:
        """The object in a JSON file; empty where it can't be read."""
        content = self._once(name, _parse_json, "parsed")[0]
        return content if isinstance(content, dict) else {}

    def yaml(self, name: str) -> Any:
        """The content of a YAML file; None where it can't be read."""
        return self._once(name, _parse_yaml, "parsed")[0]

    def tree(self, name: str) -> ast.Module | None:
        """The syntax tree of a Python file; None where it can't be read."""
        return self._once(name, _parse_python, "parsed")[0]

    def fault(self, name: str) -> Exception | None:
        """Why a file can't be read as what its suffix says; None where it can."""
        parse = {".json": _parse_json, ".py": _parse_python, ".yaml": _parse_yaml}.get(Path(name).suffix)
        return self._once(name, parse, "parsed")[1] if parse else self._once(name, _decode, "text")[1]

    def _once(self, name: str, parse: Callable[[bytes], Any], what: str) -> tuple[Any, Exception | None]:
        key = f"{what}:{name}"
        if key not in self._read:
            self._read[key] = (None, None)
            if self.names.get(name):
                try:
                    self._read[key] = (parse(self.bytes(name)), None)
                except (OSError, *PARSE_ERRORS) as error:
                    self._read[key] = (None, error)
        return self._read[key]


def parse_snippet(code: str, name: str = "<snippet>") -> ast.Module:
    """The syntax tree of a piece of Python, which is compiled as well (`return` outside a function) but never run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a foreign file's escapes are no business of the console
        compile(code, name, "exec", dont_inherit=True)
        return ast.parse(code, name)


def _decode(content: bytes) -> str:
    return content.decode("utf-8").replace("\r\n", "\n")


def _parse_json(content: bytes) -> Any:
    return parse_json(_decode(content))


def _parse_yaml(content: bytes) -> Any:
    return yaml.safe_load(_decode(content))


def _parse_python(content: bytes) -> ast.Module:
    return parse_snippet(_decode(content))
