"""Checksums of what a result depends on, such as the code that computes it."""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from axion.files import sha256
from axion.shipped import ROOT


def fingerprint(content: object) -> str:
    """The sha256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_fingerprint(module: str, others: Iterable[Path] = ()) -> str:
    """One sha256 over the project's files that a module depends on, and over `others`.

    These are the module itself, its direct and indirect imports, and the C++ that they compile; changes anywhere else
    do not matter.
    """
    files = {path.relative_to(ROOT).as_posix(): sha256(path) for path in {*code_behind(module), *others}}
    return fingerprint(files)


def code_behind(module: str) -> set[Path]:
    """The project's files that a module depends on: its own, those of its imports, and the C++ that they compile."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = _file_of(waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        found.update(file for file in (path.parent / "csrc").rglob("*") if file.is_file())
        waiting += _imports(path.read_text(encoding="utf-8"))
    return found


@cache
def _imports(source: str) -> tuple[str, ...]:
    """The modules that a module imports, and the names in them, which may be modules too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _file_of(module: str) -> Path | None:
    """A module's file; None if it is not a module of the project."""
    path = ROOT.joinpath(*module.split("."))
    if module.partition(".")[0] not in {"axion", "publish"}:
        return None
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
