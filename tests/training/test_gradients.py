"""Gradient accumulation and several processes give the gradient of the whole batch, and balance over all its tokens.

Gradients are compared as they reach the optimizer: Muon, Adam and clipping would hide an error in their scale.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from axion.recipe import load_recipe
from axion.training.metrics import read_metrics
from axion.training.recorder import Recorder
from axion.training.run import train
from tests.support.servers import free_port

WITHOUT_CLIPPING = "training.max_grad_norm=1e9"
STEPS = "training.max_steps=3"


def record_gradients(patch: pytest.MonkeyPatch, file: Path) -> None:
    """Saves the gradients of the first optimizer step."""

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if not file.exists():
            named = self.model.named_parameters()
            save_file({name: parameter.grad.clone() for name, parameter in named}, file)

    patch.setattr(Recorder, "on_pre_optimizer_step", on_pre_optimizer_step)


def train_and_record(recipe, out: Path, backend: str = "auto") -> dict[str, torch.Tensor]:
    """Trains, and returns the gradients of the first step."""
    with pytest.MonkeyPatch.context() as patch:
        record_gradients(patch, out.with_suffix(".safetensors"))
        train(recipe, out, backend=backend)
    return load_file(out.with_suffix(".safetensors"))


def assert_equal_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys() and any(tensor.abs().max() > 0 for tensor in ours.values())
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max() + 1e-9, name


def rank_of_two(folder: Path, overrides: tuple[str, ...], out: Path, resume: bool, environment: dict) -> None:
    """One of two processes: trains, and saves its gradients and its biases."""
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    rank = environment["RANK"]
    on_train_end = Recorder.on_train_end

    def save_biases(self, args, state, control, **kwargs):
        biases = {name: b for name, b in self.model.named_buffers() if name.endswith("e_score_correction_bias")}
        save_file(biases, out.with_name(f"biases-{rank}.safetensors"))
        on_train_end(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        record_gradients(patch, out.with_name(f"gradients-{rank}.safetensors"))
        patch.setattr(Recorder, "on_train_end", save_biases)
        train(load_recipe(folder / "tiny.yaml", overrides), out)


@pytest.fixture(scope="module")
def whole(tiny, folder, tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A run with whole batches in one process, and the gradients of its first step."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return out, train_and_record(tiny(STEPS, WITHOUT_CLIPPING), out)


def assert_same_rows(run: Path, expected: Path) -> None:
    metrics, reference = read_metrics(run / "metrics.csv"), read_metrics(expected / "metrics.csv")
    assert metrics["train_loss"] == pytest.approx(reference["train_loss"], abs=1e-4)
    assert metrics["max_violation_layer_1"][0] == reference["max_violation_layer_1"][0]


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_accumulated_gradients_match_those_of_the_whole_batch(tiny, tmp_path, whole, backend):
    out = tmp_path / "run"
    gradients = train_and_record(tiny(STEPS, WITHOUT_CLIPPING, "training.grad_accum=2"), out, backend)
    assert_equal_gradients(gradients, whole[1])
    assert_same_rows(out, whole[0])


def test_tokens_have_the_same_weight_in_every_micro_batch(tiny, folder, tmp_path):
    """Long and short answers: the micro-batches predict different numbers of tokens."""
    chats = [
        [
            {"role": "user", "content": f"{n} + {n}?"},
            {"role": "assistant", "content": "so " * (n % 40 + 1) + str(2 * n)},
        ]
        for n in range(300)
    ]
    lines = [json.dumps({"messages": messages}) for messages in chats]
    (folder / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
    masked = 'data={"sources": [{"kind": "chat", "files": ["chats.jsonl"]}]}'
    whole = train_and_record(tiny(STEPS, WITHOUT_CLIPPING, masked), tmp_path / "whole")
    parts = train_and_record(tiny(STEPS, WITHOUT_CLIPPING, masked, "training.grad_accum=4"), tmp_path / "parts")
    assert_equal_gradients(parts, whole)
    assert_same_rows(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [(), ("architecture.num_nextn_predict_layers=1", "training.label_smoothing=0.1")],
    ids=["plain", "multi-token prediction"],
)
def test_two_processes_match_the_gradients_of_the_whole_batch(tiny, start_run, tmp_path, whole, options):
    if options:
        out = tmp_path / "whole"
        whole = out, train_and_record(tiny(STEPS, WITHOUT_CLIPPING, *options), out)
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        start_run(
            tmp_path / "run",
            STEPS,
            WITHOUT_CLIPPING,
            *options,
            environment=group | {"RANK": rank, "LOCAL_RANK": rank},
            work=rank_of_two,
        )
        for rank in ("0", "1")
    ]
    for process in ranks:
        process.join(240)
    assert [process.exitcode for process in ranks] == [0, 0]
    for rank in ("0", "1"):
        assert_equal_gradients(load_file(tmp_path / f"gradients-{rank}.safetensors"), whole[1])
    assert_same_rows(tmp_path / "run", whole[0])
    ours, theirs = (load_file(tmp_path / f"biases-{rank}.safetensors") for rank in ("0", "1"))
    assert len(ours) == (3 if options else 2)
    assert all(bias.abs().max() > 0 and torch.equal(bias, theirs[name]) for name, bias in ours.items())
