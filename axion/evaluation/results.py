"""Measured results as rows of a table, the same for the terminal, the page and the model card."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = {"en": "English", "pt": "Portuguese"}
LOAD_SETS = {
    "together": "all of it together",
    "gsm8k_validation": "GSM8K's held-out problems",
    "arithmetic": "arithmetic",
}
"""The sets of documents over which expert load is measured: name in the results → label."""


@dataclass(frozen=True)
class Row:
    """One measured value."""

    task: str
    label: str
    """What was measured."""
    value: str
    """The value, with its unit where it has one."""
    note: str
    """Counts, interval or conditions of the measurement; may be empty."""
    command: str
    """The command that repeats the measurement."""


def skipped_tasks(results: dict) -> dict[str, str]:
    """Task → why it was not measured."""
    return {task: result["skipped"] for task, result in results.items() if "skipped" in result}


def measured(results: dict, task: str) -> dict | None:
    """A task's result; None if it was not measured."""
    result = results.get(task)
    return None if result is None or "skipped" in result else result


def result_rows(results: dict, language: str = "en") -> list[Row]:
    """The rows of all tasks that were measured, with labels and notes in English ("en") or Portuguese ("pt").

    Raises:
        KeyError, TypeError, ValueError: the results do not have the form that `axion.evaluation` returns.
    """
    rows, words = [], _WORDS[language]
    for task, lay_out in _LAYOUTS.items():
        if (result := measured(results, task)) is not None:
            rows += [Row(task, *cells, command=result.get("command", "")) for cells in lay_out(result, words)]
    return rows


def digits_label(digits: int) -> str:
    """For example "1 digit", "2 digits"."""
    return f"{digits} digit" if digits == 1 else f"{digits} digits"


def megabytes(count: float) -> str:
    """A number of bytes in megabytes."""
    return f"{count / 1e6:,.1f} MB"


Cells = tuple[str, str, str]
"""Label, value, note."""

_WORDS: dict[str, dict] = {
    "en": {
        "languages": LANGUAGES,
        "sets": LOAD_SETS,
        "digits": digits_label,
        "bits_per_byte": "GSM8K, held-out problems: bits per byte",
        "nats_per_token": "GSM8K, held-out problems: loss in nats per token",
        "validation_note": "{documents:,} problems, {tokens:,} tokens predicted",
        "sums": "sums and differences, {digits}, {language}",
        "gsm8k_test": "GSM8K test set, exact match",
        "score_note": "{correct:,} of {total:,}; 95% interval {low:.1%} to {high:.1%}",
        "load": "load of an expert, times its fair share: {set}",
        "load_value": "{lowest:.3f} to {highest:.3f}",
        "load_note": "least to most used of {layers} layers with {experts} experts each",
        "threads": "{threads} {thread}, {processor}",
        "thread": ("thread", "threads"),
        "decode": "generation, one text at a time",
        "prefill": "reading a full window",
        "memory": "peak memory of a process that generates",
        "memory_note": "{libraries} of it Python and its libraries",
    },
    "pt": {
        "languages": {"en": "inglês", "pt": "português"},
        "sets": {
            "together": "tudo em conjunto",
            "gsm8k_validation": "problemas de validação do GSM8K",
            "arithmetic": "aritmética",
        },
        "digits": lambda digits: f"{digits} {'algarismo' if digits == 1 else 'algarismos'}",
        "bits_per_byte": "GSM8K, problemas de validação: bits por byte",
        "nats_per_token": "GSM8K, problemas de validação: perda em nats por token",
        "validation_note": "{documents:,} problemas, {tokens:,} tokens previstos",
        "sums": "somas e diferenças, {digits}, {language}",
        "gsm8k_test": "conjunto de teste do GSM8K, resposta exata",
        "score_note": "{correct:,} de {total:,}; intervalo de 95% de {low:.1%} a {high:.1%}",
        "load": "carga de um especialista, vezes a sua parte justa: {set}",
        "load_value": "{lowest:.3f} a {highest:.3f}",
        "load_note": "do menos ao mais usado de {layers} camadas com {experts} especialistas cada",
        "threads": "{threads} {thread}, {processor}",
        "thread": ("thread", "threads"),
        "decode": "geração, um texto de cada vez",
        "prefill": "leitura de uma janela inteira",
        "memory": "máximo de memória de um processo que gera",
        "memory_note": "{libraries} disso são o Python e as suas bibliotecas",
    },
}


def _validation(result: dict, words: dict) -> list[Cells]:
    note = words["validation_note"].format(documents=result["documents"], tokens=result["tokens"])
    return [(words[figure], f"{result[figure]:.3f}", note) for figure in ("bits_per_byte", "nats_per_token")]


def _arithmetic(result: dict, words: dict) -> list[Cells]:
    return [
        (
            words["sums"].format(
                digits=words["digits"](score["digits"]), language=words["languages"][score["language"]]
            ),
            *_score(score, words),
        )
        for score in result["scores"]
    ]


def _gsm8k_test(result: dict, words: dict) -> list[Cells]:
    return [(words["gsm8k_test"], *_score(result, words))]


def _expert_load(result: dict, words: dict) -> list[Cells]:
    sets = [(label, result[name]) for name, label in words["sets"].items() if name in result]
    return [
        (
            words["load"].format(set=label),
            words["load_value"].format(lowest=load["lowest"], highest=load["highest"]),
            words["load_note"].format(layers=len(load["layers"]), experts=len(load["layers"][0])),
        )
        for label, load in sets
    ]


def _speed(result: dict, words: dict) -> list[Cells]:
    fastest = max(result["by_threads"], key=lambda run: run["decode_tokens_per_second"])
    machine, threads = result["machine"], fastest["threads"]
    one, several = words["thread"]
    note = words["threads"].format(
        threads=threads, thread=one if threads == 1 else several, processor=machine["processor"]
    )
    rows = [
        (words["decode"], f"{fastest['decode_tokens_per_second']:,.0f} tokens/s", note),
        (words["prefill"], f"{fastest['prefill_tokens_per_second']:,.0f} tokens/s", note),
    ]
    if memory := result["memory"]:
        libraries = words["memory_note"].format(libraries=megabytes(memory["libraries_bytes"]))
        rows.append((words["memory"], megabytes(memory["peak_bytes"]), libraries))
    return rows


_LAYOUTS = {
    "gsm8k_validation": _validation,
    "arithmetic": _arithmetic,
    "gsm8k_test": _gsm8k_test,
    "expert_load": _expert_load,
    "speed": _speed,
}


def _score(score: dict, words: dict) -> tuple[str, str]:
    low, high = score["interval"]
    counts = words["score_note"].format(correct=score["correct"], total=score["total"], low=low, high=high)
    return f"{score['accuracy']:.1%}", counts
