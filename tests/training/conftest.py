"""A recipe that trains in a second, and runs of it in separate processes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from axion.recipe import Recipe, load_recipe
from tests.conftest import TINY
from tests.support.fork_server import fork_server

TINY_RECIPE = {
    "name": "tiny",
    "title": "Tiny",
    "family": "axion1",
    "version": "0",
    "repo_name": "tiny",
    # the shapes of the tiny release, for which the kernels are compiled anyway
    "architecture": {name: value for name, value in TINY.items() if name != "vocab_size"} | {"initializer_range": 0.02},
    "tokenizer": {"vocab_size": TINY["vocab_size"]},
    "data": {"hub_id": None, "arithmetic": 600, "word_problems": 0},
    "training": {
        "window": 64,
        "batch_size": 4,
        "epochs": 2,
        "max_steps": 24,
        "warmup_steps": 4,
        "evaluations": 3,
        "checkpoints": 6,
    },
}


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    """Contains the recipe file and, after the first run, its prepared data."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY_RECIPE), encoding="utf-8")
    return folder


@pytest.fixture(scope="package")
def tiny(folder) -> Callable[..., Recipe]:
    """Loads the tiny recipe with overrides."""
    return lambda *overrides: load_recipe(folder / "tiny.yaml", overrides)


@pytest.fixture(autouse=True)
def working_folder(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)


def run_in_process(folder: Path, overrides: tuple[str, ...], out: Path, resume: bool, environment: dict) -> None:
    """The target function of the processes of `start_run`."""
    os.environ.update(environment)
    os.chdir(folder)

    import torch

    from axion.training.run import train

    torch.set_num_threads(1)
    train(load_recipe(folder / "tiny.yaml", overrides), out, resume)


@pytest.fixture(scope="package")
def processes():
    with fork_server("axion.training.run") as context:
        yield context


@pytest.fixture
def start_run(folder, processes):
    """Starts a run, or another function with the same arguments, in a separate process."""
    started = []

    def start(out: Path, *overrides: str, resume: bool = False, environment: dict | None = None, work=run_in_process):
        process = processes.Process(target=work, args=(folder, overrides, out, resume, environment or {}))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()
