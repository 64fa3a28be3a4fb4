"""Writes the table of results between the README's markers, from the bundled release's own release.json.

python -m tools.tables
"""

import json
import re
from pathlib import Path

from axion.evaluation.results import result_rows

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "releases" / "axion1-v0.1"
BLOCK = re.compile(r"(?<=<!-- results:start -->\n).*?(?=<!-- results:end -->)", re.DOTALL)


def results_block(info: dict) -> str:
    """The README's lines on what a release was measured to do."""
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


def main() -> None:
    readme = ROOT / "README.md"
    info = json.loads((RELEASE / "release.json").read_text(encoding="utf-8"))
    text = BLOCK.sub(lambda _: results_block(info), readme.read_text(encoding="utf-8"))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
