"""The wheel: what it contains, and that it works in an empty folder with the oldest and newest libraries it allows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from axion import machine, shipped
from axion.cli import app, run
from tests.conftest import ROOT
from tests.support.servers import served

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGES = [Requirement(line) for line in PROJECT["dependencies"]]
PACKAGES = ("axion", "playground", "publish")
SHIPPED = ("app.py", "configs", "LICENSE", "model_cards", "releases/axion1-v0.1", "requirements.txt")
FROM_ENVIRONMENT = {"torch"}
"""Not installed again: gigabytes, and only this version has a CPU build on PyPI."""
NO_HATCHLING = "hatchling is not installed: pip install -r requirements-dev.txt"
PROMPT = "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"


def files_under(path: Path) -> set[str]:
    found = path.rglob("*") if path.is_dir() else [path]
    return {file.relative_to(ROOT).as_posix() for file in found if file.is_file() and "__pycache__" not in file.parts}


# --- The content ------------------------------------------------------------------------------------------------------


def test_the_wheel_contains_the_packages_and_what_is_shipped():
    builder = pytest.importorskip("hatchling.builders.wheel", reason=NO_HATCHLING).WheelBuilder(str(ROOT))
    packed = {file.distribution_path for file in builder.recurse_included_files()}
    code = set().union(*(files_under(ROOT / package) for package in PACKAGES))
    others = set().union(*(files_under(ROOT / name) for name in SHIPPED))
    assert packed == code | {f"axion/_shipped/{name}" for name in others}
    assert "playground/views/css/view.css" in packed and "axion/_shipped/configs/series/axion1.yaml" in packed


def test_every_range_includes_the_pinned_version():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert [(pin.name, pin.extras) for pin in pins] == [(library.name, library.extras) for library in RANGES]
    for pin, library in zip(pins, RANGES, strict=True):
        (exact,) = pin.specifier
        assert library.specifier.contains(exact.version), f"{library} excludes {pin}"
        assert sorted(bound.operator for bound in library.specifier) == ["<", ">="]


def test_shipped_files_are_found_in_a_clone_and_in_an_installation(tmp_path, monkeypatch):
    assert shipped.shipped("configs") == ROOT / "configs"
    assert shipped.path_in_repository(ROOT / "axion" / "release.py") == "axion/release.py"
    (tmp_path / "configs").mkdir()
    monkeypatch.setattr(shipped, "_PACKAGED", tmp_path)
    assert shipped.shipped("configs") == tmp_path / "configs"
    assert shipped.shipped("playground") == ROOT / "playground"
    assert shipped.path_in_repository(tmp_path / "configs" / "a.yaml") == "configs/a.yaml"


def test_the_commit_is_the_projects_own(tmp_path, monkeypatch):
    """An environment inside another project's repository must not record that project's commit."""
    if (ROOT / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", machine.git_commit() or "")
    packages = tmp_path / ".venv" / "site-packages"
    packages.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    commit = ["git", "-C", tmp_path, *identity, "commit", "--quiet", "--allow-empty", "-m", "x"]
    subprocess.run(commit, check=True)
    monkeypatch.setattr(machine, "ROOT", packages)

    class Distribution:
        origin: str | None = json.dumps({"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "1234"}})

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.origin

    monkeypatch.setattr(machine, "distribution", lambda name: Distribution())
    assert machine.git_commit() == "1234"
    monkeypatch.setattr(Distribution, "origin", None)
    assert machine.git_commit() is None


def test_play_passes_its_options_to_the_playground(monkeypatch, capsys):
    calls = []

    class EntryPoint:
        def load(self) -> Callable:
            return lambda arguments, program: calls.append((arguments, program))

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group, name: [EntryPoint()] * (name == "play"))
    assert CliRunner().invoke(app, ["play", "--port", "7861", "--models", "a", "b", "--help"]).exit_code == 0
    assert calls == [(["--port", "7861", "--models", "a", "b", "--help"], "axion play")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group, name: [])
    assert run(app, ["play"]) == 2
    assert "python app.py" in capsys.readouterr().err


# --- Installed --------------------------------------------------------------------------------------------------------


def oldest(library: Requirement) -> str:
    (lower,) = (bound.version for bound in library.specifier if bound.operator == ">=")
    extras = f"[{','.join(sorted(library.extras))}]" if library.extras else ""
    return f"{library.name}{extras}=={lower}"


@pytest.fixture(scope="module", params=["oldest", "newest"])
def installed(request, make_environment, tmp_path_factory) -> Path:
    """The folder with the console scripts of an environment that has the wheel and these versions of all libraries."""
    pytest.importorskip("hatchling", reason=NO_HATCHLING)
    wheels = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = wheels.iterdir()
    libraries = [library for library in RANGES if library.name not in FROM_ENVIRONMENT]
    python = make_environment(*(oldest(each) if request.param == "oldest" else str(each) for each in libraries))
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel]
    subprocess.run(install, check=True)
    return Path(python).parent


@pytest.fixture(scope="module")
def user_cache(tmp_path_factory) -> Path:
    """A user's cache folder, for both environments: the kernels, which are the same in both, are compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def call(installed, user_cache, tmp_path, monkeypatch) -> Callable[..., str]:
    """Runs a console script in an empty folder; returns what it prints."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(user_cache))
    monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("AXION_KERNELS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run_script(name: str, *arguments: str) -> str:
        done = subprocess.run([installed / name, *arguments], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run_script


@pytest.mark.slow
def test_counting_generating_and_training_work_in_an_empty_folder(call, user_cache):
    assert json.loads(call("axion", "params", "axion1-v0.1", "--json"))["total"] == 344_224
    assert call("axion", "generate", "axion1-v0.1", PROMPT).strip() == "8"
    settings = {
        "data.hub_id": "null",
        "data.max_documents": 2000,
        "training.max_steps": 20,
        "training.batch_size": 1,
        "training.window": 64,
        "training.short_window": "null",
    }
    call(
        "axion",
        "train",
        "axion1-v0.1",
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    )
    assert {path.name for path in Path.cwd().iterdir()} == {"data", "runs"}
    assert call("axion", "generate", "runs/axion1-v0.1/final", PROMPT)
    info = json.loads(Path("runs/axion1-v0.1/run.json").read_text(encoding="utf-8"))
    assert info["finished"] and info["git_commit"] is None
    if shutil.which("g++") or shutil.which("clang++"):
        assert info["backend"] == "native"
        assert list((user_cache / "axion" / "kernels").iterdir())


@pytest.mark.slow
def test_publishing_works_in_an_empty_folder(call):
    said = call("axion-publish", "axion1-v0.1", "--repo-id", "someone/Axion1", "--skip-train", "--dry-run")
    assert "using the existing release" in said and "push" in said
    call("axion-publish", "space", "--repo-id", "someone/Axion", "--dry-run")
    assert {path.name for path in Path.cwd().iterdir()} == {"build"}


@pytest.mark.slow
def test_the_page_works_in_an_empty_folder(installed, call):
    import httpx

    with served(app=(str(installed / "axion"), "play"), python=str(installed / "python"), folder=Path.cwd()) as server:
        assert "Axion" in httpx.get(server.address).text
        body = {"model": "axion1-v0.1", "prompt": PROMPT, "temperature": 0}
        answer = httpx.post(f"{server.address}/v1/completions", json=body, timeout=120).json()
    assert answer["choices"][0]["text"].strip() == "8"
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_nothing_is_written_into_the_installation(installed, call):
    """Runs after the other commands: every file but compiled bytecode is in the wheel's RECORD."""
    script = "from importlib.metadata import files; print('\\n'.join(str(f.locate()) for f in files('axion-lm')))"
    done = subprocess.run([installed / "python", "-c", script], capture_output=True, text=True, check=True)
    recorded = {os.path.realpath(line) for line in done.stdout.splitlines()}
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    present = [file for name in PACKAGES for file in (packages / name).rglob("*") if file.is_file()]
    assert [str(file) for file in present if file.suffix != ".pyc" and os.path.realpath(file) not in recorded] == []
