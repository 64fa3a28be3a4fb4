"""What was measured on each processor: one JSON file for each in benchmarks/results/, from which the tables are made.

A run replaces the file of its own processor and leaves the others, so the tables have a column for each.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.report import write_json

FOLDER = Path(__file__).parent / "results"


def title(machine: Mapping) -> str:
    """What the tables call a machine: "AMD EPYC, 2 cores"."""
    name = re.sub(r"\((R|TM|C)\)|\b(Processor|CPU)\b", "", machine["processor"])
    cores = machine["cores"]
    return f"{' '.join(name.split())}, {cores} core{'s' * (cores != 1)}"


def file_of(machine: Mapping) -> Path:
    """The file of a machine's results: amd-epyc-2-cores.json."""
    return FOLDER / f"{re.sub(r'[^a-z0-9]+', '-', title(machine).lower()).strip('-')}.json"


def read_results(folder: Path = FOLDER) -> dict[str, dict]:
    """Title → the results of each processor, the latest last."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    reports.sort(key=lambda report: report["measured"])
    return {title(report["machine"]): report for report in reports}


def save_results(report: Mapping) -> None:
    """Replace what was measured on this processor before."""
    write_json(file_of(report["machine"]), report)
