"""Trains one size in bf16 for some minutes and reports its speed, share of peak and loss. For a machine with a GPU.

    python -m benchmarks.gpu --json gpu.json                                  24M parameters, 8 minutes in all
    torchrun --nproc-per-node 8 -m benchmarks.gpu --fsdp-size 8               on several GPUs of one machine
    python -m benchmarks.gpu --size v0.1 --minutes 0.5 --batch 2 --window 64  a smoke test without a GPU

The data is generated, so nothing is downloaded. A short first run measures the speed; the second fills the time left.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from axion.errors import AxionError, one_line
from axion.machine import libraries, machine, peak_bytes
from axion.params import count_parameters
from axion.recipe import Recipe
from axion.training.metrics import METRICS_FILE, Metrics, read_metrics
from axion.training.parallel import from_main_process, process_group, world_size
from axion.training.run import train
from benchmarks.limits import training_operations
from benchmarks.sizes import CONTEXT, SIZES, config_of, recipe_of

FIRST_STEPS = 20
SPARE = 0.85
"""The share of the time left that the second run plans for; validation and checkpoints take the rest."""


def peak_operations() -> float:
    """Floating-point operations per second of a large bf16 matrix product on this process's device."""
    cuda = torch.cuda.is_available()
    size, rounds = (8192, 20) if cuda else (1024, 2)
    left, right = (torch.randn(size, size, device="cuda" if cuda else "cpu", dtype=torch.bfloat16) for _ in range(2))

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            left @ right
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds()  # warms up
    return 2 * size**3 * rounds / min(seconds() for _ in range(3))


def speed(metrics: Metrics) -> float:
    """Tokens per second: the median of all rows but the first, which includes the start."""
    return median(metrics["tokens_per_second"][1:].tolist() or metrics["tokens_per_second"].tolist())


def run(options: argparse.Namespace, folder: Path) -> dict:
    """Trains twice and returns the report. In a process group, which sets each process's GPU."""
    started, peak, cuda = time.monotonic(), peak_operations(), torch.cuda.is_available()
    sharding = {"fsdp_size": options.fsdp_size, "ep_size": options.ep_size}

    def measured(steps: int, name: str) -> Metrics:
        shape = (options.size, steps, options.batch, options.window, options.documents)
        content = recipe_of(*shape, precision=options.precision, distributed=sharding)
        trained = train(Recipe.model_validate(content), folder / name, backend="torch")
        return from_main_process(lambda: read_metrics(trained / METRICS_FILE))

    first = measured(FIRST_STEPS, "first")
    left = from_main_process(lambda: options.minutes * 60 - (time.monotonic() - started))
    processes, tokens_per_step = world_size(), options.batch * options.window
    steps = max(int(SPARE * left * speed(first) / tokens_per_step), FIRST_STEPS)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    metrics = measured(steps, "second")
    config = config_of(options.size, options.window)
    tokens_per_second = speed(metrics)
    return {
        "size": options.size,
        "parameters": count_parameters(config).total,
        "active": count_parameters(config).active,
        "device": torch.cuda.get_device_name() if cuda else machine()["processor"],
        "processes": processes,
        **sharding,
        "precision": options.precision,
        "tokens_per_step": tokens_per_step,
        "steps": steps,
        "tokens_per_second": tokens_per_second,
        "peak_tflops": peak / 1e12,
        "share_of_peak": tokens_per_second * training_operations(config, options.window) / (peak * processes),
        "peak_memory_gb": (torch.cuda.max_memory_allocated() if cuda else peak_bytes()) / 1e9,
        "train_loss": metrics["train_loss"][-1].item(),
        "val_loss": metrics["val_loss"][-1].item(),
        "val_bits_per_byte": metrics["val_bits_per_byte"][-1].item(),
        "minutes": (time.monotonic() - started) / 60,
        "libraries": libraries(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the report as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES), default="24M")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything together")
    parser.add_argument("--batch", type=int, default=128, help="windows per step, over all processes")
    parser.add_argument("--window", type=int, default=CONTEXT)
    parser.add_argument("--documents", type=int, default=20_000, help="generated sums, and as many word problems")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--fsdp-size", type=int, default=1)
    parser.add_argument("--ep-size", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the report into this file")
    options = parser.parse_args(arguments)
    # the same folder in all processes of torchrun
    name = "-".join(filter(None, map(os.environ.get, ("TORCHELASTIC_RUN_ID", "MASTER_PORT")))) or str(os.getpid())
    folder = Path(tempfile.gettempdir(), f"axion-gpu-{name}")
    try:
        with process_group():
            report = run(options, folder)
    except torch.OutOfMemoryError as error:
        sys.exit(f"the GPU's memory is full; lower --batch or raise --fsdp-size ({one_line(error, 120)})")
    except AxionError as error:
        sys.exit(str(error))
    if int(os.environ.get("RANK", "0")) == 0:
        shutil.rmtree(folder)
        text = json.dumps(report, indent=1)
        print(text)
        if options.json:
            options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
