"""Rewrites the generated tables from saved measurements: `python -m tools.tables`. Nothing is measured.

The README's results come from the bundled release's release.json, the tables in docs/ from the JSON files beside them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from axion.evaluation.results import result_rows
from axion.shipped import ROOT
from benchmarks import performance, playground, visitors
from benchmarks.report import DOCS, replace_block, write_block
from publish.markdown import code_block
from tools import own_text

README = ROOT / "README.md"
RELEASE = ROOT / "releases" / "axion1-v0.1"
DOCS_BLOCKS: dict[str, Callable[[dict], str]] = {"playground": playground.docs_block, "visitors": visitors.docs_block}
"""The generated blocks of docs/playground.md."""


def results_block(info: dict) -> str:
    """The README's lines about the measured results of a release.

    Args:
        info: the content of its release.json.
    """
    training = info["training"]
    millions, minutes = training["tokens"] / 1e6, training["seconds"] / 60
    rows = [f"| {row.label} | {row.value} | {row.note} |" for row in result_rows(info["results"])]
    return "\n".join(
        [
            "| measured | result | |",
            "| --- | ---: | --- |",
            *rows,
            "",
            f"It was trained on {millions:.1f} million tokens in {minutes:.0f} minutes on "
            f"{training['machine']['cores']} processor cores. The",
            "[model card](releases/axion1-v0.1/README.md) lists the command that reproduces each figure.",
            "",
        ]
    )


def teaching_block(report: dict) -> str:
    """The README's lines about the release that was taught to chat: its loss and its dialogues, as they are.

    Args:
        report: the content of docs/teaching.json, see `tools.teaching`.
    """
    nats, bits, counts = report["nats_per_token"], report["bits_per_byte"], report["conversations"]
    minutes, cores = report["seconds"] / 60, report["machine"]["cores"]
    sampling = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in report["sampling"].items())
    return "\n".join(
        [
            f"Measured on {report['date']} with `python -m tools.teaching`: `{report['base']}` was taught "
            f"{counts['train']:,} short",
            f"conversations in English and Portuguese, {report['training']['epochs']} epochs in {minutes:.1f} minutes "
            f"on {cores} processor cores. The loss",
            f"on {counts['validation']:,} held-out conversations fell from {nats['before']:.2f} to {nats['after']:.2f} "
            f"nats per token of the answers ({bits['before']:.2f} to",
            f"{bits['after']:.2f} bits per byte). Three fixed dialogues, unedited, sampled with {sampling}:",
            "",
            code_block("\n\n".join(map(_dialogue, report["dialogues"]))),
            "",
        ]
    )


def _dialogue(messages: list[dict[str, str]]) -> str:
    speakers = {"user": "you", "assistant": "model"}
    return "\n".join(f"{speakers[message['role']]}: {' '.join(message['content'].split())}" for message in messages)


def write_readme(name: str, block: str) -> None:
    """Writes a block between the README's markers of that name."""
    README.write_text(replace_block(README.read_text(encoding="utf-8"), name, block), encoding="utf-8")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    write_readme("results", results_block(read(RELEASE / "release.json")))
    write_readme("own-text", own_text.readme_block(read(own_text.FILE)))
    write_readme("teaching", teaching_block(read(DOCS / "teaching.json")))
    performance.write_page()
    for name, block_of in DOCS_BLOCKS.items():
        write_block("playground.md", name, block_of(read(DOCS / f"{name}.json")))


if __name__ == "__main__":
    main()
