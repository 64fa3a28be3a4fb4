"""What a result depends on, as checksums: the code behind it, and nothing that has no part in it."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from axion.files import ROOT, sha256


def fingerprint(content: object) -> str:
    """The sha256 of something that JSON can write, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_fingerprint(module: str, others: Iterable[Path] = ()) -> str:
    """One sha256 of the project's files that a module is made of, and of others that it reads.

    Those are the module itself and what it imports, directly or not, so that a change anywhere else leaves this alone.
    """
    files = {path.relative_to(ROOT).as_posix(): sha256(path) for path in {*code_behind(module), *others}}
    return fingerprint(files)


def code_behind(module: str) -> set[Path]:
    """The project's files that running a module may read: its own and those of all that it imports."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = _file_of(waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _file_of(module: str) -> Path | None:
    """A module's file; None outside of the project, and for a name that is no module."""
    path = ROOT.joinpath(*module.split("."))
    if module.partition(".")[0] not in {"axion", "publish"}:
        return None
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
