"""Preparation of a large text file: `python -m benchmarks.data FILE… [--gigabytes N] [--docs]`.

Writes a file of that size from the stories in FILE…, with other names and sentences in each copy, prepares an eighth of
it and all of it with `axion data`, and starts a run on what was prepared. --docs writes docs/data.json and the table of
docs/data.md, which explains it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from axion.shipped import ROOT
from benchmarks.report import Row, build_report, describe_machine, to_markdown, write_docs, write_json

NAME = "data"
SEPARATOR = "<|endoftext|>"
NAMES = ("Lily", "Tom", "Ben", "Anna", "Max", "Sue", "Tim", "Mia", "Sam", "Zoe")
VOCABULARY = 4096

SECONDS, GROWTH, FIRST_STEP = 240, 100, 20
"""Targets: for preparing 2 GB on two cores, for the memory that eight times the text adds in MB, for the first step."""

POLL_SECONDS = 0.2


def variations(stories: Sequence[str], size: int, seed: int = 0) -> Iterator[str]:
    """Stories with other names, one sentence of another story and a number, each with a separator, `size` bytes."""
    rng, written = random.Random(seed), 0
    while written < size:
        one, other = rng.sample(NAMES, 2)
        sentences = rng.choice(stories).replace(one, other).split(". ")
        sentences[rng.randrange(len(sentences))] = rng.choice(rng.choice(stories).split(". "))
        text = f"{'. '.join(sentences)} It was day {rng.randrange(10**6)}.\n{SEPARATOR}\n"
        written += len(text.encode())
        yield text


def read_stories(files: Sequence[Path]) -> list[str]:
    """The stories of files, which are cut at separators, or else into pieces of about 2,000 characters."""
    stories = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        pieces = text.split(SEPARATOR) if SEPARATOR in text else _pieces(text.split("\n\n"))
        stories += [piece.strip() for piece in pieces if piece.strip()]
    return stories


def _pieces(paragraphs: Sequence[str], characters: int = 2000) -> Iterator[str]:
    piece = ""
    for paragraph in paragraphs:
        piece += f"{paragraph}\n\n"
        if len(piece) >= characters:
            yield piece
            piece = ""
    yield piece


@dataclass(frozen=True)
class Watched:
    """What a command took."""

    seconds: float
    """Until it ended, or until the file appeared that was waited for."""
    peak_mb: float
    """Memory of all its processes together, at its highest; what they share counts once."""


def watch(command: Sequence[str], until: Path | None = None) -> Watched:
    """Runs a command. Raises SystemExit with its output where it fails."""
    start, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as output:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        found = None
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            if found is None and until is not None and until.is_file() and until.read_text().count("\n") > 1:
                found = time.monotonic() - start
            time.sleep(POLL_SECONDS)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read()[-2000:]}")
    return Watched(found or time.monotonic() - start, peak)


def _memory(pid: int) -> float:
    """Proportional set size of a process and its children, in MB."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:  # one has just ended
        return 0
    return total / 1e6


def measure(files: Sequence[Path], gigabytes: float, folder: Path) -> dict:
    """Writes, prepares and trains in an empty folder; the report."""
    stories = read_stories(files)
    prepared = {}
    for name, share in (("eighth", 1 / 8), ("whole", 1)):
        path = folder / f"{name}.txt"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(variations(stories, int(gigabytes * 1e9 * share)))
        print(f"{path.stat().st_size / 1e6:,.0f} MB of text", flush=True)
        options = [
            *("--set", f"data.sources=[{{kind: text, files: {path}}}]"),
            *("--set", f"tokenizer.vocab_size={VOCABULARY}", "--set", "data.holdout_fraction=0"),
        ]
        prepared[name] = watch([sys.executable, "-m", "axion", "data", "axion1-v0.1", *options])
        print(f"prepared: {prepared[name]}", flush=True)
    run = folder / "run"
    started = watch(
        [
            *(sys.executable, "-m", "axion", "train", "axion1-v0.1", *options, "--out", str(run)),
            *("--set", "training.max_steps=3"),
        ],
        until=run / "metrics.csv",
    )
    whole, size = prepared["whole"], path.stat().st_size / 1e6
    rows = [
        Row("preparation", (whole.seconds,), "s", at_most=SECONDS * gigabytes / 2),
        Row("text per second", (size / whole.seconds,), "MB/s"),
        Row("peak memory", (whole.peak_mb,), "MB"),
        Row("peak memory, an eighth of the text", (prepared["eighth"].peak_mb,), "MB"),
        Row("growth of the memory", (whole.peak_mb - prepared["eighth"].peak_mb,), "MB", at_most=GROWTH),
        Row("`train` on prepared data, until its first step is logged", (started.seconds,), "s", at_most=FIRST_STEP),
    ]
    return build_report(rows, megabytes=round(size), documents=_documents(folder / "data"))


def _documents(root: Path) -> int:
    """The number of training documents of the largest prepared data."""
    summaries = (json.loads(path.read_text(encoding="utf-8")) for path in root.glob("*/data.json"))
    return max(summary["train"]["documents"] for summary in summaries)


def block(report: dict) -> str:
    """What stands between the markers of docs/data.md."""
    rows = [Row(**{**row, "values": tuple(row["values"])}) for row in report["rows"]]
    text = f"{report['megabytes']:,} MB of text, {report['documents']:,} documents."
    return f"{to_markdown(rows)}\n{text}\n{describe_machine(report, ('tokenizers', 'torch'))}\n"


def main() -> None:
    """Measure, print the table, and write the requested files."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text to make the large file from")
    parser.add_argument("--gigabytes", type=float, default=2, help="size of the file; 2 by default")
    parser.add_argument("--folder", type=Path, help="where to write four times as much; a temporary folder by default")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/")
    options = parser.parse_args()
    files = [file.resolve() for file in options.files]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.chdir(folder)
        report = measure(files, options.gigabytes, Path(folder))
        os.chdir("/")
    print("\n" + block(report))
    if options.json:
        write_json(options.json, report)
    if options.docs:
        write_docs("data.md", NAME, report, block(report))


if __name__ == "__main__":
    main()
