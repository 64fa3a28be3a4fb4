"""How Axion's speed grows and shrinks: with parameters, threads and context, and how near the processor's limits it is.

One contender at a time, three answers each: what is compared with somebody else stands in the other benchmarks.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from transformers import DeepseekV3ForCausalLM
from transformers.cache_utils import DynamicCache

from axion.export.native import native_config
from axion.kernels.build import Unavailable
from axion.params import count_parameters
from benchmarks import limits
from benchmarks.figures import Effort, Figure, read_figures
from benchmarks.report import number
from benchmarks.sizes import CONTEXT, build_model, config_of, make_release
from benchmarks.workers import Gone, Worker

ANSWERS = 3
BYTES_OF = {"axion-native": 4, "axion-native+bf16": 2, "axion-torch": 4}
"""A weight's, in generation."""
IN_CACHES = 1 << 20
"""A working set that any processor keeps in its caches, in bytes."""


def measure(effort: Effort, say: Callable[[str], None]) -> dict:
    """Every figure about growth.

    Returns:
        "figures": kind "train" or "write", with the context at the end of its name; "shapes": size → its parameters and
        the bytes that each token takes in the cache; "shares": of the processor's limits; "limits", None without a
        compiler; "left_out".
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
                left_out.append(f"{size}, {name}, a context of {context}: {why}")
        say(f"growth: {size}, a context of {context}, {engine}, {threads} threads")
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
    """Axion's kernels, or PyTorch and a line on why they cannot be measured."""
    try:
        Worker(
            "benchmarks.trainers", "axion-native", "--size", size, "--batch", "1", "--window", "16", threads=1
        ).close()
    except Gone as why:
        return "axion-torch", [f"axion-native: {why}"]
    return "axion-native", []


def measure_one(name: str, size: str, context: int, threads: int, effort: Effort) -> list[Figure]:
    """Training with windows of the whole context (in fp32 alone), and writing at its end. Raises Gone."""
    figures = []
    if not name.endswith("+bf16"):
        batch = max(effort.batch * effort.window // context, 1)  # as many tokens a step, whatever the context
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
    """A few answers of one worker, which then ends."""
    try:
        answers = [worker.ask(work, seconds) for _ in range(ANSWERS)]
    finally:
        worker.close()
    values = tuple(answer["tokens"] / answer["seconds"] for answer in answers)
    peak = max(answer["peak_bytes"] for answer in answers)
    return Figure(worker.name, "growth", threads, size, kind, values, peak)


def shape(size: str) -> dict:
    """Parameters, and the bytes that each token takes in the cache of Axion's model and of transformers' own."""
    ours, ids = build_model(size), torch.ones(1, 64, dtype=torch.long)
    counts = count_parameters(ours.config)
    theirs = DeepseekV3ForCausalLM(native_config(ours.config))
    bytes_per_token = {}
    for name, model in (("ours", ours), ("theirs", theirs)):
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(ids, past_key_values=cache, use_cache=True)
        kept = sum(tensor.nbytes for layer in cache for tensor in layer[:2] if tensor is not None)
        bytes_per_token[name] = kept // ids.shape[1]
    return {"parameters": counts.total, "active": counts.active, "cache_bytes": bytes_per_token}


def measure_limits(figures: list[Figure]) -> dict:
    """Number of threads → what `limits.measure` gives for the bytes that each token read. Raises Unavailable."""
    found = {}
    for threads in sorted({figure.threads for figure in figures}):
        written = [figure for figure in figures if figure.threads == threads and figure.kind.startswith("write")]
        sets = {bytes_read(figure) for figure in written} | {IN_CACHES, 1 << 28}
        found[str(threads)] = limits.measure(threads, sorted(sets))
    return found


def bytes_read(figure: Figure) -> int:
    """What each token of a text reads at least. Over and over, and nothing else, is the fastest way to read it."""
    context = int(figure.kind.split()[1])
    return limits.decoding_bytes(config_of(figure.size, context), context, BYTES_OF[figure.name])


def share(figure: Figure, found: dict) -> float:
    """What part of the processor's limit a speed is: of multiply-adds in training, of bytes read in writing."""
    work, context = figure.kind.split()[0], int(figure.kind.split()[1])
    config, most = config_of(figure.size, context), found[str(figure.threads)]
    if work == "train":
        return figure.median * limits.training_operations(config, context) / most["operations"]
    return figure.median * bytes_read(figure) / most["read"][str(bytes_read(figure))]


# --- Tables -----------------------------------------------------------------------------------------------------------


def tables(part: dict) -> str:
    """Markdown: sizes and caches, speeds with their share of the limit, the limits."""
    figures, found = read_figures(part["figures"]), part["limits"]
    text = "| | parameters | active | cache, bytes a token | transformers' own DeepSeek-V3 |\n"
    text += "| --- | ---: | ---: | ---: | ---: |\n"
    for size, facts in part["shapes"].items():
        ours, theirs = facts["cache_bytes"]["ours"], facts["cache_bytes"]["theirs"]
        text += f"| {size} | {facts['parameters']:,} | {facts['active']:,} | {ours:,} | {theirs:,} |\n"
    text += f"\nTraining in steps of about {part['tokens']:,} tokens, and writing one text at the end of the context:\n"
    text += "\n| | context | threads | tokens a second | of the limit | peak memory, MB |\n"
    text += "| --- | ---: | ---: | ---: | ---: | ---: |\n"
    for figure in figures:
        work, context = figure.kind.split()
        what = f"{figure.size}, {work}, {figure.name.removeprefix('axion-').replace('+', ', ')}"
        part_of = f"{100 * share(figure, found):.0f}%" if found else "–"
        cells = [what, context, str(figure.threads), number(median(figure.values)), part_of]
        text += f"| {' | '.join(cells)} | {figure.peak_bytes / 1e6:,.0f} |\n"
    for threads, most in (found or {}).items():
        near, far = (most["read"][str(size)] / 1e9 for size in (IN_CACHES, 1 << 28))
        text += (
            f"\nThe processor's limits with {threads} thread{'s' * (threads != '1')}: "
            f"{number(most['operations'] / 1e9)} GFLOP/s of fp32 multiply-adds, {number(near)} GB/s read from 1 MB, "
            f"{number(far)} GB/s from 256 MB.\n"
        )
    return text
