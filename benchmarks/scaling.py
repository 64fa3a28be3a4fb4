"""Training beyond one process: speed and memory measured here, and from them estimates for GPUs.

python -m benchmarks.scaling --docs               measures, and writes docs/scaling.json and docs/scaling.md
python -m benchmarks.scaling --estimates --docs   estimates alone, for example with --share 0.2 --price 3
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from statistics import median

import yaml

from axion.kernels.build import Unavailable
from axion.params import count_parameters
from axion.shipped import ROOT
from axion.training.metrics import METRICS_FILE, read_metrics
from benchmarks import limits
from benchmarks.growth import ANSWERS, pick_engine
from benchmarks.report import DOCS, build_report, describe_machine, number, write_block, write_json
from benchmarks.sizes import CONTEXT, config_of, recipe_of
from benchmarks.workers import Gone, Worker

PAGE = "scaling.md"
SECONDS = 900
ESTIMATED = ("100M", "386M")
GPUS = (1, 8, 64)
BYTES_PER_PARAMETER = 16
"""Weight, gradient and two moments of AdamW, in fp32. Muon keeps one moment."""


@dataclass(frozen=True)
class Assumptions:
    """What the estimates take for granted."""

    gpu: str = "H100 SXM"
    peak: float = 989.0
    """Of the GPU: dense bf16 TFLOP/s on its data sheet."""
    share: float = 0.10
    """The share of this peak that training reaches on one GPU; `benchmarks.gpu` measures a peak and the share of it."""
    efficiency: float = 0.9
    """The share of the speed per GPU that is left on several of them."""
    price: float = 2.5
    """US dollars per GPU and hour."""
    tokens_per_parameter: float = 20.0
    """Training tokens per parameter, routed experts included."""


@dataclass(frozen=True)
class Layout:
    """A way to spread one training run over processes."""

    name: str
    processes: int
    fsdp_size: int = 1
    ep_size: int = 1
    backend: str = "torch"


LAYOUTS = (
    Layout("one process, kernels", 1, backend="native"),
    Layout("one process", 1),
    Layout("DDP", 2),
    Layout("DDP, kernels", 2, backend="native"),
    Layout("FSDP2", 2, 2),
    Layout("FSDP2 with expert parallelism", 2, 2, 2),
)


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    sizes: Sequence[str] = ("v0.1", "M", "L", "24M", "100M")
    seconds: float = 1.0
    layouts_size: str = "L"
    rounds: int = 2
    """Runs of every layout. The fastest counts: whatever else the machine does only makes a run slower."""
    steps: int = 8
    batch: int = 2
    window: int = CONTEXT


QUICK = Effort(sizes=("v0.1",), seconds=0.05, layouts_size="v0.1", rounds=1, steps=3, batch=2, window=64)
"""A smoke test; its figures are meaningless."""


def measure(effort: Effort, say: Callable[[str], None]) -> dict:
    """Measures everything.

    Returns:
        "sizes": one entry a size that could be measured; "layouts": one a layout; "limit": floating-point operations
        per second of the processor, None without a compiler; "left_out": what could not be measured and why.
    """
    threads, sizes, left_out = len(os.sched_getaffinity(0)), [], []
    for size in effort.sizes:
        try:
            sizes.append(measure_size(size, threads, effort))
            say(f"scaling: {size}")
        except Gone as why:
            left_out.append(f"{size}: {why}")
    with tempfile.TemporaryDirectory(prefix="axion-scaling-") as folder:
        best: dict[str, dict] = {}
        for layout in [*LAYOUTS] * effort.rounds:  # in turns, so that a busy minute does not hit all runs of one layout
            try:
                run = measure_layout(layout, threads, effort, Path(folder))
                best[layout.name] = max(run, best.get(layout.name, run), key=itemgetter("tokens_per_second"))
                say(f"scaling: {layout.name}")
            except Gone as why:
                left_out.append(f"{layout.name}: {why}")
    try:
        limit = limits.measure(threads, [1 << 20])["operations"]
    except Unavailable as why:
        limit = None
        left_out.append(f"the processor's limit: {why}")
    return {
        "sizes": sizes,
        "layouts": list(best.values()),
        "limit": limit,
        "threads": threads,
        "effort": asdict(effort),
        "left_out": list(dict.fromkeys(left_out)),
    }


def measure_size(size: str, threads: int, effort: Effort) -> dict:
    """Tokens per second and peak memory of training steps in one process. Raises Gone."""
    engine, _ = pick_engine(size)
    shape = ("--size", size, "--batch", str(effort.batch), "--window", str(effort.window))
    worker = Worker("benchmarks.trainers", engine, *shape, "--context", str(effort.window), threads=threads)
    try:
        answers = [worker.ask("step", effort.seconds) for _ in range(ANSWERS)]
    finally:
        worker.close()
    return {
        "size": size,
        "engine": engine,
        "tokens_per_second": median(answer["tokens"] / answer["seconds"] for answer in answers),
        "peak_bytes": max(answer["peak_bytes"] for answer in answers),
    }


def measure_layout(layout: Layout, threads: int, effort: Effort, folder: Path) -> dict:
    """Runs `axion train` in one or several processes; every layout uses all threads. Raises Gone."""
    sharding = {"fsdp_size": layout.fsdp_size, "ep_size": layout.ep_size}
    recipe = recipe_of(effort.layouts_size, effort.steps, effort.batch, effort.window, distributed=sharding)
    path, out = folder / "recipe.yaml", Path(tempfile.mkdtemp(dir=folder), "run")
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(layout.processes)]
    command = [sys.executable, *(launcher if layout.processes > 1 else []), "-m", "axion", "train", str(path)]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(max(threads // layout.processes, 1)),
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "--backend", layout.backend, "--out", str(out)],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)  # the largest process of the run counts
        output.seek(0)
        if status:
            raise Gone(output.read().strip().splitlines()[-1])
    speeds = read_metrics(out / METRICS_FILE)["tokens_per_second"][1:].tolist()
    return asdict(layout) | {"tokens_per_second": median(speeds), "peak_bytes": usage.ru_maxrss * 1024}


def estimate(size: str, gpus: int, given: Assumptions) -> dict:
    """Tokens, hours and dollars of training one of SIZES on so many GPUs."""
    config = config_of(size)
    parameters = count_parameters(config).total
    tokens = given.tokens_per_parameter * parameters
    efficiency = given.efficiency if gpus > 1 else 1.0
    speed = given.peak * 1e12 * given.share * efficiency / limits.training_operations(config, CONTEXT)
    hours = tokens / (speed * gpus) / 3600
    return {
        "tokens": tokens,
        "tokens_per_second": speed * gpus,
        "hours": hours,
        "dollars": hours * gpus * given.price,
        "state_bytes": parameters * BYTES_PER_PARAMETER / gpus,
    }


# --- Tables -----------------------------------------------------------------------------------------------------------


def measured_block(report: dict) -> str:
    """The measured figures as Markdown."""
    part, text = (
        report["scaling"],
        "| | parameters | active | engine | tokens per second | of the limit | memory, GB |\n",
    )
    text += "| --- | ---: | ---: | --- | ---: | ---: | ---: |\n"
    effort = part["effort"]
    for row in part["sizes"]:
        config = config_of(row["size"])
        counts, speed = count_parameters(config), row["tokens_per_second"]
        work = speed * limits.training_operations(config, effort["window"])
        share = f"{100 * work / part['limit']:.0f}%" if part["limit"] else "–"
        cells = [row["size"], f"{counts.total:,}", f"{counts.active:,}", row["engine"].removeprefix("axion-")]
        text += f"| {' | '.join(cells)} | {number(speed)} | {share} | {row['peak_bytes'] / 1e9:.2f} |\n"
    threads, tokens = part["threads"], effort["batch"] * effort["window"]
    text += (
        f"\nTraining steps of {tokens:,} tokens in one process with {threads} threads. The limit is the processor's "
    )
    text += "for fp32 multiply-adds"
    text += f", {number(part['limit'] / 1e9)} GFLOP/s.\n" if part["limit"] else ", which could not be measured.\n"
    text += (
        f"\n`axion train` of {effort['layouts_size']} with Muon on these {threads} threads, spread over processes:\n\n"
    )
    text += "| | processes | fsdp_size | ep_size | tokens per second | memory of the largest process, GB |\n"
    text += "| --- | ---: | ---: | ---: | ---: | ---: |\n"
    for row in part["layouts"]:
        cells = [row["name"], *(str(row[name]) for name in ("processes", "fsdp_size", "ep_size"))]
        speed = number(row["tokens_per_second"])
        text += f"| {' | '.join(cells)} | {speed} | {row['peak_bytes'] / 1e9:.2f} |\n"
    for line in part["left_out"]:
        text += f"\nNot measured: {line}.\n"
    return f"{text}\n{describe_machine(report, ('torch', 'transformers'))}\n"


def estimates_block(given: Assumptions) -> str:
    """The estimates and their assumptions as Markdown."""
    text = (
        f"**Estimates, not measurements.** Assumed: {given.gpu} with {number(given.peak)} TFLOP/s in bf16; training "
        f"reaches {100 * given.share:.0f}% of this on one GPU, and {100 * given.efficiency:.0f}% of that per GPU on "
        f"several; {number(given.tokens_per_parameter)} training tokens per parameter; ${given.price:.2f} per GPU and "
        f"hour. Memory is that of weights, gradients and AdamW's moments in fp32, {BYTES_PER_PARAMETER} bytes per "
        "parameter, sharded over all GPUs; activations come on top.\n\n"
    )
    text += "| model | tokens | GPUs | tokens per second | hours | cost | memory per GPU, GB |\n"
    text += "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    for size in ESTIMATED:
        for gpus in GPUS:
            row = estimate(size, gpus, given)
            cells = [size, f"{row['tokens'] / 1e9:.1f} billion", str(gpus), number(row["tokens_per_second"])]
            cells += [number(row["hours"]), f"${number(row['dollars'])}", f"{row['state_bytes'] / 1e9:.2f}"]
            text += f"| {' | '.join(cells)} |\n"
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures or reads the figures, prints the blocks, and with --docs writes them."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--docs", action="store_true", help=f"write docs/{PAGE} and docs/scaling.json")
    parser.add_argument("--estimates", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures are meaningless")
    defaults = Assumptions()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args(arguments)
    if options.quick and options.docs:
        parser.error("--quick cannot be combined with --docs: its figures are meaningless")
    given = Assumptions(**{name: getattr(options, name) for name in asdict(defaults)})
    blocks = {"estimates": estimates_block(given)}
    if not options.estimates:
        effort = QUICK if options.quick else Effort()
        report = build_report([], scaling=measure(effort, lambda line: print(line, file=sys.stderr)))
        blocks["scaling"] = measured_block(report)
        if options.docs:
            write_json(DOCS / "scaling.json", report)
    for name, block in blocks.items():
        print(block)
        if options.docs:
            write_block(PAGE, name, block)


if __name__ == "__main__":
    main()
