"""Training on a GPU, in one process and under torchrun with NCCL, and resuming."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from axion.training.metrics import Metrics, read_metrics
from axion.training.run import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("training.max_steps=8", "training.checkpoints=2", "training.keep_checkpoints=2")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m")
TOLERANCE = 5e-3
"""Of losses in nats: sums on a GPU have no fixed order."""


def start(folder: Path, out: Path, *arguments: str, launcher: tuple[str, ...] = (), **environment: str) -> str:
    """Trains the tiny recipe in a separate process; returns its output."""
    options = [part for option in OPTIONS for part in ("--set", option)]
    command = [*launcher, "axion", "train", "tiny.yaml", "--out", str(out), "--backend", "torch", *options, *arguments]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def on_cpu(tiny, folder, tmp_path_factory) -> Metrics:
    """The log of the run on the CPU."""
    out = tmp_path_factory.mktemp("cpu") / "run"
    start(folder, out, CUDA_VISIBLE_DEVICES="")
    return read_metrics(out / "metrics.csv")


@pytest.fixture(scope="module")
def whole(tiny, folder, tmp_path_factory) -> Path:
    """An uninterrupted run under torchrun with an NCCL process group."""
    out = tmp_path_factory.mktemp("cuda") / "run"
    start(folder, out, launcher=TORCHRUN)
    return out


def assert_same_log(ours: Metrics, theirs: Metrics) -> None:
    assert list(ours.columns) == list(theirs.columns) and ours["step"].tolist() == theirs["step"].tolist()
    for column in ("train_loss", "val_loss"):
        assert np.allclose(ours[column], theirs[column], atol=TOLERANCE, equal_nan=True), column


def test_training_on_a_gpu_matches_the_cpu(whole, on_cpu):
    metrics = read_metrics(whole / "metrics.csv")
    assert_same_log(metrics, on_cpu)
    for column in metrics.violation_columns:  # the first row is computed before any weight differs
        assert metrics[column][0] == pytest.approx(on_cpu[column][0], abs=0.05)
    biases = [bias for name, bias in load_file(whole / "final/model.safetensors").items() if "correction_bias" in name]
    assert len(biases) == 2 and all(0 < bias.abs().max() < 0.1 for bias in biases)
    environment = json.loads((whole / "checkpoint-8/environment.json").read_text())
    assert environment["device"] == torch.cuda.get_device_name() and environment["processes"] == 1


def test_a_run_on_a_gpu_is_resumed(whole, folder, tmp_path):
    part = shutil.copytree(whole, tmp_path / "part")
    shutil.rmtree(part / "checkpoint-8")
    shutil.rmtree(part / "final")
    content = json.loads((part / "run.json").read_text())
    (part / "run.json").write_text(json.dumps(content | {"finished": False}))
    errors = start(folder, part, "--resume", launcher=TORCHRUN)
    assert "different conditions" not in errors
    assert_same_log(read_metrics(part / "metrics.csv"), read_metrics(whole / "metrics.csv"))
    weights, expected = (load_file(run / "final/model.safetensors") for run in (part, whole))
    for name, tensor in expected.items():
        assert (weights[name] - tensor).abs().max() < 0.05 * tensor.abs().max() + 1e-3, name


def test_one_process_uses_one_gpu(tiny, tmp_path, on_cpu):
    run = train(tiny(*OPTIONS), tmp_path / "run")  # also on a machine with several GPUs
    assert_same_log(read_metrics(run / "metrics.csv"), on_cpu)


@pytest.mark.parametrize(
    "option",
    [
        "training.precision=auto",
        "training.grad_accum=2",
        "training.optimizer=adamw",
        "architecture.moe_intermediate_size=18",  # rows are not a multiple of 16 bytes
    ],
)
def test_every_way_of_training_works_on_a_gpu(tiny, tmp_path, option):
    run = train(tiny("training.max_steps=3", option), tmp_path / "run")
    losses = read_metrics(run / "metrics.csv")["train_loss"]
    assert len(losses) == 3 and losses[2] < losses[0]
