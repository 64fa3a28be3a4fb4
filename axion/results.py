"""What `axion.evaluation` measured, laid out for people: one row per figure, the same for terminal, page and card."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = {"en": "English", "pt": "Portuguese"}
LOAD_SETS = {
    "together": "all of it together",
    "gsm8k_validation": "GSM8K's held-out problems",
    "arithmetic": "arithmetic",
}
"""The sets of documents over which the load of the experts is measured, `axion.evaluation`'s name → people's."""


@dataclass(frozen=True)
class Row:
    """One figure."""

    task: str
    label: str
    """What was measured."""
    value: str
    """The figure, with its unit where it has one."""
    note: str
    """What belongs to it: counts, interval, circumstances; may be empty."""
    command: str
    """What measures it again."""


def skipped_tasks(results: dict) -> dict[str, str]:
    """Task → why it was not measured."""
    return {task: result["skipped"] for task, result in results.items() if "skipped" in result}


def measured(results: dict, task: str) -> dict | None:
    """A task's result; None where it was not measured."""
    result = results.get(task)
    return None if result is None or "skipped" in result else result


def result_rows(results: dict) -> list[Row]:
    """The rows of every task that was measured.

    Raises:
        KeyError, TypeError, ValueError: the results are not in the form that `axion.evaluation` gives.
    """
    rows = []
    for task, lay_out in _LAYOUTS.items():
        if (result := measured(results, task)) is not None:
            rows += [Row(task, *cells, command=result.get("command", "")) for cells in lay_out(result)]
    return rows


def digits_label(digits: int) -> str:
    """1 digit, 2 digits."""
    return f"{digits} digit" if digits == 1 else f"{digits} digits"


def megabytes(count: float) -> str:
    """A number of bytes, in millions."""
    return f"{count / 1e6:,.1f} MB"


Cells = tuple[str, str, str]
"""Label, value, note."""


def _validation(result: dict) -> list[Cells]:
    label = "GSM8K, held-out problems"
    note = f"{result['documents']:,} problems, {result['tokens']:,} tokens predicted"
    return [
        (f"{label}: bits per byte", f"{result['bits_per_byte']:.3f}", note),
        (f"{label}: loss in nats per token", f"{result['nats_per_token']:.3f}", note),
    ]


def _arithmetic(result: dict) -> list[Cells]:
    return [
        (
            f"sums and differences, {digits_label(score['digits'])}, {LANGUAGES[score['language']]}",
            *_score(score),
        )
        for score in result["scores"]
    ]


def _gsm8k_test(result: dict) -> list[Cells]:
    return [("GSM8K test set, exact match", *_score(result))]


def _expert_load(result: dict) -> list[Cells]:
    sets = [(label, result[name]) for name, label in LOAD_SETS.items() if name in result]
    return [
        (
            f"load of an expert, times its fair share: {label}",
            f"{load['lowest']:.3f} to {load['highest']:.3f}",
            f"least to most used of {len(load['layers'])} layers with {len(load['layers'][0])} experts each",
        )
        for label, load in sets
    ]


def _speed(result: dict) -> list[Cells]:
    fastest = max(result["by_threads"], key=lambda run: run["decode_tokens_per_second"])
    machine, threads = result["machine"], fastest["threads"]
    note = f"{threads} {'thread' if threads == 1 else 'threads'}, {machine['processor']}"
    rows = [
        ("generation, one text at a time", f"{fastest['decode_tokens_per_second']:,.0f} tokens/s", note),
        ("reading a full window", f"{fastest['prefill_tokens_per_second']:,.0f} tokens/s", note),
    ]
    if memory := result["memory"]:
        libraries = f"{megabytes(memory['libraries_bytes'])} of it Python and its libraries"
        rows.append(("peak memory of a process that generates", megabytes(memory["peak_bytes"]), libraries))
    return rows


_LAYOUTS = {
    "gsm8k_validation": _validation,
    "arithmetic": _arithmetic,
    "gsm8k_test": _gsm8k_test,
    "expert_load": _expert_load,
    "speed": _speed,
}


def _score(score: dict) -> tuple[str, str]:
    low, high = score["interval"]
    counts = f"{score['correct']:,} of {score['total']:,}; 95% interval {low:.1%} to {high:.1%}"
    return f"{score['accuracy']:.1%}", counts
