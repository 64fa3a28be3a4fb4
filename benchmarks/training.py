"""Training speed: Axion compared with transformers' DeepSeek-V3 or Llama, with its own PyTorch model and a Python loop,
and `axion train` with a bare step.

A step is forward, backward and optimizer (fused AdamW for all) on 8 windows of 512 random tokens. See
benchmarks/trainers.py for the contenders and docs/performance.md for what the figures mean.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from axion.shipped import ROOT
from axion.training.metrics import METRICS_FILE, Metrics, read_metrics
from benchmarks.figures import (
    Contender,
    Effort,
    Field,
    Figure,
    best,
    figures_of,
    processor_table,
    speed_table,
    to_try,
)
from benchmarks.sizes import BUNDLED
from benchmarks.workers import Gone, Worker

NATIVE, TORCH = "Axion's kernels", "Axion in PyTorch"
STOCK, OTHER, BF16 = "transformers as it comes", "transformers otherwise", "transformers in bf16"
TORCH_COMPILED, TORCH_BF16, LOOP = "Axion in PyTorch, compiled", "Axion in PyTorch, bf16", "a loop over tokens"
WHOLE = "axion train"

FP32_PEERS, ALL_PEERS = (STOCK, OTHER), (STOCK, OTHER, BF16)
OWN_PEERS = (TORCH, TORCH_COMPILED, TORCH_BF16)

LABELS = {
    "axion-native": "**Axion, C++ kernels**",
    "axion-torch": "Axion, PyTorch",
    "axion-torch+bf16": "Axion, PyTorch, bf16 autocast",
    "axion-torch+compile": "Axion, PyTorch, compiled",
    "axion-torch+compile+bf16": "Axion, PyTorch, compiled, bf16 autocast",
    "transformers": "transformers, its default experts (grouped_mm)",
    "transformers:eager": "transformers, eager experts",
    "transformers:batched_mm": "transformers, batched_mm experts",
    "transformers+compile": "transformers, compiled",
    "transformers+bf16": "transformers, bf16 autocast",
    "transformers:eager+bf16": "transformers, eager experts, bf16 autocast",
    "transformers+compile+bf16": "transformers, compiled, bf16 autocast",
    "token-loop": "a Python loop over tokens and experts",
    "axion-native+recipe": "a bare step with the recipe's optimizer",
    "axion-torch+recipe": "a bare step in PyTorch with the recipe's optimizer",
    WHOLE: "`axion train`",
}
LOSS_TOLERANCE = 0.01
"""Relative tolerance between first losses, bf16 included, since all have the same initial weights."""
RUN_SECONDS = 900


def contenders(size: str, compiled: bool) -> list[tuple[str, str]]:
    """Names and groups of the contenders with all threads, in order.

    batched_mm copies an expert's weights for every token, which takes gigabytes per layer at the larger sizes, and the
    loop over tokens is slow at any size: both are measured only at the smallest. transformers' other implementations
    need a GPU. "dense" has no experts, and no model of transformers computes "mini".
    """
    smallest, dense = size == "v0.1", size == "dense"
    names = [("axion-native", NATIVE), ("axion-torch", TORCH), ("axion-torch+bf16", TORCH_BF16)]
    if compiled and size in ("v0.1", "mini"):
        names += [("axion-torch+compile", TORCH_COMPILED), ("axion-torch+compile+bf16", TORCH_BF16)]
    if size == "mini":
        return names
    names += [("transformers", STOCK)] + ([] if dense else [("transformers:eager", OTHER)])
    names += [("transformers:batched_mm", OTHER)] if smallest else []
    names += [("transformers+compile", OTHER)] if compiled else []
    names += [("transformers+bf16", BF16)] + ([("transformers:eager+bf16", BF16)] if smallest else [])
    names += [("transformers+compile+bf16", BF16)] if compiled else []
    return names + ([("token-loop", LOOP)] if smallest else [])


def measure(effort: Effort, say: Callable[[str], None]) -> dict:
    """Measure everything about training.

    Returns:
        "figures": from interleaved rounds of all contenders of a size and number of threads; "whole": of complete runs
        and bare steps in turn; "tried": every setting, measured once; "backend": Axion's, in one line; "left_out": what
        could not be measured and why, one line each.
    """
    figures, tried, left_out, backend = [], [], [], None
    for size in (*effort.sizes, *effort.other_families):
        chosen = contenders(size, effort.compiled)
        for threads in reversed(effort.threads) if size == effort.sizes[0] else effort.threads[-1:]:
            with Field(size, ["step"], effort.seconds, say) as field:
                for contender in to_try([Contender(*each, threads) for each in chosen], effort):
                    if why := hopeless(contender, field.tried):
                        field.leave_out(contender, why)
                        continue
                    field.enter(contender, lambda contender=contender, size=size: start(contender, size, effort))
                measured = field.run(effort.rounds)
                wrong = mismatches(field.told)
            figures += [figure for figure in measured if figure.name not in wrong]
            tried += field.tried
            left_out += field.left_out + [f"{size}, {name}: {why}" for name, why in wrong.items()]
            backend = next((told["backend"] for told in field.told.values() if "backend" in told), backend)
            # with one thread, only the settings that were fastest with all, and without compiling again
            chosen = [(figure.name, figure.group) for figure in measured if "compile" not in figure.name]
    whole, trouble = measure_whole(effort, effort.threads[-1], say)
    return {
        "figures": [asdict(figure) for figure in figures],
        "tried": [asdict(figure) for figure in tried],
        "whole": [asdict(figure) for figure in whole],
        "backend": backend,
        "left_out": list(dict.fromkeys(left_out + trouble)),
        "batch": effort.batch,
        "window": effort.window,
        "rounds": effort.rounds,
        "whole_steps": effort.whole_steps,
    }


def hopeless(contender: Contender, tried: Sequence[Figure]) -> str | None:
    """Why a setting is not worth the minute or two that it takes to compile, or None.

    Where bf16 was slower than fp32 before compilation it was slower after it too, at every size measured.
    """
    if not {"compile", "bf16"} <= {*contender.name.split("+")}:
        return None
    speeds = {figure.name: figure.median for figure in tried if figure.threads == contender.threads}
    half = contender.name.replace("+compile", "")
    full = half.replace("+bf16", "")
    if speeds.get(half, 0) >= speeds.get(full, 0):
        return None
    return f"not tried: without compilation bf16 was slower than fp32, {speeds[half]:,.0f} against {speeds[full]:,.0f}"


def start(contender: Contender, size: str, effort: Effort) -> Worker:
    """Start the contender's process; the loop over tokens gets one window instead of a batch."""
    batch = 1 if contender.name == "token-loop" else effort.batch
    shape = ("--size", size, "--batch", str(batch), "--window", str(effort.window))
    return Worker("benchmarks.trainers", contender.name, *shape, threads=contender.threads)


