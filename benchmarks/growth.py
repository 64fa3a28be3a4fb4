"""How Axion's speed scales with parameters, threads and context, and how close it comes to the processor's limits.

Contenders run one at a time, three measurements each. Comparisons with other engines are in the other benchmarks.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import cast

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.cache_utils import DynamicCache

from axion.export.native import native_config
from axion.kernels.build import Unavailable
from axion.params import count_parameters
from benchmarks import limits
from benchmarks.figures import Effort, Figure, processor_table, read_figures
from benchmarks.report import number
from benchmarks.sizes import CONTEXT, build_model, config_of, make_release
from benchmarks.workers import Gone, Worker

ANSWERS = 3
BYTES_OF = {"axion-native": 4, "axion-native+bf16": 2, "axion-torch": 4}
"""Bytes per weight in generation."""
LABELS = {"train": "train", "write": "generate"}
"""The kinds of work as the tables name them."""
IN_CACHES = 1 << 20
"""A working set that fits in any processor's caches, in bytes."""


def measure(effort: Effort, say: Callable[[str], None]) -> dict:
    """Measure everything about scaling.

    Returns:
        "figures": of kind "train CONTEXT" or "write CONTEXT"; "shapes": size → parameters and bytes per token in the
        KV cache; "limits": the processor's, None without a compiler; "tokens": per training step; "left_out".
    """
    engine, left_out = pick_engine(effort.sizes[0])
    figures = []
    shapes = [(size, CONTEXT, threads) for size in effort.sizes for threads in effort.threads]
    shapes += [(effort.sizes[0], context, effort.threads[-1]) for context in effort.contexts if context != CONTEXT]
    for size, context, threads in shapes:
        rounded = [f"{engine}+bf16"] if engine == "axion-native" and context == CONTEXT else []
        for name in [engine, *rounded]:
            try:
                figures += measure_one(name, size, context, threads, effort)
            except Gone as why:
                left_out.append(f"{size}, {name}, context {context}: {why}")
        say(f"growth: {size}, context {context}, {engine}, {threads} threads")
    found = None
    try:
        found = measure_limits(figures)
        say("growth: the processor's limits")
    except Unavailable as why:
        left_out.append(f"the processor's limits: {why}")
    return {
        "figures": [asdict(figure) for figure in figures],
        "shapes": {size: shape(size) for size in effort.sizes},
        "limits": found,
        "tokens": effort.batch * effort.window,
        "left_out": list(dict.fromkeys(left_out)),
    }


def pick_engine(size: str) -> tuple[str, list[str]]:
    """Axion's kernels, or PyTorch and a line on why the kernels cannot be measured."""
    try:
        Worker(
            "benchmarks.trainers", "axion-native", "--size", size, "--batch", "1", "--window", "16", threads=1
        ).close()
    except Gone as why:
        return "axion-torch", [f"axion-native: {why}"]
    return "axion-native", []


