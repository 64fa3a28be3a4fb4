"""A recipe that trains in a second, and runs of it in processes of their own that a test may kill."""

import os
from pathlib import Path

import pytest
import yaml

from axion.recipe import load_recipe
from tests.support.fork_server import fork_server

TINY_RECIPE = {
    "name": "tiny",
    "title": "Tiny",
    "family": "axion1",
    "version": "0",
    "repo_name": "tiny",
    "architecture": {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "moe_intermediate_size": 16,
        "max_position_embeddings": 64,
    },
    "tokenizer": {"vocab_size": 300},
    "data": {"hub_id": None, "arithmetic": 600, "word_problems": 0},
    "training": {
        "window": 64,
        "batch_size": 4,
        "epochs": 2,
        "max_steps": 40,
        "warmup_steps": 4,
        "evaluations": 4,
        "checkpoints": 8,
    },
}


@pytest.fixture
def recipe_file(tmp_path, monkeypatch) -> Path:
    """The tiny recipe as a file, in a working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY_RECIPE), encoding="utf-8")
    return path


@pytest.fixture
def tiny(recipe_file):
    """Loads the tiny recipe with overrides."""
    return lambda *overrides: load_recipe(recipe_file, overrides)


def _run(folder: str, recipe: str, overrides: list[str], out: str, resume: bool) -> None:
    import torch

    from axion.training.run import train

    os.chdir(folder)
    torch.set_num_threads(1)
    train(load_recipe(recipe, overrides), Path(out), resume)


@pytest.fixture(scope="module")
def processes():
    with fork_server("axion.training.run") as context:
        yield context


@pytest.fixture
def start_run(tmp_path, recipe_file, processes):
    """Starts a run in a process of its own."""
    started = []

    def start(out: str, *overrides: str, resume: bool = False):
        process = processes.Process(target=_run, args=(str(tmp_path), str(recipe_file), list(overrides), out, resume))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()
