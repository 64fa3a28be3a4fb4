"""Collectives reduce on the backend's device, and only parallel.py and sharding.py of axion/training call them."""

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from axion.errors import AxionError
from axion.files import locked
from axion.training import parallel
from axion.training.balance import ExpertBalancer
from axion.training.resume import open_run
from tests.support.accelerator import Accelerator
from tests.training.test_optim import small_model

ROOT = Path(__file__).resolve().parents[2]


def test_only_these_files_make_collectives():
    collective = re.compile(
        r"torch\.distributed|from accelerate|import accelerate|all_reduce|dist\.barrier|wait_for_everyone"
    )
    files = {path.name for path in (ROOT / "axion").rglob("*.py") if collective.search(path.read_text())}
    assert files == {"parallel.py", "sharding.py"}


class AcceleratorGroup(dist.ProcessGroup):
    """Rank 0 of two processes, which refuses CPU tensors as NCCL does. The other process has the values `others`."""

    def __init__(self, rank, size, accelerator: Accelerator):
        super().__init__(rank, size)
        self.accelerator = accelerator
        self.others: list[torch.Tensor] = []

    def allreduce(self, tensors, options=None):
        [tensor] = tensors
        if not tensor.is_meta:
            raise RuntimeError(f"No backend type associated with device type {tensor.device.type}")
        ours, theirs = self.accelerator.values(tensor), self.others.pop(0)
        maximum = options is not None and options.reduceOp == dist.ReduceOp.MAX
        ours.copy_(torch.maximum(ours, theirs) if maximum else ours + theirs)

    def getBackendName(self):
        return "accelerator"


@pytest.fixture
def group():
    """A process group of two whose backend communicates tensors of an accelerator only."""
    accelerator, made = Accelerator(), []

    def make(store, rank, size, timeout):
        made.append(AcceleratorGroup(rank, size, accelerator))
        return made[0]

    dist.Backend.register_backend("accelerator", make, devices=["meta"])
    dist.init_process_group("accelerator", store=dist.HashStore(), rank=0, world_size=2)
    try:
        with accelerator:
            yield made[0]
    finally:
        dist.destroy_process_group()
        dist.Backend.backend_list.remove("accelerator")
        delattr(dist.Backend, "ACCELERATOR")


def test_a_backend_that_refuses_cpu_tensors(group):
    with pytest.raises(RuntimeError, match="device type cpu"):
        dist.all_reduce(torch.ones(2))
    group.others = [torch.tensor([10, 20]), torch.tensor(4.0, dtype=torch.float64), torch.tensor(1), torch.tensor(0)]
    tensor = torch.tensor([1, 2])
    assert parallel.sum_over_processes(tensor).tolist() == [11, 22] and tensor.tolist() == [1, 2]
    assert parallel.mean_over_processes(1.0) == 2.5
    assert parallel.any_process(False) is True and parallel.any_process(False) is False
    assert not group.others


def test_balancing_counts_the_choices_of_every_process(group):
    model = small_model().train()
    balancer = ExpertBalancer(model, speed=0.01)
    model(torch.arange(30).unsqueeze(0))
    ours = torch.stack(balancer._counts).clone()
    group.others = [torch.tensor([[100, 0, 0, 0], [0, 100, 0, 0]])]
    counts_LE = balancer.step()
    assert torch.equal(counts_LE, ours + torch.tensor([[100, 0, 0, 0], [0, 100, 0, 0]]))
    biases = [layer.mlp.gate.e_score_correction_bias for layer in model.model.layers]
    assert biases[0].argmin() == 0 and biases[1].argmin() == 1


def test_a_single_process_reduces_nothing():
    tensor = torch.ones(2)
    assert parallel.sum_over_processes(tensor) is tensor
    assert parallel.mean_over_processes(3.0) == 3.0 and parallel.any_process(True) is True
    assert parallel.is_main_process() and parallel.world_size() == 1


@pytest.fixture
def in_each_process(monkeypatch):
    """Calls a function as the main process of two and then as the other one, which receives what the main one sent."""

    def call(function) -> list:
        sent, outcomes = [], []
        monkeypatch.setattr(parallel, "is_distributed", lambda: True)
        for is_main in (True, False):
            received = iter(sent)

            def broadcast(shared, src, group, is_main=is_main, received=received):
                assert src == 0
                sent.append(list(shared)) if is_main else shared.__setitem__(slice(None), next(received))

            monkeypatch.setattr(parallel, "is_main_process", lambda is_main=is_main: is_main)
            monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
            try:
                outcomes.append(function())
            except AxionError as error:
                outcomes.append(str(error))
            assert is_main or next(received, None) is None
        monkeypatch.undo()
        return outcomes

    return call


def fail():
    raise AxionError("cannot load it")


def test_the_commit_of_a_data_set_is_resolved_by_one_process_and_broadcast(in_each_process):
    commits = iter("ab")
    assert in_each_process(lambda: parallel.from_main_process(lambda: next(commits))) == ["a", "a"]
    assert in_each_process(lambda: parallel.from_main_process(fail)) == ["cannot load it"] * 2
    assert parallel.from_main_process(lambda: next(commits)) == "b"  # without torchrun


def test_the_main_process_prepares_first_and_its_failure_is_everyones(in_each_process):
    made = iter("abc")
    assert in_each_process(lambda: parallel.main_process_first(lambda: next(made))) == ["a", "b"]
    assert in_each_process(lambda: parallel.main_process_first(fail)) == ["cannot load it"] * 2
    assert parallel.main_process_first(lambda: next(made)) == "c"


def test_a_folder_that_cannot_be_opened_ends_every_process(in_each_process, tmp_path):
    def enter():
        with open_run(tmp_path, None, None):
            raise AssertionError

    with locked(tmp_path):
        first, second = in_each_process(enter)
    assert first == second and "another process is training in" in first
