"""Training and generation speed: `python -m benchmarks.performance [--quick] [--only PART,…] [--docs]`.

Contenders run in separate processes and are measured in turn, in one run on one machine. The table of targets contains
only ratios. --docs writes docs/performance.json and the tables of docs/performance.md, which explains them. --only
measures some parts and keeps the others from docs/performance.json.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

from axion.errors import AxionError
from axion.kernels.backend import choose
from axion.machine import libraries, machine
from benchmarks import decoding, growth, training
from benchmarks.figures import FULL, QUICK, Effort, Figure, best, describe, ratios, read_figures
from benchmarks.report import (
    DOCS,
    Row,
    build_report,
    describe_machine,
    to_markdown,
    write_block,
    write_json,
)
from benchmarks.sizes import config_of

PARTS: dict[str, ModuleType] = {"training": training, "decoding": decoding, "growth": growth}
NAME = "performance"

TRAINING_TARGETS = {
    "v0.1": ("best in fp32", training.FP32_PEERS, 3.3, 5.0),
    "M": ("best, bf16 and compiled too", training.ALL_PEERS, 2.2, 3.0),
    "L": ("best, bf16 and compiled too", training.ALL_PEERS, 1.5, 2.5),
}
"""Size → the other side, its groups, the required ratio and the design goal."""

DECODING_TARGETS = {
    ("v0.1", "decode"): {decoding.TRANSFORMERS: (100, 150), decoding.LLAMA: (5, 8)},
    ("M", "decode"): {decoding.TRANSFORMERS: (35, 60), decoding.LLAMA: (2.7, 5)},
    ("L", "decode"): {decoding.TRANSFORMERS: (8, 25), decoding.LLAMA: (1, 2)},
    ("v0.1", "prefill"): {decoding.TRANSFORMERS: (3.5, 5), decoding.LLAMA: (7, 10)},
}
WHOLE_TARGET = (0.9, 0.97)
REMOTE_TARGET = 1.0


def target_rows(parts: Mapping[str, Mapping]) -> Iterator[Row]:
    """The rows of the table of targets, for the parts that were measured."""
    if "training" in parts:
        yield from training_rows(parts["training"])
    if "decoding" in parts:
        yield from decoding_rows(read_figures(parts["decoding"]["figures"]))


def training_rows(part: Mapping) -> Iterator[Row]:
    """Training compared with transformers at each size, and the complete command with a bare step."""
    figures = read_figures(part["figures"])
    most = max((figure.threads for figure in figures), default=1)
    for size, (which, groups, must, aim) in TRAINING_TARGETS.items():
        ours = best(figures, [training.NATIVE], size=size, threads=most)
        theirs = best(figures, groups, size=size, threads=most)
        yield from _row(f"training {size} ÷ transformers' {which}", ours, theirs, must, aim)
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
    ours = best(figures, [decoding.REMOTE], size="v0.1", kind="decode")
    theirs = best(figures, [decoding.TRANSFORMERS], size="v0.1", kind="decode")
    yield from _row("`generate` v0.1 with Axion's code ÷ transformers' own", ours, theirs, REMOTE_TARGET)


def _row(what: str, ours: Figure | None, theirs: Figure | None, must: float, aim: float | None = None) -> Iterator[Row]:
    """No row if one of the two is missing; "left_out" says why."""
    if ours and theirs:
        who = f"{describe(ours)} ÷ {describe(theirs)}"
        yield Row(f"{what} ({who})", ratios(ours, theirs), "×", at_least=must, aim=aim)


def blocks(report: Mapping) -> dict[str, str]:
    """The generated blocks of docs/performance.md: the name of its markers → its text."""
    found = {NAME: to_markdown(list(target_rows(report["parts"]))) + "\n" + where(report)}
    for name, part in report["parts"].items():
        found[name] = f"{PARTS[name].tables(part)}\n{_left_out(part)}{describe_machine(part, ())}\n"
    return found


def write_page(report: Mapping) -> None:
    """Write docs/performance.json and the generated blocks of docs/performance.md; targets are applied anew."""
    report = {**report, "rows": [asdict(row) for row in target_rows(report["parts"])]}
    write_json(DOCS / f"{NAME}.json", report)
    for name, block in blocks(report).items():
        write_block(f"{NAME}.md", name, block)


def where(report: Mapping) -> str:
    """The backend, the machine and the versions."""
    named = ("torch", "transformers", *(["llama-cpp-python"] if "llama-cpp-python" in report["libraries"] else []))
    return f"{report['backend']}.\n{describe_machine(report, named)}\n"


def _left_out(part: Mapping) -> str:
    lines = [f"- {line}\n" for line in part["left_out"]]
    return "Left out:\n\n" + "".join(lines) + "\n" if lines else ""


def measure(effort: Effort, names: list[str], kept: Mapping[str, dict]) -> dict:
    """Measure some parts and take the others from `kept`; returns the report."""
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {line}", flush=True)

    parts = dict(kept)
    for name in names:
        part = PARTS[name].measure(effort, say)
        parts[name] = {"measured": time.strftime("%Y-%m-%d"), "machine": machine()} | part
    ordered = {name: parts[name] for name in PARTS if name in parts}
    report = build_report(
        target_rows(ordered), backend=str(choose("auto", config_of("v0.1"), "training")), parts=ordered
    )
    report["libraries"] = libraries() | llama_version()
    return report | {"minutes": round((time.monotonic() - start) / 60, 1), "quick": effort == QUICK}


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
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}; the parts are {', '.join(PARTS)}")
    if options.quick and options.docs:
        parser.error("--quick cannot be combined with --docs: its figures are meaningless")
    kept = {}
    if options.only and options.docs and (path := DOCS / f"{NAME}.json").is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))["parts"]
    try:
        report = measure(QUICK if options.quick else FULL, names, kept)
    except AxionError as error:
        raise SystemExit(f"benchmarks.performance: {error}") from None
    print("\n" + "\n".join(blocks(report).values()))
    if options.json:
        write_json(options.json, report)
    if options.docs:
        write_page(report)


if __name__ == "__main__":
    main()
