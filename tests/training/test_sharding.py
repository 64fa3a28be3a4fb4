"""Sharded training in several processes with gloo, compared with one process; resuming on another number of them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from axion.data.prepare import prepare
from axion.errors import AxionError
from axion.recipe import LoraRecipe, load_recipe
from axion.training import checkpoint
from axion.training.metrics import read_metrics
from axion.training.run import train
from axion.training.sharding import check_sharding

STEPS = ("training.max_steps=20", "training.checkpoints=2", "training.keep_checkpoints=9")
ROOT = Path(__file__).resolve().parents[2]
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-6


def work(folder: Path, overrides: tuple[str, ...], out: Path, resume: bool, environment: dict) -> None:
    """Trains, and saves the gradients of the first step, clipped as the optimizer gets them, beside the run."""
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    from axion.training import optim, parallel, sharding

    step, gradients = optim.MuonAdamW.step, {}

    def save_gradients(self, closure=None):
        if not gradients:
            named = [parameter.grad for group in self.param_groups for parameter in group["params"]]
            gradients.update(sharding.gather(dict(enumerate(named))))
            if parallel.is_main_process():
                torch.save(gradients, out.with_suffix(".pt"))
        return step(self, closure)

    optim.MuonAdamW.step = save_gradients
    try:
        train(load_recipe(folder / "tiny.yaml", overrides), out, resume, backend="torch")
    except AxionError as error:
        Path(f"{out}.{environment['RANK']}.txt").write_text(str(error))
        raise SystemExit(2) from None


@pytest.fixture
def start_group(start_run):
    """Starts the processes of a group as torchrun does, and returns them."""

    def start(processes: int, out: Path, *overrides: str, resume: bool = False, function=work) -> list:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        names = [{**common, "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"} for rank in range(processes)]
        environments = [{name: str(value) for name, value in each.items()} for each in names]
        return [start_run(out, *STEPS, *overrides, resume=resume, environment=e, work=function) for e in environments]

    return start


@pytest.fixture
def run_group(start_group):
    """Runs a group to its end."""

    def run(*arguments, **options) -> None:
        started = start_group(*arguments, **options)
        for process in started:
            process.join(240)
        assert [process.exitcode for process in started] == [0] * len(started)

    return run


@pytest.fixture(scope="module")
def alone(folder, processes, tmp_path_factory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    process = processes.Process(target=work, args=(folder, STEPS, out, False, {}))
    process.start()
    process.join()
    assert process.exitcode == 0
    return out


def sizes(fsdp_size: int, ep_size: int = 1) -> tuple[str, str]:
    return f"training.distributed.fsdp_size={fsdp_size}", f"training.distributed.ep_size={ep_size}"


def assert_same_gradients(run: Path, expected: Path) -> None:
    ours, theirs = (torch.load(each.with_suffix(".pt")) for each in (run, expected))
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= GRADIENT_TOLERANCE * gradient.norm(), name


def assert_same_run(run: Path, expected: Path) -> None:
    ours, theirs = (read_metrics(each / "metrics.csv") for each in (run, expected))
    assert ours["step"].tolist() == theirs["step"].tolist() == list(range(1, 21))
    for column in ("train_loss", "val_loss"):
        assert np.allclose(ours[column], theirs[column], atol=LOSS_TOLERANCE, rtol=0, equal_nan=True), column
    weights, others = (load_file(each / "final" / "model.safetensors") for each in (run, expected))
    assert weights.keys() == others.keys()
    for name, tensor in others.items():
        if "correction_bias" in name:
            assert torch.equal(weights[name], tensor) and tensor.any()
        else:
            assert (weights[name] - tensor).abs().max() < 1e-3, name


def wait_for_step(run: Path, step: int) -> None:
    deadline, metrics = time.monotonic() + 120, run / "metrics.csv"
    while not (metrics.exists() and f"\n{step}," in metrics.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("group_size", "fsdp_size", "ep_size"),
    [
        (2, 2, 2),
        pytest.param(2, 2, 1, marks=pytest.mark.slow),
        pytest.param(2, 1, 1, marks=pytest.mark.slow),
        pytest.param(4, 4, 2, marks=pytest.mark.slow),
        pytest.param(4, 2, 2, marks=pytest.mark.slow),
    ],
)
def test_a_sharded_run_is_that_of_one_process(run_group, alone, tmp_path, group_size, fsdp_size, ep_size):
    out = tmp_path / "run"
    run_group(group_size, out, *sizes(fsdp_size, ep_size))
    assert_same_gradients(out, alone)
    assert_same_run(out, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group_size", "ep_size", "options"),
    [
        (
            4,
            2,
            (
                "training.optimizer=adamw",
                "architecture.tie_word_embeddings=false",
                "architecture.first_k_dense_replace=1",
            ),
        ),
        (
            2,
            1,
            (
                "training.grad_accum=2",
                "training.batch_size=8",
                "training.sequence_balance_weight=0.01",
                "training.document_mask=true",
            ),
        ),
        (2, 2, ("architecture.num_nextn_predict_layers=1", "training.label_smoothing=0.1")),
        (2, 1, ("architecture.num_nextn_predict_layers=1", "training.gradient_checkpointing=true")),
        (3, 1, ("training.batch_size=6",)),  # leaves parts of unequal size, and one process without experts
    ],
)
def test_every_setting_trains_the_same_when_sharded(run_group, tmp_path, group_size, ep_size, options):
    run_group(1, tmp_path / "alone", *options)
    run_group(group_size, tmp_path / "sharded", *sizes(group_size, ep_size), *options)
    assert_same_gradients(tmp_path / "sharded", tmp_path / "alone")
    assert_same_run(tmp_path / "sharded", tmp_path / "alone")


@pytest.mark.slow
def test_a_run_is_resumed_by_four_then_two_processes_then_one(start_group, run_group, alone, tmp_path):
    out = tmp_path / "run"
    for processes, layout, stop_after in ((4, sizes(4, 2), 6), (2, sizes(2, 1), 13)):
        started = start_group(processes, out, *layout, resume=True)
        wait_for_step(out, stop_after)
        os.kill(started[-1].pid, signal.SIGTERM)
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [2] * processes
        assert "is saved; continue with --resume" in Path(f"{out}.0.txt").read_text()
        assert checkpoint.step_of(checkpoint.newest_complete(out)) >= stop_after
    run_group(1, out, *sizes(1), resume=True)
    assert_same_run(out, alone)


def test_a_process_that_dies_ends_the_others_and_leaves_no_half_checkpoint(start_group, tmp_path):
    out = tmp_path / "run"
    first, second = start_group(2, out, *sizes(2), "training.max_steps=2000", "training.checkpoints=1000")
    wait_for_step(out, 5)
    second.kill()
    first.join(60)
    assert first.exitcode == 2
    message = Path(f"{out}.0.txt").read_text()
    assert "another process of this run has ended" in message and len(message.splitlines()) == 1
    assert checkpoint.newest_complete(out) and not (out / checkpoint.STAGING).exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_torchrun_ends_within_a_minute_of_a_signal_to_one_process(folder, tmp_path, number):
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "axion"]
    chosen = ("training.max_steps=2000", "training.checkpoints=200", *sizes(2, 2))
    overrides = [part for option in chosen for part in ("--set", option)]
    process = subprocess.Popen(
        [*launcher, "train", "tiny.yaml", *overrides, "--out", str(out)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_step(out, 15)
    workers = psutil.Process(process.pid).children(recursive=True)
    [one] = [each for each in workers if each.environ().get("RANK") == "1"]
    one.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert psutil.wait_procs(workers, timeout=1)[1] == []
    assert checkpoint.newest_complete(out) and not (out / checkpoint.STAGING).exists()
    expected = "another process of this run has ended" if number == signal.SIGKILL else "continue with --resume"
    assert expected in errors, errors


def work_and_note(folder: Path, overrides: tuple[str, ...], out: Path, resume: bool, environment: dict) -> None:
    """As `work`; a file beside the run says how many shards it began with, and whether others were missing."""
    from axion.training import feed

    follow = feed.Feed.follow

    def note(self, windows, steps):
        if environment["RANK"] == "1":
            out.with_suffix(".txt").write_text(f"{len(windows.documents.shards)} {self.is_growing}")
        follow(self, windows, steps)

    feed.Feed.follow = note
    work(folder, overrides, out, resume, environment)


@pytest.mark.slow
def test_two_processes_begin_while_the_data_is_prepared(run_group, folder, tmp_path):
    text = tmp_path / "stories.txt"
    text.write_text(
        "<|endoftext|>".join(f"Story {n} of a goat that ate grass by the river {n * n}." for n in range(9000))
    )
    settings = (
        *(f"data.sources=[{{kind: arithmetic, count: 100}}, {{kind: text, files: {text}}}]", "training.epochs=1"),
        *("data.max_tokens=180000", "data.shard_tokens=8000", "data.holdout_fraction=0", "training.batch_size=32"),
    )
    for run in ("early", "late"):
        run_group(2, tmp_path / run, *settings, "training.max_steps=80", function=work_and_note)
        # the run stopped the preparation at its end; the second finds all of the data
        prepare(load_recipe(folder / "tiny.yaml", settings), progress=False)
    began = [(tmp_path / f"{run}.txt").read_text().split() for run in ("early", "late")]
    assert began[0][1] == "True" and began[1][1] == "False" and int(began[0][0]) < int(began[1][0])
    weights = [load_file(tmp_path / run / "final" / "model.safetensors") for run in ("early", "late")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("overrides", "processes", "message"),
    [
        (sizes(4), 2, r"training.distributed.fsdp_size is 4; it must divide the number of processes \(2"),
        (sizes(2), 1, r"training.distributed.fsdp_size is 2; it must divide the number of processes \(1"),
        ((*sizes(2), "training.compile=true"), 2, "training.compile does not work with training.distributed"),
    ],
)
def test_what_cannot_be_sharded_is_refused(tiny, overrides, processes, message):
    with pytest.raises(AxionError, match=message):
        check_sharding(tiny(*overrides), processes)


def test_adapters_are_not_sharded(tiny):
    recipe = tiny(*sizes(2)).model_copy(update={"lora": LoraRecipe()})
    with pytest.raises(AxionError, match=r"lora does not work with training\.distributed"):
        check_sharding(recipe, 2)


def test_an_older_transformers_is_refused(tiny, monkeypatch):
    monkeypatch.setattr("axion.training.sharding.NEEDED", "transformers>=99")
    with pytest.raises(AxionError, match=r"needs transformers>=99, and .* is installed; pip install"):
        check_sharding(tiny(*sizes(2)), 2)


def test_the_experts_have_to_be_dealt_out_evenly(tiny):
    for layout in (sizes(2, 4), sizes(3, 3)):
        with pytest.raises(AxionError, match=r"training.distributed.ep_size is [34]; it must divide"):
            tiny(*layout)
    with pytest.raises(
        AxionError, match=r"training.distributed.fsdp_size is 8; with an ep_size above 1 it must divide"
    ):
        tiny(*sizes(8, 2))


def test_the_kernels_are_for_whole_models(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("axion.training.parallel.world_size", lambda: 2)
    with pytest.raises(AxionError, match=r"the native kernels cannot be used: training\.distributed shards the model"):
        train(tiny(*sizes(2)), tmp_path / "run", backend="native")
    assert not (tmp_path / "run").exists()
