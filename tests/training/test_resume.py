"""A run that is killed and resumed ends bit for bit like an uninterrupted one."""

import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

from axion.data.prepare import data_versions, prepare
from axion.errors import AxionError
from axion.files import locked, write_json
from axion.recipe import load_recipe
from axion.release import open_release
from axion.training import checkpoint
from axion.training.environment import describe_changes
from axion.training.metrics import read_metrics
from axion.training.recorder import Recorder
from axion.training.resume import changed_since, find_earlier
from axion.training.run import Interrupted, train
from axion.training.runfile import read_run_file
from axion.training.signals import StopSignals
from axion.training.validation import ValidationResult
from tests.training.conftest import run_in_process

ROOT = Path(__file__).resolve().parents[2]
OLD_RECIPE = ROOT / "tests" / "data" / "recipe-v0.1.yaml"
TIMES = {"seconds", "tokens_per_second"}
STEPS = 24


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """With one thread, sums are rounded the same way in this process and in those that are killed."""
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


@pytest.fixture(scope="module")
def reference(tiny, folder, tmp_path_factory) -> Path:
    """An uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train(tiny(), tmp_path_factory.mktemp("reference") / "run", resume=True)  # nothing to resume: a new run


@pytest.fixture(scope="module")
def unfinished(tiny, folder, tmp_path_factory) -> Path:
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
def stopped(unfinished, tmp_path) -> Path:
    """A copy of the unfinished run."""
    return shutil.copytree(unfinished, tmp_path / "run")


def unfinished_copy(run: Path, target: Path) -> Path:
    """A copy of a finished run as it was just before it wrote its last run.json."""
    copy = shutil.copytree(run, target)
    content = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(content | {"finished": False}))
    return copy


def run_until_killed(folder, overrides, out, resume, environment):
    """A run that is killed in its first call of the function KILLED_IN, with its last file partly written."""
    target = environment["KILLED_IN"]
    call = pkgutil.resolve_name(target)

    def die(*arguments, **options):
        if not target.endswith("_discard"):
            call(*arguments, **options)
            last = max((path for path in out.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
            os.truncate(last, last.stat().st_size - 7)
        os.kill(os.getpid(), signal.SIGKILL)

    pytest.MonkeyPatch().setattr(target, die)
    run_in_process(folder, overrides, out, resume, environment)


def test_killed_inside_each_write(tiny, start_run, stopped, reference):
    for target, newest in (
        ("torch.save", "checkpoint-8"),  # the optimizer of step 12
        ("axion.training.checkpoint.write_json", "checkpoint-8"),  # the manifest
        ("axion.training.checkpoint._discard", "checkpoint-12"),  # complete, but the oldest is not deleted yet
    ):
        process = start_run(stopped, resume=True, environment={"KILLED_IN": target}, work=run_until_killed)
        process.join(240)
        assert process.exitcode == -signal.SIGKILL, target
        staged = [path.name for path in (stopped / checkpoint.STAGING).iterdir()]
        assert staged == (["checkpoint-12"] if newest == "checkpoint-8" else [])
        assert checkpoint.newest_complete(stopped).name == newest
    train(tiny(), stopped, resume=True)
    assert not (stopped / checkpoint.STAGING).exists()
    assert_same_end(stopped, reference)


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
    cut = unfinished_copy(reference, tmp_path / "cut")
    shutil.rmtree(cut / "final")
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
    with pytest.raises(AxionError, match=r"another recipe; resume with the same training\.batch_size"):
        train(tiny("training.batch_size=8"), reference, resume=True)


def test_a_refused_run_prepares_and_compiles_nothing(tiny, stopped, tmp_path, monkeypatch):
    def unexpected(*_, **__):
        raise AssertionError

    monkeypatch.setattr("axion.training.feed.prepare", unexpected)
    monkeypatch.setattr("axion.kernels.backend.library", unexpected)
    with pytest.raises(AxionError, match="backend must be auto, torch or native, not 'fast'"):
        train(tiny(), tmp_path / "new", backend="fast")
    with pytest.raises(AxionError, match=r"kernels cannot be used: training\.compile is for PyTorch"):
        train(tiny("training.compile=true"), tmp_path / "new", backend="native")
    with pytest.raises(AxionError, match="holds a run already"):
        train(tiny(), stopped)
    with pytest.raises(AxionError, match="another recipe"):
        train(tiny("training.batch_size=8"), stopped, resume=True)
    content = json.loads((stopped / "run.json").read_text())
    content["data"]["fingerprint"] = "0" * 64
    (stopped / "run.json").write_text(json.dumps(content))
    with pytest.raises(AxionError, match="the data has changed since"):
        train(tiny(), stopped, resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(AxionError, match="is a file; give a folder"):
        train(tiny(), tmp_path / "file")


def test_a_finished_run_is_reported_and_left_unchanged(tiny, reference, capsys):
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*")}
    assert train(tiny(), reference, resume=True) == reference
    assert f"{reference} is finished already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*")} == before


@pytest.mark.parametrize("content", ["[]", "{}", '{"model.safetensors": "00"}', '["model.safetensors"]', "nothing"])
def test_a_checkpoint_whose_manifest_lists_too_little_is_refused(stopped, content):
    (stopped / "checkpoint-8" / "manifest.json").write_text(content)
    with pytest.raises(AxionError, match=r"manifest\.json is missing or broken; .*checkpoint before it"):
        checkpoint.newest_complete(stopped)


@pytest.mark.parametrize("content", ["{}", "[]", "nothing", '{"recipe": "name: tiny"}'])
def test_a_broken_run_file_is_reported_in_one_line(tiny, tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(AxionError, match=r"no readable run\.json|the recipe in .*run\.json cannot be read") as caught:
        train(tiny(), tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_a_run_file_that_does_not_describe_the_data_is_reported_in_one_line(tiny, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"recipe": tiny().to_yaml()}))
    with pytest.raises(AxionError, match=r"run\.json is broken: it does not describe the data"):
        find_earlier(tmp_path, tiny(), resume=True)


def test_every_damaged_value_of_a_run_file_is_reported_in_one_line(tiny, reference, tmp_path):
    content = json.loads((reference / "run.json").read_text(encoding="utf-8"))
    for key, value in content.items():
        damaged = {"a": 1} if isinstance(value, list) else ["much\n"]
        (tmp_path / "run.json").write_text(json.dumps(content | {key: damaged}), encoding="utf-8")
        with pytest.raises(AxionError, match=rf"run\.json is broken: {key} is .*; restore it") as caught:
            read_run_file(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_run_of_another_version_is_not_reported_as_having_other_data(tiny, tmp_path):
    info = {"recipe": tiny().to_yaml(), "data": {"fingerprint": "0" * 64}}  # as earlier versions wrote it
    for recorded in ({}, {"data_versions": data_versions(tiny().data) | {"format": 0}}):
        (tmp_path / "run.json").write_text(json.dumps(info | recorded))
        with pytest.raises(AxionError, match="was prepared by another version of Axion or of tokenizers; start a new"):
            find_earlier(tmp_path, tiny(), resume=True)
    beginning = tiny("data.max_tokens=1000", "data.shard_tokens=500")  # versions that held out other documents of it
    info |= {"recipe": beginning.to_yaml(), "data_versions": data_versions(tiny().data)}
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(AxionError, match="was prepared by another version of Axion"):
        find_earlier(tmp_path, beginning, resume=True)


@pytest.mark.parametrize("name", ["final", "metrics.csv", "recipe.yaml"])
def test_files_of_others_are_neither_deleted_nor_replaced(tiny, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").touch()
    for resume in (False, True):
        with pytest.raises(AxionError, match=f"{name} exists but is not part of a run; move it away"):
            train(tiny(), tmp_path, resume=resume)
    assert [path.name for path in tmp_path.rglob("*")] == [name, "mine"]


def test_a_folder_called_final_that_appears_during_the_run_is_kept(tiny, tmp_path, reference):
    cut = unfinished_copy(reference, tmp_path / "cut")
    (cut / "final" / "mine").touch()
    with pytest.raises(AxionError, match=r"final was not written by this run; move it away and continue with --resume"):
        train(tiny(), cut, resume=True)
    assert (cut / "final" / "mine").exists()
    (cut / "final" / "mine").unlink()  # the state of a run that was killed before it wrote run.json
    train(tiny(), cut, resume=True)
    assert json.loads((cut / "run.json").read_text())["finished"]


def test_equal_recipes_resume_however_they_are_written(tiny, stopped):
    content = json.loads((stopped / "run.json").read_text())
    recipe = yaml.safe_load(content["recipe"])
    del recipe["license"], recipe["training"]["keep_best"]  # defaults
    content["recipe"] = yaml.safe_dump(recipe)
    (stopped / "run.json").write_text(json.dumps(content))
    assert find_earlier(stopped, tiny(), resume=True).checkpoint == stopped / "checkpoint-8"


def test_one_process_at_a_time_trains_in_a_folder(tiny, stopped, tmp_path, monkeypatch):
    with locked(stopped), pytest.raises(AxionError, match=r"another process is training in .*; wait until it ends"):
        train(tiny(), stopped, resume=True)

    def meanwhile(*arguments, **options):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "run.json").touch()
        return prepare(*arguments, **options)

    monkeypatch.setattr("axion.training.feed.prepare", meanwhile)
    with pytest.raises(AxionError, match=r"another process has started or continued the run in"):
        train(tiny(), tmp_path / "new", backend="torch")
    assert (tmp_path / "new" / "run.json").stat().st_size == 0


def kept(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("checkpoint-*"))


def test_the_last_two_checkpoints_are_kept(reference):
    assert kept(reference) == ["checkpoint-20", "checkpoint-24"]


def test_a_checkpoint_opens_like_a_release(reference):
    last, final = (open_release(reference / name) for name in ("checkpoint-24", "final"))
    assert all(torch.equal(*pair) for pair in zip(last.model.parameters(), final.model.parameters(), strict=True))
    assert last.tokenizer("7 + 5").input_ids == final.tokenizer("7 + 5").input_ids
    assert (last.name, last.recipe_file) == ("run-checkpoint-24", final.recipe_file)


def test_the_last_checkpoint_and_the_best_are_kept(tiny, tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 1.5])
    measured = lambda *_: ValidationResult(next(losses), 1.0, 1, 1)  # noqa: E731
    monkeypatch.setattr("axion.training.recorder.validation_loss", measured)
    options = ("max_steps=8", "evaluations=4", "checkpoints=2", "keep_checkpoints=1", "keep_best=true")
    run = train(tiny(*(f"training.{option}" for option in options)), tmp_path / "run")
    assert kept(run) == ["checkpoint-4", "checkpoint-8"]  # measured after steps 2, 4, 6 and 8
    assert json.loads((run / "checkpoint-8/recorder.json").read_text())["best"] == {"step": 4, "val_loss": 1.0}


BACKENDS = {
    "kernels": (("training.window=37", "training.document_mask=true"), "native"),
    "PyTorch, odd windows": (("training.window=37",), "torch"),
    "PyTorch, AdamW": (("training.optimizer=adamw",), "torch"),
    "PyTorch, accumulation": (("training.grad_accum=2",), "torch"),
}


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_and_optimizer_resumes_bit_for_bit(tiny, tmp_path, capsys, name):
    options, backend = BACKENDS[name]
    recipe = tiny("training.max_steps=6", "training.checkpoints=2", "training.keep_checkpoints=9", *options)
    whole = train(recipe, tmp_path / "whole", backend=backend)
    part = unfinished_copy(whole, tmp_path / "part")
    shutil.rmtree(part / "checkpoint-6")
    shutil.rmtree(part / "final")
    capsys.readouterr()
    train(recipe, part, resume=True)  # with the backend of its first part
    assert "conditions" not in capsys.readouterr().err
    assert_same_end(part, whole)


class Trained(Exception):
    """Ends a run before its first step; its argument is the model."""


def end_before_training(trainer, **_):
    raise Trained(trainer.model)


def test_the_weights_of_a_resumed_run_own_their_aligned_memory(tiny, stopped, monkeypatch):
    """In the memory-mapped file they would not be aligned, and some processors would round differently."""
    monkeypatch.setattr("axion.training.run.AxionTrainer.train", end_before_training)
    with pytest.raises(Trained) as caught:
        train(tiny(), stopped, resume=True)
    saved = load_file(stopped / "checkpoint-8" / "model.safetensors")
    for name, parameter in caught.value.args[0].named_parameters():
        assert parameter.data_ptr() % 64 == 0 and torch.equal(parameter, saved[name])


def test_a_run_says_what_has_changed_since_its_checkpoint(tiny, stopped, monkeypatch, capsys):
    monkeypatch.setattr("axion.training.run.AxionTrainer.train", end_before_training)
    saved = json.loads((stopped / "checkpoint-8" / "environment.json").read_text())
    assert {"threads", "processes", "compiler flags", "floats per vector"} <= saved.keys()
    torch.set_num_threads(2)
    with pytest.raises(Trained):
        train(tiny(), stopped, resume=True, backend="torch")
    torch.set_num_threads(1)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "conditions" in line]
    assert (
        "checkpoint-8 was saved under different conditions (backend native → torch, threads 1 → 2): the result" in line
    )
    assert line.endswith("may differ in its last bits from that of an uninterrupted run")


def test_a_checkpoint_of_an_earlier_version_is_reported(tmp_path):
    line = describe_changes(tmp_path, {"threads": 1})
    assert line is not None and "was saved by an earlier version of Axion: the result may differ" in line


def test_a_signal_saves_and_ends_the_run(tiny, tmp_path, monkeypatch):
    def receive(self, args, state, control, **kwargs):
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return on_step_end(self, args, state, control, **kwargs)

    handler, on_step_end = signal.getsignal(signal.SIGTERM), Recorder.on_step_end
    monkeypatch.setattr(Recorder, "on_step_end", receive)
    with pytest.raises(Interrupted, match=r"stopped at step [23] of 24; .*checkpoint-[23] is saved"):
        train(tiny(), tmp_path / "run", backend="torch")
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_and_ends_every_process(folder, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "axion"]
    options = ["--backend", "torch", "--set", "training.max_steps=80", "--out", str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launcher, "train", "tiny.yaml", *options]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    metrics = tmp_path / "run" / "metrics.csv"
    while not (metrics.exists() and "\n1," in metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert "is saved; continue with --resume" in errors, errors
    assert process.returncode != 0 and checkpoint.newest_complete(tmp_path / "run")
    done = subprocess.run([*command, "--resume"], cwd=folder, env=environment, timeout=240)
    assert done.returncode == 0 and read_metrics(metrics)["step"].tolist() == list(range(1, 81))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_how_threads_wait_changes_no_bit(folder, tmp_path, backend):
    """Two threads that sleep, and two that spin; resumed beside a process that keeps one core busy."""

    def run(out: Path, *options: str, **waiting: str) -> None:
        command = [
            sys.executable,
            "-m",
            "axion",
            "train",
            "tiny.yaml",
            "--backend",
            backend,
            "--out",
            str(out),
            *options,
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"} | waiting
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=240)

    run(tmp_path / "asleep", OMP_WAIT_POLICY="PASSIVE")
    run(tmp_path / "spinning", GOMP_SPINCOUNT="1000000")
    assert_same_end(tmp_path / "spinning", tmp_path / "asleep")

    resumed = unfinished_copy(tmp_path / "spinning", tmp_path / "resumed")
    shutil.rmtree(resumed / f"checkpoint-{STEPS}")
    busy = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        run(resumed, "--resume", GOMP_SPINCOUNT="1000")
    finally:
        busy.kill()
        busy.wait()
    assert_same_end(resumed, tmp_path / "asleep")


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_each_signal_asks_the_run_to_stop(name):
    with StopSignals() as stop:
        stop.is_training = True
        send(getattr(signal, name))
        assert stop.requested


def test_signals_outside_the_training_loop():
    with StopSignals() as stop:
        with pytest.raises(KeyboardInterrupt):  # nothing to save yet, so it ends at once
            send(signal.SIGTERM)
        stop.is_training = True
        send(signal.SIGUSR1)
        send(signal.SIGTERM)  # a job scheduler may send both
        assert stop.requested
        stop.is_training = False
        send(signal.SIGTERM)  # the run is already ending
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint_before(tiny, stopped, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("axion.model.modeling_axion.AxionForCausalLM.save_pretrained", full)
    message = r"checkpoint-12 cannot be written: No space left on device; free some space and continue with --resume"
    with pytest.raises(AxionError, match=message):
        train(tiny(), stopped, resume=True)
    assert checkpoint.newest_complete(stopped) == stopped / "checkpoint-8"
    assert not (stopped / checkpoint.STAGING).exists()


def test_a_finished_run_belongs_to_its_recipe_whatever_revision_it_recorded(tmp_path):
    recipe = load_recipe("axion1-v0.1")
    revision = "data.sources.gsm8k.revision=" + "a" * 40
    old = yaml.safe_load(OLD_RECIPE.read_text(encoding="utf-8"))
    old["data"]["local_files"] = None  # this run read a local copy
    for recorded in (load_recipe("axion1-v0.1", [revision]).to_yaml(), yaml.safe_dump(old)):
        (tmp_path / "run.json").write_text(json.dumps({"recipe": recorded}), encoding="utf-8")
        assert changed_since(tmp_path, recipe) == []
        assert changed_since(tmp_path, load_recipe("axion1-v0.1", ["training.epochs=3"])) == ["training.epochs"]


def test_every_change_of_the_data_is_a_change_of_the_recipe(tiny, tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "2"}\n')
    overrides = (f"data.files={file}", "data.hub_id=null")
    write_json(tmp_path / "run" / "run.json", {"recipe": tiny(*overrides).to_yaml()})
    assert changed_since(tmp_path / "run", tiny(*overrides)) == []
    for override in ("data.seed=7", "data.val_fraction=0.3", "data.max_validation_bytes=9", "data.max_documents=9"):
        assert changed_since(tmp_path / "run", tiny(*overrides, override)) == [override.partition("=")[0]]
    file.write_text('{"question": "1 + 2?", "answer": "3"}\n')  # the same name, different content
    assert changed_since(tmp_path / "run", tiny(*overrides)) == ["data.sources.0.local_files"]
    assert changed_since(tmp_path / "run", tiny("data.sources=[{kind: arithmetic}]")) == ["data.sources"]
