"""What commands print for people: tables of documents, of experts, of results and of comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axion.evaluation.compare import Cell, Comparison, Figure
    from axion.inference.stream import Step
    from axion.model.shape_axion import AxionShape


def data_table(summary: dict, folder: Path) -> str:
    """Documents, tokens and bytes of both sides of the split, by source."""
    lines = [f"{'':<24}{'documents':>12}{'tokens':>12}{'bytes':>12}"]
    for split in ("train", "validation"):
        rows = [(split, summary[split])]
        rows += [(f"  {source}", counts) for source, counts in summary[split]["by_source"].items()]
        lines += [f"{n:<24}{c['documents']:>12,}{c['tokens']:>12,}{c['bytes']:>12,}" for n, c in rows]
    lines.append(f"dropped for held-out operand pairs: {summary['dropped_for_held_out_pairs']:,}")
    lines.append(f"written to {folder}")
    return "\n".join(lines)


MAX_TOKEN_ROWS = 40


def experts_table(config: AxionShape, steps: Sequence[Step]) -> str:
    """Each expert's share of the new tokens by layer, then the experts of each of the last `MAX_TOKEN_ROWS` tokens."""
    new = [step for step in steps if not step.is_prompt]
    if not new:
        return "\nno token was generated, so there is no routing to show"
    rows = new[0].routing.rows
    if not rows:
        return "\nthe model has no experts: every token passes through all of its weights"
    labels = [row.label(rows) for row in rows]
    experts, chosen = config.n_routed_experts, len(new[0].routing.experts[0])
    margin = max(10, *map(len, labels))
    lines = [
        "",
        f"experts that read the {len(new)} new tokens, {chosen} of {experts} a layer (fair: {chosen / experts:.0%})",
        " " * margin + "".join(f"{f'E{expert + 1}':>6}" for expert in range(experts)),
    ]
    for index, label in enumerate(labels):
        reads = [expert for step in new for expert in step.routing.experts[index]]
        shares = "".join(f"{reads.count(expert) / len(new):>6.0%}" for expert in range(experts))
        lines.append(f"{label:<{margin}}{shares}")
    width = max(3 * chosen, *map(len, labels)) + 2
    lines += [
        "",
        f"{'token':<14}{'p':>6}" + "".join(f"{label:>{width}}" for label in labels),
    ]
    for step in new[-MAX_TOKEN_ROWS:]:
        cells = (" ".join(f"E{expert + 1}" for expert in layer_experts) for layer_experts in step.routing.experts)
        text = json.dumps(step.text, ensure_ascii=False)[:13]
        lines.append(f"{text:<14}{step.probability:>6.2f}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)


def results_table(results: dict) -> str:
    """Measured results, and why others were not measured."""
    from axion.evaluation.results import result_rows, skipped_tasks

    rows = result_rows(results)
    label, value = (max((len(getattr(row, name)) for row in rows), default=0) for name in ("label", "value"))
    lines = [f"{row.label:{label}}  {row.value:>{value}}  {row.note}".rstrip() for row in rows]
    return "\n".join([*lines, *(f"{task}: skipped: {reason}" for task, reason in skipped_tasks(results).items())])


def comparison_table(comparison: Comparison) -> str:
    """A row for each figure, a column for each release; below it what the columns and the stars mean."""
    first = comparison.releases[0]
    rows = [["", "items", first, *(f"{name}, difference" for name in comparison.releases[1:])]]
    for figure in comparison.figures:
        items = "–" if figure.items is None else f"{figure.items:,}"
        rows.append([figure.label, items, *(_cell(cell, figure) for cell in figure.cells)])
    rows += [[other.label, "", *(value or "–" for value in other.values)] for other in comparison.others]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_explain(comparison)])


def _cell(cell: Cell | None, figure: Figure) -> str:
    """A figure with its interval, and its difference with that one's."""
    if cell is None:
        return "–"
    scale, decimals, unit = (100, 1, "%") if figure.is_share else (1, 3, "")

    def with_interval(value: float, interval: list[float] | None, sign: str, unit: str) -> str:
        shown = f"{scale * value:{sign}.{decimals}f}{unit}"
        if interval is None:
            return shown
        low, high = (f"{scale * bound:{sign}.{decimals}f}" for bound in interval)
        return f"{shown} ({low} to {high})"

    text = with_interval(cell.value, cell.interval, "", unit)
    if (difference := cell.difference) is not None:
        star = "*" if difference.significant else ""
        text += f"  {with_interval(difference.value, difference.interval, '+', '')}{star}"
    return text


def _explain(comparison: Comparison) -> list[str]:
    """What stands under a table of comparisons."""
    from axion.evaluation.compare import FEWEST_DIFFERING
    from axion.evaluation.intervals import RESAMPLES

    made = len(comparison.differences)
    lines = [
        f"Differences from {comparison.releases[0]}, those of shares in percentage points. Intervals are of 95%: of "
        f"differences by paired bootstrap over the items ({RESAMPLES:,} resamples), of shares Wilson's.",
        f"*: significant; the interval of the difference leaves out 0, and at least {FEWEST_DIFFERING} items differ.",
        f"{made:,} comparisons were made; if no release differed, chance alone would mark about {0.05 * made:.0f} of "
        f"them. {sum(each.significant for each in comparison.differences):,} are marked.",
    ]
    return [*lines, *(f"note: {note}" for note in comparison.notes)]
