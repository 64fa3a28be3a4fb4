"""A finished run with random weights, made-up evaluation results, and the release built from them."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest

from axion.evaluation import speed as speed_module
from axion.recipe import load_recipe
from publish import pipeline
from publish.pipeline import PublishRequest
from publish.release import measure
from publish.release.build import Ingredients, build_release
from tests.hub.fixtures import hub, hub_server  # noqa: F401 (fixtures)
from tests.publish.publications import REPO_ID, SYNTHETIC

RECIPE = """name: axion-tiny
title: Axion tiny
family: axion1
version: "0.1"
repo_name: Axion-tiny
architecture:
  {architecture}
tokenizer:
  vocab_size: 320
training:
  window: 128
  short_window: 64
"""
METRICS = """step,epoch,tokens,seconds,tokens_per_second,lr,train_loss,val_loss,val_bits_per_byte,max_violation_layer_1
10,0.5,10240,10,1024,0.01,5.5,,,0.1
20,1.0,20480,20,1024,0.01,4.5,4.4,2.7,0.1
30,1.5,30720,30,1024,0.01,4.0,3.6,2.2,0.1
"""


def counts(documents: int) -> dict:
    return {"documents": documents, "bytes": 50 * documents, "tokens": 30 * documents}


def split(real: int, sums: int) -> dict:
    return counts(real + sums) | {"by_source": {"gsm8k": counts(real), "arithmetic": counts(sums)}}


RUN = {
    "name": "axion-tiny",
    "finished": True,
    "seed": 1,
    "data": {
        "fingerprint": "f" * 64,
        "files": [],
        "dropped_for_held_out_pairs": 17,
        "train": split(1000, 2000),
        "validation": split(50, 100),
    },
    "libraries": {"torch": "2.13.0", "transformers": "5.23.0"},
    "python": "3.12.0",
    "machine": {"processor": "A Processor", "cores": 2, "torch_threads": 2},
    "git_commit": "a" * 40,
    "steps": 30,
    "tokens": 30720,
    "seconds": 130.0,
    "date": "2031-02-03",
}


def score(correct: int, total: int) -> dict:
    return {"correct": correct, "total": total, "accuracy": correct / total, "interval": [0.25, 0.75]}


def load(lowest: float, highest: float) -> dict:
    layers = [[lowest, 1.0, 1.0, highest], [1.0, 1.0, 1.0, 1.0]]
    return {"layers": layers, "lowest": lowest, "highest": highest}


def speed(threads: int, tokens_per_second: float) -> dict:
    return {
        "threads": threads,
        "first_token_seconds": 0.0125 / threads,
        "decode_tokens_per_second": tokens_per_second,
        "prefill_tokens_per_second": 100 * tokens_per_second,
    }


COMMAND = "python -m axion eval axion-tiny --tasks "
MEASURED = {
    "results": {
        "validation": {
            "data": "GSM8K",
            "dataset": "openai/gsm8k",
            "documents": 50,
            "nats_per_token": 2.345,
            "bits_per_byte": 1.289,
            "tokens": 1500,
            "bytes": 2500,
            "command": COMMAND + "validation",
        },
        "arithmetic": {
            "scores": [
                {"digits": digits, "language": language, **score(40 + digits, 100)}
                for digits in (1, 2)
                for language in ("en", "pt")
            ],
            "command": COMMAND + "arithmetic",
        },
        "arithmetic_reasoning": {
            "scores": [
                {"digits": digits, "language": language, **score(3 * digits, 101)}
                for digits in (1, 2)
                for language in ("en", "pt")
            ],
            "command": COMMAND + "arithmetic_reasoning",
        },
        "gsm8k_test": {
            "data": "GSM8K",
            "dataset": "openai/gsm8k",
            **score(7, 1319),
            "command": COMMAND + "gsm8k_test",
        },
        "expert_load": {
            "together": load(0.91, 1.09),
            "arithmetic": load(0.87, 1.13),
            "command": COMMAND + "expert_load",
        },
        "speed": {
            "by_threads": [speed(1, 210.0), speed(2, 230.0)],
            "prompt_tokens": 19,
            "new_tokens": 101,
            "window": 129,
            "repetitions": 6,
            "cache_bytes_per_token": 193,
            "weights_bytes": 1_234_567,
            "memory": {"libraries_bytes": 301_000_000, "peak_bytes": 321_000_000},
            "machine": {"processor": "A Laptop", "cores": 4, "torch_threads": 3},
            "libraries": {"torch": "2.13.1", "transformers": "5.23.1"},
            "command": COMMAND + "speed",
        },
    },
    "date": "2031-02-04",
    "files": [{"name": "train.jsonl", "sha256": "d" * 64}],
    "test_files": [{"name": "test.jsonl", "sha256": "e" * 64}],
    "samples": [{"prompt": "# Pergunta:\nA question?\n--\n# Resposta:\n", "output": "An output of the model"}],
    "held_out": [{"text": "# Pergunta:\nHow many?\n--\n# Resposta:\n7", "source": "gsm8k"}],
    "key": {"weights": "a" * 64},
    "favourites": [{"layer": 1, "expert": 1, "share": 0.5, "tokens": [{"text": "+", "count": 60, "lift": 1.9}]}],
}
"""In the form of `publish.release.measure.measure`; the figures stand for nothing."""


@pytest.fixture
def measured() -> dict:
    return deepcopy(MEASURED)


@pytest.fixture(scope="session")
def recipe_file(tiny_release, tmp_path_factory) -> Path:
    """The recipe of the finished run."""
    config = json.loads((tiny_release / "config.json").read_text())
    fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "q_lora_rank", "moe_intermediate_size")
    architecture = "\n  ".join(f"{name}: {config[name]}" for name in (*fields, "max_position_embeddings"))
    path = tmp_path_factory.mktemp("recipes") / "axion-tiny.yaml"
    path.write_text(RECIPE.format(architecture=architecture))
    return path


@pytest.fixture(scope="session")
def finished_run(tiny_release, recipe_file, tmp_path_factory) -> Path:
    """runs/axion-tiny: as if training had ended with random weights. Read it, don't change it."""
    run = tmp_path_factory.mktemp("work") / "runs" / "axion-tiny"
    shutil.copytree(tiny_release, run / "final")
    (run / "metrics.csv").write_text(METRICS)
    (run / "run.json").write_text(json.dumps(RUN | {"recipe": load_recipe(recipe_file).to_yaml()}))
    return run


