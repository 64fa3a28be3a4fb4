"""A whole run: its files, its balancing, how it stops, and that every option of its recipe has an effect."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import TrainingRecipe
from axion.training.metrics import read_metrics
from axion.training.recorder import Recorder
from axion.training.run import train
from axion.training.runfile import latest_run
from axion.training.trainer import AxionTrainer

STEPS = 24


def column(run: Path, name: str) -> np.ndarray:
    return read_metrics(run / "metrics.csv")[name]


@dataclass(frozen=True)
class Finished:
    run: Path
    errors: str
    """What it wrote on standard error."""


@pytest.fixture(scope="module")
def finished(tiny, folder, tmp_path_factory) -> Finished:
    """A run on the kernels. Read it, don't change it."""
    errors = (tmp_path_factory.mktemp("errors") / "stderr").open("w+")
    with pytest.MonkeyPatch.context() as patch, errors:
        patch.chdir(folder)
        patch.setattr("sys.stderr", errors)
        run = train(tiny(), tmp_path_factory.mktemp("runs") / "tiny")
        errors.seek(0)
        return Finished(run, errors.read())


def test_a_run_learns_and_leaves_what_a_release_needs(finished):
    run = finished.run
    losses = column(run, "train_loss")
    assert len(losses) == STEPS and losses[-4:].mean() < 0.85 * losses[:4].mean()
    evaluated = column(run, "val_loss")
    assert np.isfinite(evaluated).sum() == 3 and evaluated[-1] < np.nanmax(evaluated)
    assert column(run, "tokens")[-1] == STEPS * 4 * 64
    info = json.loads((run / "run.json").read_text())
    assert info["finished"] and info["steps"] == STEPS and info["tokens"] == STEPS * 4 * 64
    assert info["seconds"] == column(run, "seconds")[-1]
    assert date.fromisoformat(info["date"]) <= datetime.now(UTC).date()
    names = {path.name for path in (run / "final").iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    model = AxionForCausalLM.from_pretrained(run / "final")
    assert (
        model.generation_config is not None and model.generation_config.eos_token_id == model.config.eos_token_id == 2
    )
    assert latest_run("tiny", run.parent) == run
    assert latest_run("other", run.parent) is None
    damaged = run.parent / "damaged"
    damaged.mkdir()
    (damaged / "run.json").write_text("[]")
    assert latest_run("tiny", run.parent) == run
    shutil.rmtree(damaged)


def test_a_run_reports_its_backend_and_both_backends_train_alike(tiny, tmp_path, capsys, finished):
    assert "training with native kernels: " in finished.errors
    run = train(tiny(), tmp_path / "torch", backend="torch")
    assert "training with PyTorch: as requested\n" in capsys.readouterr().err
    assert column(run, "train_loss") == pytest.approx(column(finished.run, "train_loss"), abs=2e-3)
    for folder, backend in ((finished.run, "native"), (run, "torch")):
        assert json.loads((folder / "run.json").read_text())["backend"] == backend


def test_a_run_reports_why_the_kernels_cannot_be_used(tiny, tmp_path, capsys):
    train(tiny("training.max_steps=1", "training.precision=bf16"), tmp_path / "run")
    assert "training with PyTorch: training.precision is bf16, and the kernels train in fp32" in capsys.readouterr().err
    with pytest.raises(AxionError, match=r"cannot be used: training\.compile is for PyTorch"):
        train(tiny("training.compile=true"), tmp_path / "other", backend="native")


def test_biases_move_in_training_keep_a_zero_mean_and_are_saved(finished):
    model = AxionForCausalLM.from_pretrained(finished.run / "final")
    for layer in model.model.layers:
        bias = layer.mlp.gate.e_score_correction_bias.clone()
        assert bias.abs().max() > 0.0005 and bias.mean().abs() < 1e-6
        assert bias.abs().max() < STEPS * 0.001 * 2  # at most γ and the centring per step
        model.eval()(torch.arange(3, 40).unsqueeze(0))
        assert torch.equal(layer.mlp.gate.e_score_correction_bias, bias)


def test_a_loss_of_nan_stops_the_run_and_names_the_last_good_checkpoint(tiny, tmp_path, monkeypatch):
    def poisoned(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 6:
            with torch.no_grad():
                self.model.model.norm.weight.fill_(float("nan"))
        return compute_loss(self, model, inputs, *args, **kwargs)

    compute_loss = AxionTrainer.compute_loss
    monkeypatch.setattr(AxionTrainer, "compute_loss", poisoned)
    message = r"became NaN or infinite at step 7; .*checkpoint-4 is kept; try a lower learning rate"
    with pytest.raises(AxionError, match=message):
        train(tiny(), tmp_path / "run")
    weights = load_file(tmp_path / "run" / "checkpoint-4" / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_routing_bias_of_nan_is_named_and_never_saved(tiny, tmp_path, monkeypatch):
    def poisoned(self, *args, **kwargs):
        self.model.model.layers[1].mlp.gate.e_score_correction_bias.fill_(float("nan"))
        return on_optimizer_step(self, *args, **kwargs)

    on_optimizer_step = Recorder.on_optimizer_step
    monkeypatch.setattr(Recorder, "on_optimizer_step", poisoned)
    monkeypatch.setattr(AxionTrainer, "compute_loss", lambda self, model, *_, **__: model.lm_head.weight.sum())
    name = r"model\.layers\.1\.mlp\.gate\.e_score_correction_bias"
    with pytest.raises(AxionError, match=rf"{name} became NaN or infinite at step 1; no checkpoint was saved yet"):
        train(tiny("training.max_steps=1"), tmp_path / "run", backend="torch")
    assert not (tmp_path / "run" / "final").exists()


@pytest.mark.parametrize(
    "override", ["architecture.hidden_size=1000000000", "architecture.num_hidden_layers=100000000"]
)
def test_a_model_that_cannot_fit_into_memory_is_refused_before_anything_is_made(tiny, tmp_path, override, monkeypatch):
    monkeypatch.setattr("axion.training.feed.prepare", lambda *_, **__: pytest.fail("prepared data"))
    with pytest.raises(
        AxionError, match=r"training [\d,]+ parameters takes at least [\d,]+ GB of memory, and there are"
    ):
        train(tiny(override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_windows_without_targets_are_not_blamed_on_the_learning_rate(tiny, tmp_path):
    recipe = tiny()
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"window": 1})})
    with pytest.raises(AxionError, match=r"windows of 1 tokens predict nothing; lengthen training\.window"):
        train(recipe, tmp_path / "run", backend="torch")


def test_a_dense_model_trains_without_balance_columns(tiny, tmp_path):
    options = ("training.max_steps=2", "architecture.first_k_dense_replace=2", "training.sequence_balance_weight=0.1")
    run = train(tiny(*options), tmp_path / "run", backend="torch")
    metrics = read_metrics(run / "metrics.csv")
    assert len(metrics) == 2 and metrics.violation_columns == []


def test_the_balance_columns_are_those_of_decoder_layers(tiny, tmp_path):
    run = train(tiny("training.max_steps=1", "architecture.first_k_dense_replace=1"), tmp_path / "run", backend="torch")
    assert read_metrics(run / "metrics.csv").violation_columns == ["max_violation_layer_2"]


def test_weights_that_are_not_finite_are_never_saved(tiny, tmp_path):
    options = ("training.optimizer=adamw", "training.learning_rate=1e30", "training.warmup_steps=0")
    with pytest.raises(AxionError, match="became NaN or infinite at step"):
        train(tiny(*options, "training.checkpoints=24"), tmp_path / "run")
    for folder in (tmp_path / "run").glob("checkpoint-*"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(folder / "model.safetensors").values())


@pytest.mark.slow
def test_compiled_training_follows_eager(tiny, tmp_path):
    options = ("training.max_steps=6", "training.checkpoints=2")
    eager = train(tiny(*options), tmp_path / "eager")
    compiled = train(tiny(*options, "training.compile=true"), tmp_path / "compiled")
    assert column(compiled, "train_loss") == pytest.approx(column(eager, "train_loss"), abs=1e-3)
    assert column(eager, "max_violation_layer_1")[0] == column(compiled, "max_violation_layer_1")[0]
    weights = load_file(compiled / "final" / "model.safetensors")
    assert weights.keys() == load_file(eager / "final" / "model.safetensors").keys()


def test_a_long_run_writes_a_row_every_few_steps_and_one_at_its_end(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("axion.training.metrics.MAX_ROWS", 4)
    run = train(tiny("training.max_steps=10", "training.evaluations=1"), tmp_path / "run")
    assert column(run, "step").tolist() == [3, 6, 9, 10]
    assert np.isfinite(column(run, "val_loss")).tolist() == [False, False, True, True]


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


# --- Options ----------------------------------------------------------------------------------------------------------


OPTIONS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "window": (("training.window=32",), {"first shape", "last shape", "loss", "windows in an epoch", "windows"}),
    "short_window": (("training.short_window=16",), {"first shape", "loss"}),
    "short_share": (
        ("training.short_window=16", "training.short_share=0.99"),
        {"first shape", "last shape", "loss"},
    ),
    "document_mask": (("training.document_mask=true",), {"loss"}),
    "whole_documents": (
        ("training.whole_documents=true",),
        {"loss", "windows in an epoch", "windows"},
    ),
    "batch_size": (("training.batch_size=8",), {"first shape", "last shape", "loss"}),
    "grad_accum": (("training.grad_accum=2",), {"first shape", "last shape", "accumulation", "loss"}),
    "epochs": (("training.epochs=3",), {"windows"}),
    "max_steps": (("training.max_steps=12",), {"steps", "rates", "saves", "evaluations"}),
    "optimizer": (("training.optimizer=adamw",), {"groups", "rates"}),
    "learning_rate": (("training.learning_rate=0.1",), {"rates"}),
    "muon_learning_rate": (("training.muon_learning_rate=0.1",), {"rates"}),
    "router_learning_rate": (("training.router_learning_rate=0.1",), {"rates"}),
    "muon_momentum": (("training.muon_momentum=0.5",), {"groups"}),
    "weight_decay": (("training.weight_decay=0.1",), {"groups"}),
    "adam_betas": (("training.adam_betas=[0.8, 0.9]",), {"groups"}),
    "adam_epsilon": (("training.adam_epsilon=1e-6",), {"groups"}),
    "schedule": (("training.schedule=cosine",), {"rates"}),
    "warmup_steps": (("training.warmup_steps=8",), {"rates"}),
    "decay_fraction": (("training.decay_fraction=0.2",), {"rates"}),
    "final_rate": (("training.final_rate=0.5",), {"rates"}),
    "restarts": (("training.restarts=[12]",), {"rates"}),
    "max_grad_norm": (("training.max_grad_norm=0.5",), {"clipping"}),
    "precision": (("training.precision=bf16",), {"bf16", "backend"}),
    "compile": (("training.compile=true",), {"compiled", "backend"}),
    "gradient_checkpointing": (("training.gradient_checkpointing=true",), {"checkpointing"}),
    "label_smoothing": (("training.label_smoothing=0.1",), {"loss"}),
    "loops": ((), set()),  # only for looped models; see test_parts.py
    "mtp_weight": (("training.mtp_weight=[1, 1]",), set()),  # without that layer; see test_mtp.py
    "bias_update_speed": (("training.bias_update_speed=0.5",), {"bias"}),
    "sequence_balance_weight": (("training.sequence_balance_weight=0.5",), {"loss"}),
    "evaluations": (("training.evaluations=6",), {"evaluations"}),
    "checkpoints": (("training.checkpoints=12",), {"saves"}),
    "keep_checkpoints": (("training.keep_checkpoints=5",), {"kept"}),
    "keep_best": (("training.keep_best=true",), {"kept"}),
    "trackers": (("training.trackers=[tensorboard]",), {"trackers"}),
}
"""Field of TrainingRecipe → overrides that set it, and what they change of `observe`, and nothing else."""


class Observed(Exception):
    """Ends a run before its first step."""


def observe(recipe, out: Path) -> dict:
    """What a run would do, read from its Trainer just before the first step."""
    seen = {}

    def look(self: AxionTrainer, **_):
        recorder, scheduler, steps = self.recorder, self.lr_scheduler, self.recorder.steps
        self.current_gradient_accumulation_steps = self.args.gradient_accumulation_steps
        self.state.max_steps = steps
        shapes, split = [], self._split

        def record_shape(inputs):
            shapes.append(tuple(split(inputs)["input_ids"].shape))
            return split(inputs)

        self._split = record_shape
        batch = next(iter(self.get_train_dataloader()))
        with torch.no_grad():
            loss = self.compute_loss(self.model, batch)
            self.state.global_step = steps - 1
            self.compute_loss(self.model, batch)
        recorder.balancer.step()
        ends = [step for step in range(1, steps + 1) if step % recorder.evaluate_every == 0 or step == steps]
        groups = [
            {key: value for key, value in group.items() if key not in {"params", "lr", "initial_lr"}}
            | {"size": sum(parameter.numel() for parameter in group["params"])}
            for group in self.optimizer.param_groups
        ]
        rates = [
            [factor(step) * rate for step in range(steps)]
            for factor, rate in zip(scheduler.lr_lambdas, scheduler.base_lrs, strict=True)
        ]
        backend = "torch" if self.optimizer._kernels is None else "native"
        gate = self.model.model.layers[0].mlp.gate
        seen.update(
            {
                "steps": steps,
                "windows in an epoch": recorder.windows_per_epoch,
                "windows": len(self.train_dataset),
                "first shape": shapes[0],
                "last shape": shapes[1],
                "checkpointing": self.model.model.gradient_checkpointing,
                "accumulation": self.args.gradient_accumulation_steps,
                "loss": loss.item(),
                "groups": groups,
                "rates": rates,
                "clipping": self.args.max_grad_norm,
                "bf16": self.args.bf16,
                "compiled": self.args.torch_compile,
                "backend": backend,
                "bias": gate.e_score_correction_bias.tolist(),
                "evaluations": ends,
                "saves": self.args.save_steps,
                "kept": (self.recipe.training.keep_checkpoints, self.recipe.training.keep_best),
                "trackers": self.args.report_to,
            }
        )
        raise Observed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AxionTrainer, "train", look)
        patch.setattr("axion.training.run._check_trackers", lambda training: None)
        patch.setattr("transformers.trainer.get_reporting_integration_callbacks", lambda names: [])
        with pytest.raises(Observed):
            train(recipe, out)
    return seen


@pytest.fixture(scope="module")
def usual(tiny, folder, tmp_path_factory) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        seen = observe(tiny(), tmp_path_factory.mktemp("usual") / "run")
    return seen | {"loss": pytest.approx(seen["loss"], abs=1e-5)}  # the backends round differently


def test_every_option_is_checked():
    several_processes = {"distributed"}  # test_sharding.py
    assert set(OPTIONS) | several_processes == set(TrainingRecipe.model_fields)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_changes_what_it_should_and_nothing_else(tiny, tmp_path, usual, name):
    overrides, expected = OPTIONS[name]
    observed = observe(tiny(*overrides), tmp_path / "run")
    changed = {key for key in usual if observed[key] != usual[key]}
    assert changed == expected, f"changed: {sorted(changed)}"
