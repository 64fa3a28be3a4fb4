"""Training and generation speed: `python -m benchmarks.performance [--quick] [--only PART,…] [--docs]`.

Contenders run in separate processes and are measured in turn, in one run on one machine. The table of targets contains
only ratios. --docs keeps the figures in benchmarks/results/, in the file of this processor, and writes the tables of
docs/performance.md, which have a column for each processor. --only measures some parts and keeps this processor's
others.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from axion.errors import AxionError
from axion.kernels.backend import choose
from axion.machine import libraries, machine
from benchmarks import decoding, growth, neighbours, starting, training
from benchmarks.figures import FULL, QUICK, Effort, Figure, best, describe, processor_table, ratios, read_figures
from benchmarks.processors import file_of, read_results, save_results, title
from benchmarks.report import Row, build_report, number, write_block, write_json
from benchmarks.sizes import config_of

PARTS: dict[str, ModuleType] = {
    "training": training,
    "decoding": decoding,
    "neighbours": neighbours,
    "starting": starting,
    "growth": growth,
}
NAME = "performance"

BEST = "transformers' best, bf16 and compiled too"
TRAINING_TARGETS = {
    "v0.1": (BEST, training.ALL_PEERS, 3.0, 5.0),
    "M": (BEST, training.ALL_PEERS, 2.5, 5.0),
    "L": (BEST, training.ALL_PEERS, 2.2, 5.0),
    "dense": (BEST, training.ALL_PEERS, 2.5, None),
    "mini": ("Axion's PyTorch model at its best", training.OWN_PEERS, 2.5, None),
}
"""Size → the other side, its groups, the required ratio and the design goal."""

DECODING_TARGETS = {
    ("v0.1", "decode"): {decoding.TRANSFORMERS: (100, 150), decoding.LLAMA: (5, 8)},
    ("M", "decode"): {decoding.TRANSFORMERS: (35, 60), decoding.LLAMA: (2.7, 5)},
    ("L", "decode"): {decoding.TRANSFORMERS: (8, 25), decoding.LLAMA: (1, 2)},
    ("dense", "decode"): {decoding.TRANSFORMERS: (40, None), decoding.LLAMA: (3, None)},
    ("mini", "decode"): {decoding.TORCH: (40, None)},
    ("v0.1", "prefill"): {decoding.TRANSFORMERS: (3.5, 5), decoding.LLAMA: (7, 10)},
}
INT8_TARGET = 1.6
WHOLE_TARGET = (0.9, 0.97)
NEIGHBOUR_TARGETS = {1: 0.5, 2: 0.45}
"""Busy processes → the share of the speed alone that must be left beside them."""
REMOTE_TARGET = 1.0


def target_rows(parts: Mapping[str, Mapping]) -> Iterator[Row]:
    """The rows of the table of targets, for the parts that were measured."""
    if "training" in parts:
        yield from training_rows(parts["training"])
    if "decoding" in parts:
        yield from decoding_rows(read_figures(parts["decoding"]["figures"]))
    if "neighbours" in parts:
        yield from neighbour_rows(read_figures(parts["neighbours"]["figures"]))
    if "starting" in parts:
        yield from starting_rows(parts["starting"]["seconds"])


def training_rows(part: Mapping) -> Iterator[Row]:
    """Training compared with transformers at each size, and the complete command with a bare step."""
    figures = read_figures(part["figures"])
    most = max((figure.threads for figure in figures), default=1)
    for size, (which, groups, must, aim) in TRAINING_TARGETS.items():
        ours = best(figures, [training.NATIVE], size=size, threads=most)
        theirs = best(figures, groups, size=size, threads=most)
        yield from _row(f"training {size} ÷ {which}", ours, theirs, must, aim)
    whole = read_figures(part["whole"])
    ours, bare = best(whole, [training.WHOLE]), best(whole, ["bare step"])
    yield from _row("`axion train` v0.1 ÷ the bare step", ours, bare, *WHOLE_TARGET)


def decoding_rows(figures: list[Figure]) -> Iterator[Row]:
    """Generation and prefill compared with transformers and llama.cpp, and remote code with transformers' own."""
    words = {"decode": "generation", "prefill": "prefill of 512 tokens"}
    for (size, kind), targets in DECODING_TARGETS.items():
        ours = best(figures, [decoding.NATIVE, decoding.NATIVE_BF16], size=size, kind=kind)
        for group, (must, aim) in targets.items():
            theirs = best(figures, [group], size=size, kind=kind)
            yield from _row(f"{words[kind]} {size} ÷ {group}", ours, theirs, must, aim)
    ours = best(figures, [decoding.NATIVE_INT8], size="L", kind="decode")
    bf16 = best(figures, [decoding.NATIVE_BF16], size="L", kind="decode")
    yield from _row("generation L with int8 weights ÷ with bf16 weights", ours, bf16, INT8_TARGET)
    ours = best(figures, [decoding.REMOTE], size="v0.1", kind="decode")
    theirs = best(figures, [decoding.TRANSFORMERS], size="v0.1", kind="decode")
    yield from _row("`generate` v0.1 with Axion's code ÷ transformers' own", ours, theirs, REMOTE_TARGET)