def mismatches(told: dict[Contender, dict]) -> dict[str, str]:
    """Contenders that compute something else: name → why. The token loop is exempt, since its batch differs."""
    losses = {who.name: ready["loss"] for who, ready in told.items() if who.name != "token-loop"}
    expected = losses.get("transformers", next(iter(losses.values()), 0.0))
    return {
        name: f"its first loss is {loss:.4f}, that of transformers is {expected:.4f}"
        for name, loss in losses.items()
        if not abs(loss - expected) <= LOSS_TOLERANCE * expected
    }


# --- The complete command ---------------------------------------------------------------------------------------------


def measure_whole(effort: Effort, threads: int, say: Callable[[str], None]) -> tuple[list[Figure], list[str]]:
    """Measure `axion train` on synthetic data and a bare step in turn; also returns what could not be measured."""
    trouble = []
    for engine in ("axion-native", "axion-torch"):
        shape = ("--size", "v0.1", "--batch", str(effort.batch))
        try:
            worker = Worker("benchmarks.trainers", f"{engine}+recipe", *shape, threads=threads)
            break
        except Gone as why:
            trouble.append(f"{engine}+recipe: {why}")
    else:
        return [], trouble
    bare, whole, backend = [], [], "native" if engine == "axion-native" else "torch"
    try:
        with tempfile.TemporaryDirectory(prefix="axion-benchmark-") as folder:
            for number in range(effort.whole_rounds):
                answer = worker.ask("step", 3 * effort.seconds)
                bare.append(answer["tokens"] / answer["seconds"])
                whole.append(run_command(Path(folder), f"run-{number}", backend, effort, threads))
                say(f"axion train: {whole[-1]:,.0f} tokens/s, bare step {bare[-1]:,.0f}")
    except Gone as why:
        return [], [*trouble, f"{WHOLE}: {why}"]
    finally:
        worker.close()
    common = {"threads": threads, "size": "v0.1"}
    return [
        Figure(WHOLE, WHOLE, kind="whole", values=tuple(whole), **common),
        Figure(worker.name, "bare step", kind="whole", values=tuple(bare), **common),
    ], trouble


