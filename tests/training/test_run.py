"""A whole run: what it leaves behind, how it balances, how it stops, and that two processes train like one."""

import csv
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.model.modeling_axion import AxionForCausalLM
from axion.training.run import latest_run, train

ROOT = Path(__file__).resolve().parents[2]


def column(run: Path, name: str) -> list[str]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_run_learns_and_leaves_what_a_release_needs(tiny, tmp_path):
    run = train(tiny("training.max_steps=60"), tmp_path / "runs" / "tiny")
    losses = [float(loss) for loss in column(run, "train_loss")]
    assert len(losses) == 60
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    evaluated = [loss for loss in column(run, "val_loss") if loss]
    assert len(evaluated) == 4
    assert float(evaluated[-1]) < float(evaluated[0])
    assert column(run, "tokens")[-1] == str(60 * 4 * 64)
    info = json.loads((run / "run.json").read_text())
    assert info["finished"] and info["steps"] == 60 and info["tokens"] == 60 * 4 * 64
    assert date.fromisoformat(info["date"]) <= datetime.now(UTC).date()
    names = {path.name for path in (run / "final").iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    model = AxionForCausalLM.from_pretrained(run / "final")
    assert model.generation_config.eos_token_id == model.config.eos_token_id == 2
    assert latest_run("tiny", tmp_path / "runs") == run
    assert latest_run("other", tmp_path / "runs") is None


def test_a_run_says_what_it_runs_on_and_both_learn_alike(tiny, tmp_path, capsys):
    losses = {}
    for backend, line in (("auto", "training with native kernels: "), ("torch", "training with PyTorch: as asked\n")):
        run = train(tiny("training.max_steps=20"), tmp_path / backend, backend=backend)
        assert line in capsys.readouterr().err
        losses[backend] = [float(loss) for loss in column(run, "train_loss")]
    assert losses["auto"] == pytest.approx(losses["torch"], abs=1e-3)
    assert json.loads((tmp_path / "auto" / "run.json").read_text())["backend"] == "native"
    assert json.loads((tmp_path / "torch" / "run.json").read_text())["backend"] == "torch"


def test_what_keeps_a_run_from_the_kernels(tiny, tmp_path, capsys):
    train(tiny("training.max_steps=1", "training.precision=bf16"), tmp_path / "run")
    assert "training with PyTorch: training.precision is bf16, and the kernels train in fp32" in capsys.readouterr().err
    with pytest.raises(AxionError, match=r"cannot be used: training\.compile is for PyTorch"):
        train(tiny("training.compile=true"), tmp_path / "other", backend="native")


def test_biases_move_in_training_keep_a_zero_mean_and_are_saved(tiny, tmp_path):
    run = train(tiny("training.max_steps=10"), tmp_path / "run")
    model = AxionForCausalLM.from_pretrained(run / "final")
    for layer in model.model.layers:
        bias = layer.mlp.gate.e_score_correction_bias.clone()
        assert bias.abs().max() > 0.0005 and bias.mean().abs() < 1e-6
        assert bias.abs().max() < 10 * 0.001 * 2  # at most γ and the centring per step
        model.eval()(torch.arange(3, 40).unsqueeze(0))
        assert torch.equal(layer.mlp.gate.e_score_correction_bias, bias)


def test_a_speed_of_zero_leaves_the_biases_alone(tiny, tmp_path):
    run = train(tiny("training.max_steps=3", "training.bias_update_speed=0"), tmp_path / "run")
    weights = load_file(run / "final" / "model.safetensors")
    assert all((tensor == 0).all() for name, tensor in weights.items() if name.endswith("e_score_correction_bias"))


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tiny, tmp_path):
    options = ("training.optimizer=adamw", "training.learning_rate=1e30", "training.warmup_steps=30")
    with pytest.raises(AxionError, match=r"became NaN or infinite at step .* try a lower learning rate"):
        train(tiny(*options), tmp_path / "run")
    for folder in (tmp_path / "run").glob("checkpoint-*"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(folder / "model.safetensors").values())