@pytest.fixture(scope="session")
def release(finished_run, tmp_path_factory) -> Path:
    """The release folder of that run. Read it, don't change it."""
    folder = tmp_path_factory.mktemp("releases") / "axion-tiny"
    build_release(Ingredients(finished_run, MEASURED, REPO_ID), folder)
    return folder


@pytest.fixture
def info(release) -> dict:
    """The content of that release's release.json."""
    return json.loads((release / "release.json").read_text(encoding="utf-8"))


# --- Publications -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def measured_run(finished_run, recipe_file, tmp_path_factory):
    """A finished run on synthetic data, evaluated once, which takes seconds."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("measured") / "axion-tiny")
    content = json.loads((folder / "run.json").read_text())
    recipe = load_recipe(recipe_file, SYNTHETIC)
    (folder / "run.json").write_text(json.dumps(content | {"recipe": recipe.to_yaml()}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("axion.evaluation.subject.ARITHMETIC_PROMPTS", 3)
        patch.setattr(speed_module, "REPETITIONS", 1)
        patch.setattr(speed_module, "NEW_TOKENS", 2)
        measure.measure(folder, recipe, [].append)
    return folder


@pytest.fixture(scope="session")
def built_release(measured_run, tmp_path_factory):
    """The release of that run. Read it, don't change it."""
    folder = tmp_path_factory.mktemp("built") / "axion-tiny"
    measured = json.loads((measured_run / measure.RESULTS_FILE).read_text())
    build_release(Ingredients(measured_run, measured, REPO_ID), folder)
    return folder


@pytest.fixture
def unbuilt(tmp_path, monkeypatch, measured_run):
    """A working directory with the run, and no release yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "verify_release", lambda folder: f"verified {folder.name}")
    monkeypatch.setattr(pipeline, "verify_download", lambda download: f"verified {download.repo_id}")
    monkeypatch.setattr(pipeline, "verify_export", lambda download, release: f"verified {download.repo_id}")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("publish.hub.client.get_token", lambda: None)
    shutil.copytree(measured_run, tmp_path / "runs" / "axion-tiny")
    return tmp_path


@pytest.fixture
def here(unbuilt, built_release):
    """A working directory with the run and its release."""
    shutil.copytree(built_release, unbuilt / "releases" / "axion-tiny")
    return unbuilt


@pytest.fixture
def the_hub(unbuilt, hub, monkeypatch):  # noqa: F811
    """A Hub on this machine, and a token for it."""
    monkeypatch.setattr("publish.hub.client.get_token", lambda: hub.token)
    return hub


@pytest.fixture
def request_for(recipe_file):
    """Makes a request for the tiny recipe: by default a dry run without training."""

    def make(**changes) -> PublishRequest:
        wanted = {"dry_run": True, "skip_train": True, "overrides": SYNTHETIC, **changes}
        return PublishRequest(str(recipe_file), wanted.pop("repo_id", REPO_ID), **wanted)

    return make


@pytest.fixture
def command(recipe_file) -> list[str]:
    overrides = [part for override in SYNTHETIC for part in ("--set", override)]
    return [str(recipe_file), "--repo-id", REPO_ID, "--skip-train", *overrides]