def run_command(folder: Path, name: str, backend: str, effort: Effort, threads: int) -> float:
    """Tokens per second of one `axion train` after its first quarter, from its metrics.csv.

    Everything else that a run does is included: data, clipping, balancing, metrics. Only the validation and the
    checkpoint at the end are not; a real run has about twenty of each in thousands of steps.
    """
    settings = {
        "data.hub_id": "null",
        "training.max_steps": effort.whole_steps,
        "training.batch_size": effort.batch,
        "training.short_window": "null",
        "training.evaluations": 1,
        "training.checkpoints": 1,
    }
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "axion", "train", BUNDLED, "--backend", backend, "--out", name, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    try:
        subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=True
        )
    except subprocess.TimeoutExpired:
        raise Gone(f"not finished within {RUN_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise Gone(error.stderr.strip().splitlines()[-1][:200]) from None
    return speed_after_warm_up(read_metrics(folder / name / METRICS_FILE))


def speed_after_warm_up(metrics: Metrics) -> float:
    """Tokens per second from the row after the first quarter to the last row."""
    first = len(metrics) // 4
    tokens, seconds = metrics["tokens"], metrics["seconds"]
    return float((tokens[-1] - tokens[first]) / (seconds[-1] - seconds[first]))


# --- Tables -----------------------------------------------------------------------------------------------------------


def tables(parts: Mapping[str, dict]) -> str:
    """Markdown tables: contenders measured in turn, every setting that was tried, and complete runs.

    Args:
        parts: processor → what `measure` returned there.
    """
    last = list(parts.values())[-1]
    text = f"Tokens per second, in steps of {last['batch']} × {last['window']} tokens, {last['rounds']} rounds:\n\n"
    text += speed_table(figures_of(parts), LABELS, "size")
    text += "\nPeak memory of the process in MB, including torch:\n\n" + memory_table(figures_of(parts))
    text += "\nEvery setting, measured once, in tokens per second; the fastest of each group is in the table above:\n\n"
    text += speed_table(figures_of(parts, "tried"), LABELS, "size")
    if any(part["whole"] for part in parts.values()):
        text += f"\n`axion train` for {last['whole_steps']} steps and a bare step in turn, in tokens per second:\n\n"
        text += speed_table(figures_of(parts, "whole"), LABELS, "size")
    return text


def memory_table(measured: Mapping[str, Sequence[Figure]]) -> str:
    """Peak memory with all threads, of Axion and of the fastest setting of transformers."""
    rows: dict[tuple, dict[str, str]] = {}
    for processor, figures in measured.items():
        most = max((figure.threads for figure in figures), default=1)
        for size in dict.fromkeys(figure.size for figure in figures):
            for groups in ((NATIVE,), (TORCH,), (STOCK,), ALL_PEERS):
                name = "transformers at its fastest" if groups == ALL_PEERS else groups[0]
                if found := best(figures, groups, size=size, threads=most):
                    rows.setdefault((size, name), {})[processor] = f"{found.peak_bytes / 1e6:,.0f}"
    return processor_table(["size", ""], rows, measured)
