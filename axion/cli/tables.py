"""What commands print for people: tables of documents, of experts and of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from axion.inference.stream import Step
    from axion.release import Release


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


def experts_table(release: Release, steps: Sequence[Step]) -> str:
    """Each expert's share of the new tokens by layer, then the experts of each of the last `MAX_TOKEN_ROWS` tokens."""
    new = [step for step in steps if not step.is_prompt]
    if not new:
        return "\nno token was generated, so there is no routing to show"
    config, rows = release.config, new[0].routing.rows
    if not rows:
        return "\nthe model has no experts: every token passes through all of its weights"
    labels = [row.label(rows) for row in rows]
    experts, chosen = config.n_routed_experts, config.num_experts_per_tok
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