def neighbour_rows(figures: list[Figure]) -> Iterator[Row]:
    """Each kind of work beside busy processes: compared with itself alone, and with the others beside as many."""
    for work in neighbours.WORKS.values():
        for count, must in NEIGHBOUR_TARGETS.items():
            beside = f"{work} v0.1 beside {count} busy process{'es' * (count > 1)}"
            if ours := neighbours.find(figures, work, count, neighbours.AXION):
                if alone := neighbours.find(figures, work, 0, neighbours.AXION):
                    yield Row(f"{beside} ÷ alone", ratios(ours, alone), "×", at_least=must)
                for group in (neighbours.TRANSFORMERS, neighbours.LLAMA):
                    if theirs := neighbours.find(figures, work, count, group):
                        yield Row(f"{beside} ÷ {group}", ratios(ours, theirs), "×")


def starting_rows(seconds: Mapping[str, list[float]]) -> Iterator[Row]:
    """How much sooner than with transformers the first token comes."""
    if starting.GENERATE in seconds and starting.TRANSFORMERS in seconds:
        pairs = zip(seconds[starting.TRANSFORMERS], seconds[starting.GENERATE], strict=True)
        shares = tuple(theirs / ours for theirs, ours in pairs)
        yield Row("the first token of `axion generate`, sooner than transformers' by", shares, "×")


def _row(what: str, ours: Figure | None, theirs: Figure | None, must: float, aim: float | None = None) -> Iterator[Row]:
    """No row if one of the two is missing; "left_out" says why."""
    if ours and theirs:
        who = f"{describe(ours)} ÷ {describe(theirs)}"
        yield Row(what, ratios(ours, theirs), "×", at_least=must, aim=aim, compared=who)


def blocks(results: Mapping[str, Mapping]) -> dict[str, str]:
    """The generated blocks of docs/performance.md: the name of its markers → its text.

    Args:
        results: processor → its report.
    """
    found = {NAME: targets_table(results) + "\n" + "".join(where(*each) for each in results.items())}
    for name, module in PARTS.items():
        parts = {processor: report["parts"][name] for processor, report in results.items() if name in report["parts"]}
        if parts:
            measured = "".join(
                f"{_left_out(processor, part)}{processor}: {part['measured']}.\n" for processor, part in parts.items()
            )
            found[name] = f"{module.tables(parts)}\n{measured}"
    return found


