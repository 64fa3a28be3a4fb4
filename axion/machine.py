"""What a figure was measured on: the machine, and the libraries that did the work."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "datasets", "numpy")


def machine() -> dict:
    """The processor's name, its cores that this process may use, and torch's threads."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": name, "cores": cores, "torch_threads": torch.get_num_threads()}


def libraries() -> dict[str, str]:
    """Library → its version."""
    return {name: version(name) for name in LIBRARIES}
