"""Every collective of a training run: the only file that uses torch.distributed and accelerate's process state.

Under torchrun each process trains on its share of the batch. Without it there is one process, and every function here
returns at once without communicating.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from accelerate import PartialState

from axion.errors import AxionError, one_line

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(days=7)
"""How long processes wait while the main one prepares data. One that ends is noticed at once, by its connection."""

LOST = "another process of this run has ended, or the connection to it broke"
_LOST_PEER = re.compile(r"gloo.*(connection|timed? ?out|pair|peer)", re.IGNORECASE | re.DOTALL)
"""What gloo's errors say of it; those of NCCL have a class of their own."""

_patient: dist.ProcessGroup | None = None
"""All processes again, for objects that take long to make; a collective of the first group times out in minutes."""


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that torchrun started, and leaves them at the end of the block.

    Without the explicit end, some runs under gloo abort on exit. A block inside another one joins and leaves nothing: a
    group cannot be joined again safely, since torchrun's store keeps its keys.

    Raises:
        AxionError: another process ended, or the connection to it broke, in the middle of a collective.
    """
    if is_distributed():
        yield
        return
    # without cpu=True, processes on a machine without a GPU would not be initialised as one group
    state = PartialState(cpu=not torch.cuda.is_available())
    global _patient
    if is_distributed():
        _patient = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=LONGEST_WAIT))
    try:
        yield
    except RuntimeError as error:
        if is_distributed() and (isinstance(error, dist.DistError) or _LOST_PEER.search(str(error))):
            reason = f"{LOST} ({one_line(error, 120)})"
            raise AxionError(f"{reason}; --resume continues from the newest checkpoint") from None
        raise
    finally:
        _patient = None
        state.destroy_process_group()


def is_distributed() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """The number of processes."""
    return PartialState().num_processes


def rank() -> int:
    """The number of this process, from 0."""
    return PartialState().process_index


def local_processes() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_distributed() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return PartialState().is_main_process


def from_main_process(make: Callable[[], Value]) -> Value:
    """Calls `make` in the main process alone and returns its result in every process.

    Raises:
        AxionError: in every process, where it is raised in the main one.
    """
    if not is_distributed():
        return make()
    shared: list = [None, None]
    if is_main_process():
        try:
            shared[0] = make()
        except AxionError as error:
            shared[1] = str(error)
    dist.broadcast_object_list(shared, src=0, group=_patient)
    value, reason = shared
    if reason is not None:
        raise AxionError(reason)
    return value


def main_process_first(make: Callable[[], Value]) -> Value:
    """Calls `make` in every process, in the main one first: the others find what it has downloaded or built.

    Raises:
        AxionError: in every process, where it is raised in the main one.
    """
    made: list[Value] = []
    from_main_process(lambda: made.append(make()))
    return made[0] if made else make()


def barrier() -> None:
    """Waits until every process has reached this call."""
    PartialState().wait_for_everyone()


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """The elementwise sum of a tensor over all processes, on the tensor's own device."""
    return _all_reduce(tensor, dist.ReduceOp.SUM) if is_distributed() else tensor


def mean_over_processes(value: float) -> float:
    """The mean of a number over all processes."""
    if not is_distributed():
        return value
    return _all_reduce(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.SUM).item() / dist.get_world_size()


def any_process(flag: bool) -> bool:
    """Whether the flag is set in at least one process."""
    return bool(_all_reduce(torch.tensor(int(flag)), dist.ReduceOp.MAX)) if is_distributed() else flag


def _all_reduce(tensor: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
    """A reduced copy. The collective runs on the backend's device: NCCL refuses CPU tensors."""
    reduced = tensor.to(_backend_device(), copy=True)
    dist.all_reduce(reduced, op=operation)
    return reduced.to(tensor.device)


def _backend_device() -> torch.device:
    """The CPU where the backend accepts CPU tensors, otherwise the current device of the first type that it accepts."""
    pairs = dist.get_backend_config().split(",")  # "cuda:nccl", or "cpu:gloo,cuda:nccl"
    devices = [pair.partition(":")[0] for pair in pairs]
    return torch.device("cpu" if "cpu" in devices else devices[0])