def test_nan_after_a_checkpoint_names_it(tiny, tmp_path, monkeypatch):
    from axion.training.trainer import AxionTrainer

    usual = AxionTrainer.compute_loss

    def poisoned(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 12:
            with torch.no_grad():
                self.model.model.norm.weight.fill_(float("nan"))
        return usual(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(AxionTrainer, "compute_loss", poisoned)
    with pytest.raises(AxionError, match=r"at step 13; .*checkpoint-10 is kept"):
        train(tiny(), tmp_path / "run")


def test_accumulation_follows_the_whole_batch(tiny, tmp_path):
    whole = train(tiny("training.max_steps=6"), tmp_path / "whole")
    parts = train(tiny("training.max_steps=6", "training.grad_accum=2"), tmp_path / "parts")
    for one, two in zip(column(whole, "train_loss"), column(parts, "train_loss"), strict=True):
        assert float(one) == pytest.approx(float(two), abs=1e-4)
    assert column(whole, "max_violation_layer_1") == column(parts, "max_violation_layer_1")


@pytest.mark.parametrize(
    "options",
    [
        ("training.optimizer=adamw", "training.schedule=cosine"),
        ("training.precision=bf16",),
        ("training.precision=auto",),
        ("training.sequence_balance_weight=0.01",),
        ("architecture.first_k_dense_replace=1",),
        ("training.short_window=16",),
    ],
    ids=["adamw-cosine", "bf16", "auto", "sequence-balance", "dense-first", "short-window"],
)
def test_every_option_trains(tiny, tmp_path, options):
    run = train(tiny("training.max_steps=30", *options), tmp_path / "run")
    losses = [float(loss) for loss in column(run, "train_loss")]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.slow
def test_compiled_training_follows_eager(tiny, tmp_path):
    options = ("training.max_steps=6", "training.checkpoints=2")
    eager = train(tiny(*options), tmp_path / "eager")
    compiled = train(tiny(*options, "training.compile=true"), tmp_path / "compiled")
    for one, two in zip(column(eager, "train_loss"), column(compiled, "train_loss"), strict=True):
        assert float(one) == pytest.approx(float(two), abs=1e-3)
    assert column(eager, "max_violation_layer_1")[0] == column(compiled, "max_violation_layer_1")[0]
    weights = load_file(compiled / "final" / "model.safetensors")
    assert weights.keys() == load_file(eager / "final" / "model.safetensors").keys()


def test_short_windows_come_first_and_hold_the_same_tokens(tiny, tmp_path, monkeypatch):
    from axion.training.trainer import AxionTrainer

    usual, seen = AxionTrainer._cut, []

    def watch(self, inputs):
        cut = usual(self, inputs)
        assert torch.equal(cut["input_ids"].flatten(), inputs["input_ids"].flatten())
        seen.append(tuple(cut["labels"].shape))
        return cut

    monkeypatch.setattr(AxionTrainer, "_cut", watch)
    train(tiny("training.max_steps=4", "training.short_window=32", "training.short_share=0.5"), tmp_path / "run")
    assert seen == [(8, 32), (8, 32), (4, 64), (4, 64)]


def test_no_more_than_400_rows(tiny, tmp_path):
    run = train(tiny("training.max_steps=401", "training.batch_size=1", "training.epochs=4"), tmp_path / "run")
    steps = column(run, "step")
    assert len(steps) == 201 and steps[-1] == "401"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.grad_accum=3", "batch_size is 4; it must be a multiple"),
        ("training.batch_size=100000", "less than one batch"),
        ("training.trackers=[trackio]", "names trackio, which is not installed"),
        ("data.files=missing.jsonl", "missing.jsonl"),
    ],
)
def test_impossible_runs_are_refused_before_anything_is_written(tiny, tmp_path, override, message):
    with pytest.raises(AxionError, match=message):
        train(tiny(override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


DISTRIBUTED = """
import sys, torch, torch.distributed as dist
from pathlib import Path
from axion.recipe import load_recipe
from axion.training import run as training
from axion.training.trainer import AxionTrainer

usual = AxionTrainer.train
def train_and_compare(self, *args, **kwargs):
    usual(self, *args, **kwargs)
    biases = torch.stack([layer.mlp.gate.e_score_correction_bias for layer in self.model.model.layers])
    gathered = [torch.zeros_like(biases) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, biases)
    assert biases.abs().max() > 0 and torch.equal(gathered[0], gathered[1]), gathered
    if dist.get_rank() == 0:
        Path("biases-agree").touch()
AxionTrainer.train = train_and_compare
training.train(load_recipe(sys.argv[1], ["training.max_steps=20"]), Path("two"))
"""


def test_two_processes_follow_one_with_the_same_global_batch(tiny, recipe_file, tmp_path):
    one = train(tiny("training.max_steps=20"), tmp_path / "one")
    (tmp_path / "script.py").write_text(DISTRIBUTED)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    result = subprocess.run(
        [*command, "--standalone", "script.py", str(recipe_file)],
        cwd=tmp_path,
        env={**_environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "biases-agree").exists()
    for alone, together in zip(column(one, "train_loss"), column(tmp_path / "two", "train_loss"), strict=True):
        assert float(together) == pytest.approx(float(alone), abs=1e-4)
    assert column(one, "max_violation_layer_1")[0] == column(tmp_path / "two", "max_violation_layer_1")[0]


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)