def targets_table(results: Mapping[str, Mapping]) -> str:
    """Markdown: a row for each target, a column for each processor, and which settings the ratios compare."""
    cells: dict[tuple, dict[str, str]] = {}
    compared: dict[tuple, dict[str, str]] = {}
    for processor, report in results.items():
        for row in target_rows(report["parts"]):
            low, high = (number(end(row.values)) for end in (min, max))
            verdict = f", {row.verdict}" if row.verdict else ""
            value = f"{number(row.median)} {row.unit} ({low} to {high}){verdict}"
            cells.setdefault((row.name, row.target), {})[processor] = value
            if row.compared:
                compared.setdefault((row.name,), {})[processor] = row.compared
    text = processor_table(["measured", "target"], cells, results)
    if compared:
        text += "\nThe fastest settings, which the ratios compare:\n\n" + processor_table(
            ["measured"], compared, results
        )
    return text


def write_page() -> None:
    """Write the generated blocks of docs/performance.md from what was measured on all processors."""
    for name, block in blocks(read_results()).items():
        write_block(f"{NAME}.md", name, block)


def where(processor: str, report: Mapping) -> str:
    """The processor, the backend, the versions and the date, in one line."""
    named = ("torch", "transformers", *(["llama-cpp-python"] if "llama-cpp-python" in report["libraries"] else []))
    versions = ", ".join(f"{name} {report['libraries'][name]}" for name in named)
    return f"- {processor}: {report['backend']}; {versions}; {report['measured'][:10]}.\n"


def _left_out(processor: str, part: Mapping) -> str:
    lines = [f"- {line}\n" for line in part["left_out"]]
    return f"Left out on {processor}:\n\n" + "".join(lines) + "\n" if lines else ""


def measure(effort: Effort, names: list[str], kept: Mapping[str, dict], keep: Callable[[dict], None]) -> dict:
    """Measure some parts and take the others from `kept`; returns the report.

    Args:
        keep: receives the report so far after each part, so that a later one that fails loses nothing.
    """
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {line}", flush=True)

    parts, report = dict(kept), {}
    for name in names:
        part = PARTS[name].measure(effort, say)
        parts[name] = {"measured": time.strftime("%Y-%m-%d"), "machine": machine()} | part
        ordered = {name: parts[name] for name in PARTS if name in parts}
        report = build_report([], backend=str(choose("auto", config_of("v0.1"), "training")), parts=ordered)
        del report["rows"]  # made from the parts wherever they are shown
        report["libraries"] = libraries() | llama_version()
        report |= {"minutes": round((time.monotonic() - start) / 60, 1), "quick": effort == QUICK}
        keep(report)
    return report


def llama_version() -> dict[str, str]:
    """The version of llama-cpp-python, if it is installed."""
    if not (python := decoding.llama_python()):
        return {}
    found = next(Path(python).parent.parent.glob("lib/python*/site-packages/llama_cpp_python-*.dist-info"), None)
    return {"llama-cpp-python": found.name.split("-")[1].removesuffix(".dist")} if found else {}


def main() -> None:
    """Measure, print the tables, and write the requested files."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few minutes")
    parser.add_argument("--only", metavar="PART,…", help=f"comma-separated parts of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--docs", action="store_true", help="keep the figures and write the tables of docs/")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}; the parts are {', '.join(PARTS)}")
    if options.quick and options.docs:
        parser.error("--quick cannot be combined with --docs: its figures are meaningless")
    kept = {}
    if options.docs and (path := file_of(machine())).is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))["parts"]
    keep = save_results if options.docs else lambda report: None
    try:
        report = measure(QUICK if options.quick else FULL, names, kept, keep)
    except AxionError as error:
        raise SystemExit(f"benchmarks.performance: {error}") from None
    print("\n" + "\n".join(blocks({title(report["machine"]): report}).values()))
    print(f"{title(report['machine'])}, {report['measured'][:10]}, {report['minutes']} minutes")
    if options.json:
        write_json(options.json, report)
    if options.docs:
        write_page()


if __name__ == "__main__":
    main()
