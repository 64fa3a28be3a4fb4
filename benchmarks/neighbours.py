"""Speed beside other programs: training, writing and reading with none, one and two busy processes on the machine.

A busy process computes without a pause on one core. Beside one, two threads share two cores with it and get two thirds
of them at best, beside two half of them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import decoding, training
from benchmarks.figures import Contender, Effort, Figure, figures_of, processor_table, ratios
from benchmarks.report import number
from benchmarks.sizes import make_release
from benchmarks.workers import Gone, Worker, interleave

SIZE = "v0.1"
COUNTS = (0, 1, 2)
"""Busy processes."""
AXION, TRANSFORMERS, LLAMA = "Axion", "transformers", "llama.cpp"
WORKS = {"step": "training", "decode": "writing", "prefill": "reading"}
"""What the contenders call a kind of work → its name here."""
SETTLE_SECONDS = 0.3
"""How long the scheduler gets to distribute new processes."""


def measure(effort: Effort, say: Callable[[str], None]) -> dict:
    """Measure Axion, transformers and llama.cpp beside busy processes.

    Returns:
        "figures": of kind "training 0" to "reading 2", from interleaved rounds; "rounds"; "left_out".
    """
    workers: dict[str, Worker] = {}
    answers: dict[tuple[str, str, int], list[dict]] = {}
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="axion-benchmark-") as folder, ExitStack() as stack:
        contenders, starts = prepare(Path(folder), effort)
        for name, start in starts.items():
            try:
                workers[name] = start()
                stack.callback(workers[name].close)
            except Gone as why:
                left_out.append(f"{name}: {why}")
        for one in range(effort.rounds):
            for count in COUNTS:
                with busy_processes(count):
                    found, gone = interleave(workers, list(WORKS), 1, effort.seconds / 2)
                for (name, kind), (answer,) in found.items():
                    answers.setdefault((name, kind, count), []).append(answer)
                for name, why in gone.items():
                    left_out.append(f"{name}: {why}")
                    workers.pop(name)
            say(f"beside busy processes: round {one + 1} of {effort.rounds}")
    figures = []
    for (name, kind, count), values in answers.items():
        if name in workers:  # the others lack rounds
            speeds = tuple(answer["tokens"] / answer["seconds"] for answer in values)
            who, peak = contenders[name], max(answer["peak_bytes"] for answer in values)
            figures.append(
                Figure(**asdict(who), size=SIZE, kind=f"{WORKS[kind]} {count}", values=speeds, peak_bytes=peak)
            )
    return {"figures": [asdict(figure) for figure in figures], "rounds": effort.rounds, "left_out": left_out}


def prepare(folder: Path, effort: Effort) -> tuple[dict[str, Contender], dict[str, Callable[[], Worker]]]:
    """The contenders and how each is started. Training uses all threads, generation one, as the stream does."""
    python = decoding.llama_python()
    folders = decoding.write_models(make_release(SIZE, folder / "release"), folder, bool(python))
    contenders, starts = {}, {}
    for name, group in (("axion-native", AXION), ("transformers", TRANSFORMERS)):
        contenders[f"{name} trains"] = who = Contender(name, group, effort.threads[-1])
        starts[f"{name} trains"] = lambda who=who: training.start(who, SIZE, effort)
    names = [("axion-native", AXION), ("transformers", TRANSFORMERS)] + ([("llama-f32", LLAMA)] if python else [])
    for name, group in names:
        contenders[f"{name} generates"] = who = Contender(name, group, 1)
        starts[f"{name} generates"] = lambda who=who: decoding.start(who, folders, python)
    return contenders, starts


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keeps so many cores busy inside the block."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def find(figures: Iterable[Figure], work: str, count: int, group: str) -> Figure | None:
    """The figure of a group's contender at a kind of work beside `count` busy processes."""
    return next((one for one in figures if (one.kind, one.group) == (f"{work} {count}", group)), None)


# --- Tables -----------------------------------------------------------------------------------------------------------


def tables(parts: Mapping[str, dict]) -> str:
    """A Markdown table: the speed alone, and the shares of it that are left beside one and two busy processes.

    Args:
        parts: processor → what `measure` returned there.
    """
    rows: dict[tuple, dict[str, str]] = {}
    for processor, figures in figures_of(parts).items():
        for work in WORKS.values():
            for alone in (figure for figure in figures if figure.kind == f"{work} 0"):
                beside = [find(figures, work, busy, alone.group) for busy in COUNTS[1:]]
                shares = [f"{median(ratios(one, alone)):.0%}" if one else "–" for one in beside]
                key = (work, alone.group, alone.threads)
                rows.setdefault(key, {})[processor] = ", ".join([number(alone.median), *shares])
    rounds = list(parts.values())[-1]["rounds"]
    text = f"{SIZE}, tokens per second alone, and the share that is left beside one and two busy processes, {rounds} "
    return f"{text}rounds:\n\n{processor_table(['work', '', 'threads'], rows, parts)}"
