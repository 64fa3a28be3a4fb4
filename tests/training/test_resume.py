"""A run that is killed and resumed ends bit for bit where an uninterrupted one does."""

import csv
import os
import random
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.training.run import Interrupted, train

CLOCK = {"seconds", "tokens_per_second"}


def rows(run: Path) -> list[dict]:
    """metrics.csv without what the clock says."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(file)]


def assert_same_end(run: Path, reference: Path) -> None:
    assert rows(run) == rows(reference)
    weights, expected = (load_file(folder / "final" / "model.safetensors") for folder in (run, reference))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (weights[name] == tensor).all(), name


def wait_for(condition, process, seconds: float = 60) -> bool:
    """Waits until the condition holds; False if the process ended before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        if not process.is_alive():
            return False
        time.sleep(0.0005)
    raise TimeoutError


@pytest.fixture
def reference(start_run, tmp_path) -> Path:
    """An uninterrupted run in a process like those that will be killed."""
    process = start_run("reference")
    process.join(120)
    assert process.exitcode == 0
    return tmp_path / "reference"


def test_killed_at_random_moments(start_run, tmp_path, reference):
    moments = random.Random(1)
    run, kills, resume = tmp_path / "killed", 0, False
    for _ in range(4):
        process = start_run("killed", resume=resume)
        seen = len(rows(run)) if (run / "metrics.csv").exists() else 0
        more = lambda seen=seen: (run / "metrics.csv").exists() and len(rows(run)) > seen + 2  # noqa: E731
        if not wait_for(more, process):
            break
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        resume = True
    assert kills >= 2
    process = start_run("killed", resume=True)
    process.join(120)
    assert process.exitcode == 0
    assert_same_end(run, reference)


def test_killed_inside_checkpoint_writes(start_run, tmp_path, reference):
    run, inside, resume = tmp_path / "torn", 0, False
    staging = run / ".staging"
    for attempt in range(12):
        process = start_run("torn", resume=resume)
        writing = lambda: any(staging.glob("checkpoint-*"))  # noqa: E731
        if not wait_for(writing, process):
            break
        time.sleep(0.001 * attempt)  # a little later each time: weights, optimizer, random state, manifest
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        inside += writing()  # what was being written still lies there unfinished
        resume = True
        if inside == 4:
            break
    assert inside >= 3, f"only {inside} kills fell inside a checkpoint write"
    process = start_run("torn", resume=True)
    process.join(120)
    assert process.exitcode == 0
    assert not staging.exists() or not any(staging.iterdir())
    assert_same_end(run, reference)


def test_ctrl_c_saves_says_how_to_go_on_and_resumes_exactly(tiny, tmp_path, monkeypatch):
    train(tiny(), tmp_path / "reference")

    from axion.training.trainer import Recorder

    usual = Recorder.on_step_end

    def press_ctrl_c(self, args, state, control, **kwargs):
        if state.global_step == 13:  # between two rows and two checkpoints
            os.kill(os.getpid(), signal.SIGINT)
        return usual(self, args, state, control, **kwargs)

    monkeypatch.setattr(Recorder, "on_step_end", press_ctrl_c)
    with pytest.raises(
        Interrupted, match=r"stopped at step 1[34] of 40; .*checkpoint-1[34] is saved; go on with --resume"
    ):
        train(tiny(), tmp_path / "stopped")
    monkeypatch.undo()
    os.chdir(tmp_path)
    train(tiny(), tmp_path / "stopped", resume=True)
    assert_same_end(tmp_path / "stopped", tmp_path / "reference")


@pytest.fixture
def stopped(tiny, tmp_path, monkeypatch) -> Path:
    """A run that broke off after its second checkpoint."""
    from axion.training.trainer import Recorder

    usual = Recorder.on_step_end

    def fall_over(self, args, state, control, **kwargs):
        if state.global_step == 12:
            raise RuntimeError("power cut")
        return usual(self, args, state, control, **kwargs)

    monkeypatch.setattr(Recorder, "on_step_end", fall_over)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tiny(), tmp_path / "run")
    monkeypatch.setattr(Recorder, "on_step_end", usual)
    return tmp_path / "run"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "recorder.json"]
)
@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_damaged_checkpoint_is_refused(tiny, stopped, name, damage):
    file = stopped / "checkpoint-10" / name
    if damage == "missing":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(AxionError, match=f"{name} is {damage}.*checkpoint before it"):
        train(tiny(), stopped, resume=True)


def test_a_run_killed_after_its_last_checkpoint_only_finishes(tiny, tmp_path, monkeypatch):
    train(tiny(), tmp_path / "reference")

    def fall_over(*args):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("axion.training.run._finish", fall_over)
        with pytest.raises(RuntimeError, match="power cut"):
            train(tiny(), tmp_path / "cut")
    train(tiny(), tmp_path / "cut", resume=True)
    assert_same_end(tmp_path / "cut", tmp_path / "reference")


def test_a_run_without_its_rows_is_not_resumed(tiny, stopped):
    (stopped / "metrics.csv").unlink()
    with pytest.raises(AxionError, match=r"metrics\.csv is missing or lost its rows"):
        train(tiny(), stopped, resume=True)


def test_a_run_goes_on_with_the_backend_that_it_began_with(tiny, stopped):
    with pytest.raises(AxionError, match="was started with another backend; resume with --backend native"):
        train(tiny(), stopped, resume=True, backend="torch")


def test_the_last_two_checkpoints_are_kept(stopped):
    assert sorted(path.name for path in stopped.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-5"]


def test_a_run_is_neither_overwritten_nor_resumed_with_another_recipe(tiny, stopped, tmp_path):
    with pytest.raises(AxionError, match="holds a run already; --resume goes on with it, --out DIR starts another"):
        train(tiny(), stopped)
    with pytest.raises(AxionError, match=r"another recipe; resume with the same training\.batch_size"):
        train(tiny("training.batch_size=8"), stopped, resume=True)
    with pytest.raises(AxionError, match="holds no run to resume"):
        train(tiny(), tmp_path / "nowhere", resume=True)
    train(tiny(), stopped, resume=True)
    with pytest.raises(AxionError, match="is finished"):
        train(tiny(), stopped, resume=True)
