"""Collectives reduce on the backend's device, and only axion/training/parallel.py makes any."""

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from axion.errors import AxionError
from axion.training import parallel
from axion.training.balance import ExpertBalancer
from tests.training.test_optim import small_model

ROOT = Path(__file__).resolve().parents[2]


def test_only_one_file_makes_collectives():
    collective = re.compile(r"torch\.distributed|from accelerate|import accelerate|all_reduce|barrier\(\)$")
    files = {path.name for path in (ROOT / "axion").rglob("*.py") if collective.search(path.read_text())}
    assert files == {"parallel.py"}


class Accelerator(TorchDispatchMode):
    """Makes the meta device a stand-in for an accelerator: copies to it and back keep their values."""

    def __init__(self):
        super().__init__()
        self.memory: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def values(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.memory[id(tensor)][1]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default:
            [source] = args
            if torch.device(kwargs.get("device", "cpu")).type == "meta":
                copy = func(*args, **kwargs)
                self.memory[id(copy)] = copy, source.clone()
                return copy
            if source.is_meta:
                return self.values(source).clone()
        return func(*args, **kwargs)


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


def test_a_data_sets_commit_is_resolved_by_one_process_and_given_to_all(monkeypatch):
    asked, sent = [], []

    def make():
        asked.append(1)
        if len(asked) == 2:
            raise AxionError("cannot load it")
        return "a" * 40

    monkeypatch.setattr(parallel, "is_distributed", lambda: True)
    monkeypatch.setattr(parallel, "_backend_device", lambda: torch.device("cpu"))
    for is_main in (True, False):  # each process in turn; the second receives what the first has sent
        monkeypatch.setattr(parallel, "is_main_process", lambda is_main=is_main: is_main)
        received = iter(sent)

        def broadcast(shared, src, device, is_main=is_main, received=received):
            assert src == 0
            sent.append(list(shared)) if is_main else shared.__setitem__(slice(None), next(received))

        monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
        assert parallel.from_main_process(make) == "a" * 40
        with pytest.raises(AxionError, match="cannot load it"):
            parallel.from_main_process(make)
    assert len(asked) == 2
    monkeypatch.setattr(parallel, "is_distributed", lambda: False)
    assert parallel.from_main_process(make) == "a" * 40
