"""A run that is killed and resumed ends bit for bit where an uninterrupted one does."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.recipe import load_recipe
from axion.training import checkpoint
from axion.training.metrics import read_metrics
from axion.training.recorder import Recorder
from axion.training.resume import changed_since
from axion.training.run import Interrupted, train

OLD_RECIPE = Path(__file__).parents[1] / "data" / "recipe-v0.1.yaml"
TIMES = {"seconds", "tokens_per_second"}
STEPS = 24


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums are rounded the same way in this process and in those that are killed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_same_end(run: Path, reference: Path) -> None:
    metrics, expected_metrics = read_metrics(run / "metrics.csv"), read_metrics(reference / "metrics.csv")
    assert list(metrics.columns) == list(expected_metrics.columns)
    for name in set(metrics.columns) - TIMES:
        assert np.array_equal(metrics[name], expected_metrics[name], equal_nan=True), name
    weights, expected = (load_file(folder / "final" / "model.safetensors") for folder in (run, reference))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (weights[name] == tensor).all(), name


def wait_for(condition, process, seconds: float = 120) -> bool:
    """Waits until the condition holds. Returns False if the process ended before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        if not process.is_alive():
            return False
        time.sleep(0.0005)
    raise TimeoutError


@pytest.fixture(scope="module")
def reference(tiny, folder, tmp_path_factory) -> Path:
    """An uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train(tiny(), tmp_path_factory.mktemp("reference") / "run")


@pytest.fixture(scope="module")
def broken_off(tiny, folder, tmp_path_factory) -> Path:
    """A run that died after step 10, with checkpoints at steps 4 and 8. Copy it before changing it."""

    def power_cut(self, args, state, control, **kwargs):
        if state.global_step == 10:
            raise RuntimeError("power cut")
        return on_step_end(self, args, state, control, **kwargs)

    on_step_end = Recorder.on_step_end
    run = tmp_path_factory.mktemp("broken-off") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Recorder, "on_step_end", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(tiny(), run)
    return run


@pytest.fixture
def stopped(broken_off, tmp_path) -> Path:
    """A copy of the run that broke off."""
    return shutil.copytree(broken_off, tmp_path / "run")


def test_killed_at_random_moments_and_inside_checkpoint_writes(start_run, tmp_path, reference):
    moments, run = random.Random(1), tmp_path / "killed"

    def rows() -> int:
        try:
            return len(read_metrics(run / "metrics.csv"))
        except AxionError:
            return 0

    def writing() -> bool:
        return any((run / checkpoint.STAGING).glob("checkpoint-*"))

    kills, inside, resume = 0, 0, False
    for attempt in range(10):
        process = start_run(run, resume=resume)
        seen = rows()
        trained_more = lambda seen=seen: rows() > seen + 2  # noqa: E731
        if not wait_for(trained_more if attempt < 2 else writing, process):
            break
        # a little later each time: weights, optimizer, random state, manifest
        time.sleep(moments.uniform(0, 0.02) if attempt < 2 else 0.001 * (attempt - 2))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        inside += writing()  # the unfinished checkpoint still lies there
        resume = True
        if inside == 3:
            break
    assert kills >= 3 and inside >= 2, f"{kills} kills, {inside} of them inside a checkpoint write"
    process = start_run(run, resume=True)
    process.join(240)
    assert process.exitcode == 0
    assert not (run / checkpoint.STAGING).exists() or not any((run / checkpoint.STAGING).iterdir())
    assert_same_end(run, reference)


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_resume(tiny, tmp_path, monkeypatch, reference):
    def press_ctrl_c(self, args, state, control, **kwargs):
        if state.global_step == 9:  # between two checkpoints
            os.kill(os.getpid(), signal.SIGINT)
        return on_step_end(self, args, state, control, **kwargs)

    on_step_end = Recorder.on_step_end
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_step_end", press_ctrl_c)
        message = r"stopped at step (9|10) of 24; .*checkpoint-(9|10) is saved; continue with --resume"
        with pytest.raises(Interrupted, match=message):
            train(tiny(), tmp_path / "stopped")
    train(tiny(), tmp_path / "stopped", resume=True)
    assert_same_end(tmp_path / "stopped", reference)


def test_a_damaged_checkpoint_is_refused(tiny, stopped):
    newest = stopped / "checkpoint-8"
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "recorder.json"):
        content = (newest / name).read_bytes()
        (newest / name).unlink()
        with pytest.raises(AxionError, match=f"{name} is missing.*checkpoint before it"):
            checkpoint.newest_complete(stopped)
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        (newest / name).write_bytes(flipped)
        with pytest.raises(AxionError, match=f"{name} is broken.*checkpoint before it"):
            checkpoint.newest_complete(stopped)
        (newest / name).write_bytes(content)
    assert checkpoint.newest_complete(stopped) == newest
    (newest / "optimizer.pt").unlink()
    with pytest.raises(AxionError, match=r"optimizer\.pt is missing"):
        train(tiny(), stopped, resume=True)


def test_a_run_killed_after_its_last_checkpoint_only_finishes(tiny, tmp_path, reference):
    cut = shutil.copytree(reference, tmp_path / "cut")
    shutil.rmtree(cut / "final")
    run_file = cut / "run.json"
    run_file.write_text(run_file.read_text().replace('"finished": true', '"finished": false'))
    train(tiny(), cut, resume=True)
    assert_same_end(cut, reference)


def test_a_run_without_its_rows_is_not_resumed(tiny, stopped):
    (stopped / "metrics.csv").unlink()
    with pytest.raises(AxionError, match=r"metrics\.csv is missing or lost its rows"):
        train(tiny(), stopped, resume=True)


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(tiny, stopped, tmp_path, reference):
    with pytest.raises(AxionError, match="holds a run already; --resume continues it, --out DIR starts another"):
        train(tiny(), stopped)
    with pytest.raises(AxionError, match=r"another recipe; resume with the same training\.batch_size"):
        train(tiny("training.batch_size=8"), stopped, resume=True)
    with pytest.raises(AxionError, match="was started with another backend; resume with --backend native"):
        train(tiny(), stopped, resume=True, backend="torch")
    with pytest.raises(AxionError, match="holds no run to resume"):
        train(tiny(), tmp_path / "nowhere", resume=True)
    with pytest.raises(AxionError, match="is finished"):
        train(tiny(), reference, resume=True)


def test_the_last_two_checkpoints_are_kept(reference):
    assert sorted(path.name for path in reference.glob("checkpoint-*")) == ["checkpoint-20", "checkpoint-24"]


def test_a_finished_run_belongs_to_its_recipe_whatever_revision_it_recorded(tmp_path):
    recipe = load_recipe("axion1-v0.1")
    revision = "data.sources.gsm8k.revision=" + "a" * 40
    old = yaml.safe_load(OLD_RECIPE.read_text(encoding="utf-8"))
    old["data"]["local_files"] = None  # that run read a local copy
    for recorded in (load_recipe("axion1-v0.1", [revision]).to_yaml(), yaml.safe_dump(old)):
        (tmp_path / "run.json").write_text(json.dumps({"recipe": recorded}), encoding="utf-8")
        assert changed_since(tmp_path, recipe) == []
        assert changed_since(tmp_path, load_recipe("axion1-v0.1", ["training.epochs=3"])) == ["training.epochs"]
