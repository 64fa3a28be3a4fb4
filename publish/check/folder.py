"""What the rules work on: a folder whose files are read once and never executed, and the problems found in it."""

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

from axion.errors import AxionError
from axion.files import parse_json, parse_yaml
from publish.check.secrets import hide_secrets
from publish.manifest import ADAPTER_CONFIG, remote_code

PARSE_ERRORS = (ValueError, SyntaxError, RecursionError, MemoryError)
BINARY = (".png", ".safetensors")
"""Suffixes of a release's files that are not text."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


@dataclass(frozen=True)
class Problem:
    """Something that must not be published. `str()` gives one line."""

    file: str
    """Relative to the folder, with forward slashes."""
    line: int | None
    """From 1; None where a line number makes no sense."""
    what: str
    """What is wrong, as a sentence whose subject is the file's name."""
    remedy: str
    """How to fix it."""

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        sentence = " ".join(f"{self.file} {self.what}{line}: {self.remedy}".split())
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in sentence)


Rule = Callable[["Folder"], Iterable[Problem]]
Parser = Callable[[bytes], Any]


def shown(value: object) -> str:
    """A value for a message: shortened, on one line, with secrets hidden."""
    return _short.repr(hide_secrets(value) if isinstance(value, str) else value)


class Folder:
    """Reads a folder. Missing and invalid files read as empty; `publish.check.files.readable` reports them once."""

    def __init__(self, path: Path):
        if not path.is_dir():
            raise AxionError(f"{path} is not a folder")
        self.path = path
        self._read: dict[str, tuple[Any, Exception | None]] = {}

    @property
    def is_adapter(self) -> bool:
        """Whether it holds an adapter alone, without the model that it belongs to."""
        return ADAPTER_CONFIG in self.names

    @cached_property
    def names(self) -> dict[str, bool]:
        """Every name below the folder, sorted → whether it is a readable regular file (not a link, pipe or device)."""
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
        """The regular files, sorted."""
        return [name for name, plain in self.names.items() if plain]

    @cached_property
    def remote_code(self) -> set[str]:
        """The files that transformers loads, see `publish.manifest.remote_code`."""
        return remote_code(self.path)

    def bytes(self, name: str) -> bytes:
        """The content of a regular file."""
        return (self.path / name).read_bytes()

    def text(self, name: str) -> str:
        """The content of a text file, with \\n as line ends; empty if it can't be read."""
        return self._once(name, _decode, "text")[0] or ""

    def data(self, name: str) -> dict:
        """The object in a JSON file; empty if it can't be read."""
        content = self._once(name, _parse_json, "parsed")[0]
        return content if isinstance(content, dict) else {}

    def yaml(self, name: str) -> Any:
        """The content of a YAML file; None if it can't be read."""
        return self._once(name, _parse_yaml, "parsed")[0]

    def tree(self, name: str) -> ast.Module | None:
        """The syntax tree of a Python file; None if it can't be read."""
        return self._once(name, _parse_python, "parsed")[0]

    def fault(self, name: str) -> Exception | None:
        """Why a file can't be read as the type of its suffix; None if it can."""
        parse = {".json": _parse_json, ".py": _parse_python, ".yaml": _parse_yaml}.get(Path(name).suffix)
        return self._once(name, parse, "parsed")[1] if parse else self._once(name, _decode, "text")[1]

    def _once(self, name: str, parse: Parser, what: str) -> tuple[Any, Exception | None]:
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
    """The syntax tree of a piece of Python, which is also compiled (to find a `return` outside a function) but not run.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it does not compile.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as invalid escape sequences
        compile(code, name, "exec", dont_inherit=True)
        return ast.parse(code, name)


def _decode(content: bytes) -> str:
    return content.decode("utf-8").replace("\r\n", "\n")


def _parse_json(content: bytes) -> Any:
    return parse_json(_decode(content))


def _parse_yaml(content: bytes) -> Any:
    return parse_yaml(_decode(content))


def _parse_python(content: bytes) -> ast.Module:
    return parse_snippet(_decode(content))
