"""What the last bits of a result depend on besides recipe and data; each checkpoint records it."""

import ctypes
import os
from pathlib import Path

import torch
import transformers

from axion.files import read_json
from axion.kernels.backend import Choice
from axion.kernels.build import compiler, compiler_version, processor_flags, vector_lanes
from axion.machine import git_commit, machine
from axion.training import parallel

ENVIRONMENT_FILE = "environment.json"
"""The file of a checkpoint that holds `environment()`."""


def environment(backend: Choice, kernels: ctypes.CDLL | None = None) -> dict[str, str | int | None]:
    """Everything but recipe and data that can change the last bits of a result, each under the name that users read.

    Args:
        backend: what computes.
        kernels: the loaded kernels, if they compute.
    """
    found: dict[str, str | int | None] = {
        "backend": backend.name,
        "processes": parallel.world_size(),
        "threads": torch.get_num_threads(),
        "processor": machine()["processor"],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "code": git_commit(),
    }
    if kernels is not None:
        found |= {
            "compiler": compiler_version(compiler()),
            "compiler flags": " ".join([*processor_flags(), os.environ.get("AXION_KERNELS_FLAGS", "")]).strip(),
            "floats per vector": vector_lanes(kernels),
            "build of the kernels": Path(kernels._name).parent.name,  # a hash of all that it was compiled from
        }
    return found


def describe_changes(checkpoint: Path, now: dict[str, str | int | None]) -> str | None:
    """One line on how the environment differs from a checkpoint's, and what follows; None where it is the same."""
    try:
        before = read_json(checkpoint / ENVIRONMENT_FILE)
    except FileNotFoundError:
        changes = "was saved by an earlier version of Axion"
    else:
        changed = [name for name in now if name in before and before[name] != now[name]]
        if not changed:
            return None
        each = ", ".join(f"{name} {before[name]} → {now[name]}" for name in changed)
        changes = f"was saved under different conditions ({each})"
    return f"{checkpoint} {changes}: the result may differ in its last bits from that of an uninterrupted run"
