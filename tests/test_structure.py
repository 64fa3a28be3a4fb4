"""Imports point downwards: `publish → axion ← playground`, and inside a package only to rooms below, without circles.

Imports are read from the source, including those inside functions and those for type checkers.
"""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROOMS = {
    "axion": """
        cli
        terminal
        evaluation
        training
        export
        series release recipe architecture overrides params
        inference
        data
        kernels
        families originals tampering weights
        tokenizer pretrained_tokenizer stored_tokenizer
        model
        checksums drawing files labels machine options settings shipped errors split_patterns threads
    """,
    "playground": """
        server
        web
        api
        content
        generate
        views
        locales
    """,
    "publish": """
        cli
        pipeline
        jobs
        space
        hub
        release
        check
        markdown manifest steps scratch
    """,
}
"""The rooms of each package, from top to bottom. A room imports only from lines below its own, or from its own line."""

MAY_IMPORT = {"axion": set(), "playground": {"axion"}, "publish": {"axion"}}
"""Which other packages of the project a package imports."""


def modules(package: str) -> dict[str, Path]:
    """Dotted name → file of every module of a package."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "assets" not in parts:  # copied into releases, not part of the package
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = {package: modules(package) for package in ROOMS}
ALL_MODULES = {name: path for names in MODULES.values() for name, path in names.items()}


@cache
def imports(name: str) -> frozenset[str]:
    """The dotted names of everything that a module imports; for this project, the names of modules."""
    found, path = set(), ALL_MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in ALL_MODULES else base)
    return frozenset(found - {name})


def level(module: str) -> int | None:
    """The line number of a module's room; None for the package itself and `__main__`."""
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    if room in ("", "__main__"):
        return None
    lines = [line.split() for line in ROOMS[package].strip().splitlines()]
    [found] = [number for number, rooms in enumerate(lines) if room in rooms] or [-1]
    return found


@pytest.mark.parametrize("package", ROOMS)
def test_every_module_is_in_a_room(package):
    assert [name for name in MODULES[package] if level(name) == -1] == []


@pytest.mark.parametrize("package", ROOMS)
def test_packages_import_only_packages_below(package):
    others = ROOMS.keys() - {package} - MAY_IMPORT[package]
    wrong = {
        (name, imported)
        for name in MODULES[package]
        for imported in imports(name)
        if imported.partition(".")[0] in others
    }
    assert wrong == set()


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_rooms_below(package):
    wrong = set()
    for name in MODULES[package]:
        if (own := level(name)) is None:
            continue
        for imported in imports(name):
            if imported in MODULES[package] and (other := level(imported)) is not None and other < own:
                wrong.add((name, imported))
    assert wrong == set()


def test_no_circles():
    def reachable(start: str) -> set[str]:
        seen, waiting = set(), list(imports(start) & ALL_MODULES.keys())
        while waiting:
            if (module := waiting.pop()) not in seen:
                seen.add(module)
                waiting += imports(module) & ALL_MODULES.keys()
        return seen

    assert {name for name in ALL_MODULES if name in reachable(name)} == set()


def test_the_remote_code_imports_torch_and_transformers_only():
    """Releases contain these files without the project, so they import each other as `from .x import y`."""
    allowed = {"torch", "transformers", *sys.stdlib_module_names}
    for name, path in MODULES["axion"].items():
        if name.startswith("axion.model."):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, name
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    assert (node.module or "").partition(".")[0] in allowed, name
                elif isinstance(node, ast.ImportFrom):
                    assert node.level == 1 and f"axion.model.{node.module}" in ALL_MODULES, name