def measure_one(name: str, size: str, context: int, threads: int, effort: Effort) -> list[Figure]:
    """Measure training on windows of the full context (fp32 only) and generation at its end. Raises Gone."""
    figures = []
    if not name.endswith("+bf16"):
        batch = max(effort.batch * effort.window // context, 1)  # the same number of tokens per step for every context
        shape = ("--size", size, "--batch", str(batch), "--window", str(context), "--context", str(context))
        worker = Worker("benchmarks.trainers", name, *shape, threads=threads)
        figures.append(ask(worker, "step", f"train {context}", size, threads, effort.seconds))
    with tempfile.TemporaryDirectory(prefix="axion-benchmark-") as folder:
        release = make_release(size, Path(folder), context)
        arguments = (name, "--folder", str(release.folder), "--kinds", "late")
        worker = Worker("benchmarks.decoders", *arguments, threads=threads)
        figures.append(ask(worker, "late", f"write {context}", size, threads, effort.seconds / 3))
    return figures


def ask(worker: Worker, work: str, kind: str, size: str, threads: int, seconds: float) -> Figure:
    """Measure a worker `ANSWERS` times, then close it."""
    try:
        answers = [worker.ask(work, seconds) for _ in range(ANSWERS)]
    finally:
        worker.close()
    values = tuple(answer["tokens"] / answer["seconds"] for answer in answers)
    peak = max(answer["peak_bytes"] for answer in answers)
    return Figure(worker.name, "growth", threads, size, kind, values, peak)


def shape(size: str) -> dict:
    """Parameters, and bytes per token in the KV cache of Axion's model and of transformers' own."""
    ours, ids = build_model(size), torch.ones(1, 64, dtype=torch.long)
    counts = count_parameters(ours.config)
    theirs = DeepseekV3ForCausalLM(cast(DeepseekV3Config, native_config(ours.config)))
    bytes_per_token = {}
    for name, model in (("ours", ours), ("theirs", theirs)):
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(ids, past_key_values=cache, use_cache=True)
        kept = sum(tensor.nbytes for layer in cache for tensor in layer[:2] if tensor is not None)
        bytes_per_token[name] = kept // ids.shape[1]
    return {"parameters": counts.total, "active": counts.active, "cache_bytes": bytes_per_token}


def measure_limits(figures: list[Figure]) -> dict:
    """Number of threads → `limits.measure` for the bytes read per generated token. Raises Unavailable."""
    found = {}
    for threads in sorted({figure.threads for figure in figures}):
        written = [figure for figure in figures if figure.threads == threads and figure.kind.startswith("write")]
        sets = {bytes_read(figure) for figure in written} | {IN_CACHES, 1 << 28}
        found[str(threads)] = limits.measure(threads, sorted(sets))
    return found


def bytes_read(figure: Figure) -> int:
    """A lower bound on the bytes read per generated token."""
    context = int(figure.kind.split()[1])
    return limits.decoding_bytes(config_of(figure.size, context), context, BYTES_OF[figure.name])


def share(figure: Figure, found: dict) -> float:
    """A speed as a share of the processor's limit: of multiply-adds in training, of bytes read in generation."""
    work, context = figure.kind.split()[0], int(figure.kind.split()[1])
    config, most = config_of(figure.size, context), found[str(figure.threads)]
    if work == "train":
        return figure.median * limits.training_operations(config, context) / most["operations"]
    return figure.median * bytes_read(figure) / most["read"][str(bytes_read(figure))]


# --- Tables -----------------------------------------------------------------------------------------------------------


def tables(parts: Mapping[str, dict]) -> str:
    """Markdown tables: sizes and caches, speeds as a share of the limit, the limits.

    Args:
        parts: processor → what `measure` returned there.
    """
    last = list(parts.values())[-1]
    text = "| | parameters | active | KV cache, bytes per token | the same in transformers' DeepSeek-V3 |\n"
    text += "| --- | ---: | ---: | ---: | ---: |\n"
    for size, facts in last["shapes"].items():
        ours, theirs = facts["cache_bytes"]["ours"], facts["cache_bytes"]["theirs"]
        text += f"| {size} | {facts['parameters']:,} | {facts['active']:,} | {ours:,} | {theirs:,} |\n"
    text += (
        f"\nTraining in steps of about {last['tokens']:,} tokens, and generating one text at the end of the context: "
    )
    text += "tokens per second, share of the limit, peak memory in MB.\n\n"
    rows: dict[tuple, dict[str, str]] = {}
    for processor, part in parts.items():
        for figure in read_figures(part["figures"]):
            work, context = figure.kind.split()
            what = f"{LABELS[work]}, {figure.name.removeprefix('axion-').replace('+', ', ')}"
            part_of = f"{100 * share(figure, part['limits']):.0f}%" if part["limits"] else "–"
            cell = f"{number(median(figure.values))}, {part_of}, {figure.peak_bytes / 1e6:,.0f}"
            rows.setdefault((figure.size, what, int(context), figure.threads), {})[processor] = cell
    text += processor_table(["size", "", "context", "threads"], rows, parts)
    found = {processor: part["limits"] for processor, part in parts.items() if part["limits"]}
    return text + "\n" + limits_table(found) if found else text


def limits_table(found: Mapping[str, dict]) -> str:
    """Processor → what `measure_limits` found there, as a Markdown table."""
    rows: dict[tuple, dict[str, str]] = {}
    for processor, by_threads in found.items():
        for threads, most in by_threads.items():
            near, far = (most["read"][str(size)] / 1e9 for size in (IN_CACHES, 1 << 28))
            for what, value in (
                ("fp32 multiply-adds, GFLOP/s", most["operations"] / 1e9),
                ("read from 1 MB, GB/s", near),
                ("read from 256 MB, GB/s", far),
            ):
                rows.setdefault((what, int(threads)), {})[processor] = number(value)
    ordered = {key: rows[key] for key in sorted(rows, key=lambda key: key[1])}
    return processor_table(["limit", "threads"], ordered, found)
