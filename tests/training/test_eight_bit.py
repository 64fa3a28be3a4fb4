"""AdamW in 8 bits: which optimizer a run takes, what it records, and a run with bitsandbytes itself."""

import json
import os
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from axion.errors import AxionError
from axion.recipe import TrainingRecipe
from axion.training import eight_bit
from axion.training.build import choose_optimizer
from axion.training.optim import build_optimizer
from axion.training.run import train
from tests.conftest import ROOT
from tests.training.test_optim import small_model

EIGHT_BIT = ("training.optimizer=adamw8bit", "training.max_steps=4", "training.evaluations=1")


class StandIn(torch.optim.AdamW):
    """Has the arguments of bitsandbytes' AdamW8bit, and computes as PyTorch does."""

    def __init__(self, groups, lr, betas, eps, weight_decay, min_8bit_size):
        assert min_8bit_size == 4096
        super().__init__(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def get_config(self, gindex, pindex, group):
        return {"optim_bits": 8, "lr": group["lr"]}


@pytest.fixture
def missing(monkeypatch):
    """bitsandbytes is not installed."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    eight_bit.unavailable_reason.cache_clear()
    yield
    eight_bit.unavailable_reason.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """A module in its place works."""
    optim = ModuleType("bitsandbytes.optim")
    optim.AdamW8bit = StandIn
    monkeypatch.setitem(sys.modules, "bitsandbytes", ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", optim)
    monkeypatch.setattr(eight_bit, "version", lambda name: "1.2.3")
    eight_bit.unavailable_reason.cache_clear()
    yield optim
    eight_bit.unavailable_reason.cache_clear()


def test_without_bitsandbytes_a_run_takes_adamw_and_says_so(tiny, tmp_path, missing, capsys):
    run = train(tiny(*EIGHT_BIT), tmp_path / "run")
    assert "optimizer AdamW with whole state: bitsandbytes is not installed\n" in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["optimizer"] == "adamw"
    assert json.loads((run / "checkpoint-4" / "environment.json").read_text())["optimizer"] == "adamw"
    assert "optimizer: adamw8bit" in (run / "recipe.yaml").read_text()


def test_a_resumed_run_keeps_its_optimizer(tiny, installed, monkeypatch):
    recipe = tiny(*EIGHT_BIT)
    assert choose_optimizer(recipe, None) == (
        "adamw8bit",
        "optimizer AdamW with its state in 8 bits: bitsandbytes 1.2.3",
    )
    assert choose_optimizer(recipe, "adamw") == (
        "adamw",
        "optimizer AdamW with whole state: the run was started with it",
    )
    sharded = tiny(*EIGHT_BIT, "training.distributed.fsdp_size=2")
    assert choose_optimizer(sharded, None)[1] == (
        "optimizer AdamW with whole state: bitsandbytes does not take sharded weights"
    )
    assert choose_optimizer(tiny("training.optimizer=muon"), None) == ("muon", None)
    monkeypatch.setattr(StandIn, "step", lambda self: 1 / 0)
    eight_bit.unavailable_reason.cache_clear()
    with pytest.raises(AxionError, match="started with adamw8bit: bitsandbytes does not work here: division by zero;"):
        choose_optimizer(recipe, "adamw8bit")


def test_embeddings_norms_and_routers_keep_their_state_whole(installed):
    model = small_model()
    optimizer = build_optimizer(model, TrainingRecipe(optimizer="adamw8bit", weight_decay=0.1))
    names = {parameter: name for name, parameter in model.named_parameters()}
    bits = {
        names[parameter]: optimizer.get_config(0, 0, group)["optim_bits"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert {name for name, each in bits.items() if each == 8} == {
        name for name, parameter in model.named_parameters() if parameter.ndim > 1 and not _is_special(name)
    }
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0, 0.0]


def _is_special(name: str) -> bool:
    return "embed_tokens" in name or "mlp.gate." in name


RESUMED = """
import sys
from pathlib import Path
from axion.recipe import load_recipe
from axion.training.metrics import read_metrics
from axion.training.recorder import Recorder
from axion.training.run import train

recipe = load_recipe("tiny.yaml", sys.argv[2:])
train(recipe, Path(sys.argv[1], "whole"))
step_end = Recorder.on_step_end
def stop(self, args, state, control, **kwargs):
    if state.global_step == 3:
        raise KeyError
    return step_end(self, args, state, control, **kwargs)
Recorder.on_step_end = stop
try:
    train(recipe, Path(sys.argv[1], "resumed"))
except KeyError:
    Recorder.on_step_end = step_end
train(recipe, Path(sys.argv[1], "resumed"), resume=True)
losses = [read_metrics(Path(sys.argv[1], run, "metrics.csv"))["train_loss"].tolist() for run in ("whole", "resumed")]
assert losses[0] == losses[1] and losses[0][-1] < losses[0][0], losses
"""


@pytest.mark.slow
def test_a_run_with_bitsandbytes_learns_and_resumes(make_environment, folder, tmp_path):
    python = make_environment("bitsandbytes>=0.50")
    options = (
        *EIGHT_BIT,
        "training.checkpoints=2",
        "training.learning_rate=0.01",
        "architecture.moe_intermediate_size=48",
    )
    done = subprocess.run(
        [python, "-c", RESUMED, tmp_path, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "optimizer AdamW with its state in 8 bits: bitsandbytes 0." in done.stderr
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["optimizer"] == "adamw8bit"
