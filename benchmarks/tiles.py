"""The effect of each tuning choice in the training kernels: `python -m benchmarks.tiles [--docs]`.

Every variant changes one line of the source, is compiled separately and runs in its own process, in turn with the
unchanged kernels. Figures are relative to the unchanged kernels. `--docs` writes the table into
axion/kernels/README.md.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from axion.errors import AxionError
from axion.kernels import build
from axion.kernels.blocks import use_kernels
from axion.machine import keep_freed_memory
from benchmarks.report import Row, build_report, describe_machine, to_markdown, write_block
from benchmarks.sizes import CONTEXT, build_model
from benchmarks.workers import Done, Gone, Work, Worker, interleave, serve, timed

README = "../axion/kernels/README.md"
AS_IT_IS = "as it is"
SIZES = ("v0.1", "L")


@dataclass(frozen=True)
class Variant:
    """A change of one line in one file."""

    file: str
    line: str
    instead: str


def _constant(file: str, name: str, chosen: str, *others: str) -> dict[str, Variant]:
    line = f"constexpr int {name} = {{}};"
    variants = {other: Variant(file, line.format(chosen), line.format(other)) for other in others}
    return {f"{file}: {name} = {other}": variant for other, variant in variants.items()}


VARIANTS: dict[str, Variant | None] = {
    AS_IT_IS: None,
    **_constant("attention.h", "kQueryVectors", "3", "1", "2", "4"),
    **_constant("attention.h", "kKeys", "4 * kLanes", "kLanes", "2 * kLanes", "8 * kLanes"),
    **_constant("mixture_block.cpp", "kChunk", "256", "64", "128", "1024"),
    **_constant("attention_block.h", "kBlock", "64", "16", "256"),
    **_constant("head.cpp", "kBlock", "std::min(std::max(kMostLogits / kVocabularyRow, 64), 256)", "64", "256"),
    "matrix.cpp: no copies": Variant(
        "matrix.cpp", "constexpr int kRowsWorthPacking = 96;", "constexpr int kRowsWorthPacking = 1 << 30;"
    ),
    "tiles of 2 vectors": Variant("tiles.h", "constexpr int kTileVectors = 4;", "constexpr int kTileVectors = 2;"),
    "tiles of 3 rows": Variant("tiles.h", "vectors >= 4 ? 6", "vectors >= 4 ? 3"),
    "memory given back": None,
}
"""The variants by name; the last one changes only the allocator's settings."""


def main() -> None:
    """Measure all variants, or run as the worker of one."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("variant", nargs="?", choices=VARIANTS)
    parser.add_argument("--size", choices=SIZES, default=SIZES[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--docs", action="store_true", help="write the table into axion/kernels/README.md")
    options = parser.parse_args()
    if options.variant:
        return serve(lambda: prepare(options))
    rows = [row for size in SIZES for row in measure(size, options)]
    report = build_report(rows)
    block = f"{describe_machine(report, ('torch',))}\n\n{to_markdown(rows)}"
    print(block)
    if options.docs:
        write_block(README, "tiles", f"\n{block}\n")
    return None


def measure(size: str, options: argparse.Namespace) -> list[Row]:
    """Each variant's speed relative to the unchanged kernels, at one size."""
    workers = {}
    for name in VARIANTS:
        print(f"{size}: {name}", file=sys.stderr)
        try:
            workers[name] = Worker("benchmarks.tiles", name, "--size", size, threads=options.threads)
        except Gone as why:
            print(f"left out: {why}", file=sys.stderr)
    try:
        answers, _ = interleave(workers, ["pass"], options.rounds, options.seconds)
    finally:
        for worker in workers.values():
            worker.close()
    speeds = {name: [each["tokens"] / each["seconds"] for each in of_one] for (name, _), of_one in answers.items()}
    usual = speeds.pop(AS_IT_IS)
    rows = [Row(f"{size}, {AS_IT_IS}", tuple(usual), "tokens/s")]
    for name, of_one in speeds.items():
        ratios = tuple(speed / as_it_is for speed, as_it_is in zip(of_one, usual, strict=True))
        rows.append(Row(f"{size}, {name}", ratios, "×"))
    return rows


def prepare(options: argparse.Namespace) -> tuple[dict[str, Work], dict]:
    """The worker's one kind of work: a forward and backward pass over 8 windows."""
    torch.set_num_threads(options.threads)
    if options.variant != "memory given back":
        keep_freed_memory()
    model = build_model(options.size)
    variant = VARIANTS[options.variant]
    with tempfile.TemporaryDirectory() as folder:
        if variant is not None:
            build.SOURCES = rewrite(variant, Path(folder))
        use_kernels(model)
    ids = torch.randint(model.config.vocab_size, (8, CONTEXT), generator=torch.Generator().manual_seed(1))

    def step() -> None:
        model(ids, labels=ids, use_cache=False).loss.backward()
        model.zero_grad()

    step()

    def work() -> Done:
        return timed(step, ids.numel())

    return {"pass": work}, {"kinds": ["pass"]}


def rewrite(variant: Variant, folder: Path) -> Path:
    """Copy the sources into `folder` with the variant's line.

    Raises:
        AxionError: the source no longer has the line.
    """
    sources = folder / "csrc"
    shutil.copytree(build.SOURCES, sources)
    path = sources / "training" / variant.file
    text = path.read_text(encoding="utf-8")
    if variant.line not in text:
        raise AxionError(f"{variant.file} has no {variant.line!r}; update benchmarks/tiles.py")
    path.write_text(text.replace(variant.line, variant.instead), encoding="utf-8")
    return sources


if __name__ == "__main__":
    main()
