"""Benchmark reports: rows of measured values with their targets, as JSON and as a Markdown table."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from axion.machine import libraries, machine
from axion.shipped import ROOT

DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    values: tuple[float, ...]
    """One per repetition."""
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    """The median's target; rows without one are only context for others."""
    aim: float | None = None
    """The design goal beyond `at_least`."""
    compared: str = ""
    """Which contenders a ratio compares."""

    @property
    def median(self) -> float:
        """The median of the values."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches its target; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    @property
    def verdict(self) -> str:
        """Whether the target or the aim is reached, in words; empty without a target."""
        if self.aim and self.median >= self.aim:
            return "aim met"
        return {None: "", True: "met", False: "**missed**"}[self.met]

    @property
    def target(self) -> str:
        """The target as text; empty without one."""
        if self.at_least is not None:
            return f"≥ {number(self.at_least)}" + (f", aim {number(self.aim)}" if self.aim else "")
        return "" if self.at_most is None else f"≤ {number(self.at_most)}"


def build_report(rows: Iterable[Row], **more: object) -> dict:
    """The rows and what they were measured on; `more` holds the benchmark's own entries."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "libraries": libraries() | {"gradio": version("gradio")},
        **more,
        "rows": [asdict(row) for row in rows],
    }


def read_rows(report: Mapping) -> list[Row]:
    """The rows of a report read from JSON."""
    return [Row(**{**row, "values": tuple(row["values"])}) for row in report["rows"]]


def to_markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: median, lowest and highest value, target."""
    lines = ["| measured | median | lowest to highest | target | |", "| --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        low, high = (number(end(row.values)) for end in (min, max))
        value = f"{number(row.median)} {row.unit}".strip()
        lines.append(f"| {row.name} | {value} | {low} to {high} | {row.target} | {row.verdict} |")
    return "\n".join(lines) + "\n"


def describe_machine(report: Mapping, libraries: Sequence[str] = ("gradio", "torch")) -> str:
    """One line: processor, cores, versions, date."""
    where = report["machine"]
    versions = "".join(f", {name} {report['libraries'][name]}" for name in libraries).lstrip(",")
    return f"{where['processor']}, {where['cores']} cores;{versions and versions + ';'} {report['measured'][:10]}."


def write_json(path: Path, report: Mapping) -> None:
    """Write the report as indented JSON."""
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_docs(page: str, name: str, report: Mapping, block: str) -> None:
    """Write the report to docs/<name>.json and `block` between the markers of that name in docs/<page>."""
    write_json(DOCS / f"{name}.json", report)
    write_block(page, name, block)


def write_block(page: str, name: str, block: str) -> None:
    """Write `block` between the markers of that name in docs/<page>."""
    path = DOCS / page
    path.write_text(replace_block(path.read_text(encoding="utf-8"), name, block), encoding="utf-8")


def replace_block(text: str, name: str, block: str) -> str:
    """Replace what is between the lines `<!-- name:start -->` and `<!-- name:end -->` with `block`."""
    between = re.compile(rf"(?<=<!-- {name}:start -->\n).*?(?=<!-- {name}:end -->)", re.DOTALL)
    return between.sub(lambda _: block, text)


def number(value: float) -> str:
    """Format with three significant digits."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
