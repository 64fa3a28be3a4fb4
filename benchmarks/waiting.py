"""How long threads should spin before they sleep: `python -m benchmarks.waiting [--quick] [--docs]`.

Training is measured with each setting of `GOMP_SPINCOUNT`, alone and beside busy processes, all in turn. This is the
measurement behind `axion.threads`; --docs writes its table into docs/performance.md.
"""

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict

from axion.errors import AxionError
from axion.threads import ROUNDS
from benchmarks.figures import FULL, QUICK, Effort, Figure, read_figures
from benchmarks.neighbours import COUNTS, SIZE, busy_processes
from benchmarks.report import build_report, describe_machine, write_docs
from benchmarks.workers import Worker, interleave

SPINS = ("0", "1000", ROUNDS, "5000", "10000", "300000")
"""Rounds of the loop in which a thread waits before it sleeps; the last one is the default of GCC's OpenMP library."""
TRAINERS = {"axion-native": "with the kernels", "axion-torch": "with PyTorch"}
BESIDE = {0: "alone", 1: "beside one busy process", 2: "beside two"}


def measure(effort: Effort, say: Callable[[str], None]) -> list[Figure]:
    """Tokens per second of every trainer, of kind "SPINS BUSY": so many rounds, beside so many busy processes."""
    values: dict[tuple[str, str, int], list[float]] = {}
    shape = ("--size", SIZE, "--batch", str(effort.batch), "--window", str(effort.window))
    threads = effort.threads[-1]
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in TRAINERS:
            for spins in SPINS:
                environment = {"GOMP_SPINCOUNT": spins}
                worker = Worker("benchmarks.trainers", name, *shape, threads=threads, environment=environment)
                stack.callback(worker.close)
                workers[f"{name} {spins}"] = worker
        for one in range(effort.rounds):
            for busy in COUNTS:
                with busy_processes(busy):
                    found, gone = interleave(workers, ["step"], 1, effort.seconds / 2)
                if gone:
                    name, why = gone.popitem()
                    raise AxionError(f"{name}: {why}")
                for (name, _), (answer,) in found.items():
                    trainer, spins = name.split()
                    values.setdefault((trainer, spins, busy), []).append(answer["tokens"] / answer["seconds"])
            say(f"round {one + 1} of {effort.rounds}")
    return [
        Figure(trainer, "waiting", threads, SIZE, f"{spins} {busy}", tuple(speeds))
        for (trainer, spins, busy), speeds in values.items()
    ]


def table(report: Mapping) -> str:
    """Markdown: the share of the speed alone with the library's default that each setting keeps."""
    speeds = {(figure.name, *figure.kind.split()): figure.median for figure in read_figures(report["figures"])}
    lines = [f"| training {SIZE} | | " + " | ".join(f"{int(spins):,}" for spins in SPINS) + " |"]
    lines.append("| --- | --- | " + " | ".join("---:" for _ in SPINS) + " |")
    for trainer, label in TRAINERS.items():
        for busy, beside in BESIDE.items():
            alone = speeds[trainer, SPINS[-1], "0"]
            shares = " | ".join(f"{speeds[trainer, spins, str(busy)] / alone:.2f}" for spins in SPINS)
            lines.append(f"| {label} | {beside} | {shares} |")
    rounds = len(report["figures"][0]["values"])
    text = f"Rounds of waiting → share of the speed alone with {int(SPINS[-1]):,}, the median of {rounds} rounds:\n\n"
    return text + "\n".join(lines) + f"\n\n{describe_machine(report, ['torch'])}\n"


def main() -> None:
    """Measure, print the table, and write it into the page if asked to."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test of a minute; its figures are meaningless")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    options = parser.parse_args()
    if options.quick and options.docs:
        parser.error("--quick cannot be combined with --docs: its figures are meaningless")
    try:
        figures = measure(QUICK if options.quick else FULL, print)
    except AxionError as error:
        raise SystemExit(f"benchmarks.waiting: {error}") from None
    report = build_report([], figures=[asdict(figure) for figure in figures])
    print(table(report))
    if options.docs:
        write_docs("performance.md", "waiting", report, table(report))


if __name__ == "__main__":
    main()
