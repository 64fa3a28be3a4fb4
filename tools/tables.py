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


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    text = replace_block(README.read_text(encoding="utf-8"), "results", results_block(read(RELEASE / "release.json")))
    README.write_text(replace_block(text, "own-text", own_text.readme_block(read(own_text.FILE))), encoding="utf-8")
    performance.write_page(read(DOCS / "performance.json"))
    for name, block_of in DOCS_BLOCKS.items():
        write_block("playground.md", name, block_of(read(DOCS / f"{name}.json")))


if __name__ == "__main__":
    main()
