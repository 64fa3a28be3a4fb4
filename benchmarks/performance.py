"""How fast Axion trains and writes: `python -m benchmarks.performance [--quick] [--only PART,…] [--docs]`.

Whatever is compared is measured in turn in one run on one machine, each contender in a process of its own. The table of
targets has ratios alone; --docs writes docs/performance.json and the tables of docs/performance.md, which says how to
read them. --only measures a part and takes the others from docs/performance.json.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
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
    write_docs,
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
"""Size → who is compared with, what must be reached, what is aimed for."""

DECODING_TARGETS = {
    ("v0.1", "decode"): {decoding.TRANSFORMERS: (100, 150), decoding.LLAMA: (5, 8)},
    ("M", "decode"): {decoding.TRANSFORMERS: (35, 60), decoding.LLAMA: (2.7, 5)},
    ("L", "decode"): {decoding.TRANSFORMERS: (8, 25), decoding.LLAMA: (1, 2)},
    ("v0.1", "prefill"): {decoding.TRANSFORMERS: (3.5, 5), decoding.LLAMA: (7, 10)},
}
WHOLE_TARGET = (0.9, 0.97)
REMOTE_TARGET = (1.0, 1.3)


def target_rows(parts: Mapping[str, Mapping]) -> Iterator[Row]:
    """The rows of the table of targets, for whatever was measured."""
    if "training" in parts:
        yield from training_rows(parts["training"])
    if "decoding" in parts:
        yield from decoding_rows(read_figures(parts["decoding"]["figures"]))


def training_rows(part: Mapping) -> Iterator[Row]:
    """Training beside transformers at each size, and the whole command beside its bare step."""
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
    """Writing and reading beside transformers and llama.cpp, and remote code beside transformers' own."""
    words = {"decode": "writing", "prefill": "reading 512 tokens"}
    for (size, kind), targets in DECODING_TARGETS.items():
        ours = best(figures, [decoding.NATIVE, decoding.NATIVE_BF16], size=size, kind=kind)
        for group, (must, aim) in targets.items():
            theirs = best(figures, [group], size=size, kind=kind)
            yield from _row(f"{words[kind]} {size} ÷ {group}", ours, theirs, must, aim)
    ours = best(figures, [decoding.REMOTE], size="v0.1", kind="decode")
    theirs = best(figures, [decoding.TRANSFORMERS], size="v0.1", kind="decode")
    yield from _row("`generate` v0.1 with Axion's code ÷ transformers' own", ours, theirs, *REMOTE_TARGET)


def _row(what: str, ours: Figure | None, theirs: Figure | None, must: float, aim: float) -> Iterator[Row]:
    """None where one of the two is missing: the list of what was left out says why."""
    if ours and theirs:
        who = f"{describe(ours)} ÷ {describe(theirs)}"
        yield Row(f"{what} ({who})", ratios(ours, theirs), "×", at_least=must, aim=aim)


def blocks(report: Mapping) -> dict[str, str]:
    """What docs/performance.md has between its marks: the marks' name → the lines."""
    found = {NAME: to_markdown(list(target_rows(report["parts"]))) + "\n" + where(report)}
    for name, part in report["parts"].items():
        found[name] = f"{PARTS[name].tables(part)}\n{_left_out(part)}{describe_machine(part, ())}\n"
    return found


def where(report: Mapping) -> str:
    """The machine, the versions, and what was left out."""
    named = ("torch", "transformers", *(["llama-cpp-python"] if "llama-cpp-python" in report["libraries"] else []))
    return f"{report['backend']}.\n{describe_machine(report, named)}\n"


def _left_out(part: Mapping) -> str:
    lines = [f"- {line}\n" for line in part["left_out"]]
    return "Left out:\n\n" + "".join(lines) + "\n" if lines else ""


def measure(effort: Effort, names: list[str], kept: Mapping[str, dict]) -> dict:
    """The report, with some parts measured now and the others as they were kept."""
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {line}", flush=True)

    parts = dict(kept)
    for name in names:
        part = PARTS[name].measure(effort, say)
        parts[name] = {"measured": time.strftime("%Y-%m-%d"), "machine": machine()} | part
    ordered = {name: parts[name] for name in PARTS if name in parts}
    report = build_report(target_rows(ordered), backend=str(choose("auto", config_of("v0.1"))), parts=ordered)
    report["libraries"] = libraries() | llama_version()
    return report | {"minutes": round((time.monotonic() - start) / 60, 1), "quick": effort == QUICK}


def llama_version() -> dict[str, str]:
    """llama-cpp-python and its version, where it takes part."""
    if not (python := decoding.llama_python()):
        return {}
    found = next(Path(python).parent.parent.glob("lib/python*/site-packages/llama_cpp_python-*.dist-info"), None)
    return {"llama-cpp-python": found.name.split("-")[1].removesuffix(".dist")} if found else {}


def main() -> None:
    """Measure, print the tables, and write what was asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes, to see that everything runs")
    parser.add_argument("--only", metavar="PART,…", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}; the parts are {', '.join(PARTS)}")
    if options.quick and options.docs:
        parser.error("--quick measures too little for docs/")
    kept = {}
    if options.only and options.docs and (path := DOCS / f"{NAME}.json").is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))["parts"]
    try:
        report = measure(QUICK if options.quick else FULL, names, kept)
    except AxionError as error:
        raise SystemExit(f"benchmarks.performance: {error}") from None
    found = blocks(report)
    print("\n" + "\n".join(found.values()))
    if options.json:
        write_json(options.json, report)
    if options.docs:
        write_docs(f"{NAME}.md", NAME, report, found.pop(NAME))
        for name, block in found.items():
            write_block(f"{NAME}.md", name, block)


if __name__ == "__main__":
    main()
