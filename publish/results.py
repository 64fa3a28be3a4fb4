"""What `axion.evaluation` measured, in the two forms that a card needs: rows for people, model-index for the Hub."""

from dataclasses import dataclass

from huggingface_hub import EvalResult

LANGUAGES = {"en": "English", "pt": "Portuguese"}


@dataclass(frozen=True)
class Row:
    """One line of the card's table of results."""

    label: str
    value: str
    command: str


def skipped_tasks(results: dict) -> dict[str, str]:
    """Task → why it was not measured."""
    return {task: result["skipped"] for task, result in results.items() if "skipped" in result}


def measured(results: dict, task: str) -> dict | None:
    """A task's result; None where it was not measured."""
    result = results.get(task)
    return None if result is None or "skipped" in result else result


def result_rows(results: dict) -> list[Row]:
    """The table of results, one row per figure."""
    rows = []
    if loss := measured(results, "gsm8k_validation"):
        for key, unit in (("bits_per_byte", "bits per byte"), ("nats_per_token", "loss in nats per token")):
            rows.append(Row(f"GSM8K, held-out documents: {unit}", f"{loss[key]:.3f}", loss["command"]))
    if arithmetic := measured(results, "arithmetic"):
        for score in arithmetic["scores"]:
            label = f"sums and differences, {_digits(score['digits'])}, {LANGUAGES[score['language']]}"
            rows.append(Row(label, _score(score), arithmetic["command"]))
    if gsm8k := measured(results, "gsm8k_test"):
        rows.append(Row("GSM8K test set, exact match", _score(gsm8k), gsm8k["command"]))
    load = results["expert_load"]
    extremes = f"{load['together']['lowest']:.3f} to {load['together']['highest']:.3f}"
    rows.append(Row("load of an expert, times its fair share", extremes, load["command"]))
    return rows


def evaluation_results(info: dict) -> list[EvalResult]:
    """The model-index entries: everything measured that has a value the Hub can show."""
    results, entries = info["results"], []
    gsm8k = {"dataset_type": info["dataset"], "dataset_name": "GSM8K", "dataset_config": info["dataset_config"]}
    generation = {"task_type": "text-generation", "task_name": "Text Generation"}
    if info["dataset"] and (loss := measured(results, "gsm8k_validation")):
        held_out = generation | gsm8k | {"dataset_split": "train", "dataset_args": {"held_out": info["val_fraction"]}}
        for key, name in (("bits_per_byte", "Bits per byte"), ("nats_per_token", "Loss (nats per token)")):
            entries.append(EvalResult(**held_out, metric_type=key, metric_name=name, metric_value=round(loss[key], 4)))
    if info["dataset"] and (score := measured(results, "gsm8k_test")):
        test = generation | gsm8k | {"dataset_split": "test"}
        entries.append(EvalResult(**test, **_exact_match(score)))
    for score in (measured(results, "arithmetic") or {"scores": []})["scores"]:
        name = f"Axion arithmetic, {_digits(score['digits'])}, {LANGUAGES[score['language']]}"
        config = f"{score['digits']}-digit-{score['language']}"  # results of one data set and config are shown as one
        dataset = {"dataset_type": "axion-arithmetic", "dataset_name": name, "dataset_config": config}
        entries.append(EvalResult(**generation, **dataset, **_exact_match(score)))
    return entries


def _exact_match(score: dict) -> dict:
    return {"metric_type": "exact_match", "metric_name": "Exact match", "metric_value": round(score["accuracy"], 4)}


def _digits(digits: int) -> str:
    return f"{digits} digit" if digits == 1 else f"{digits} digits"


def _score(score: dict) -> str:
    low, high = score["interval"]
    return f"{score['accuracy']:.1%} ({score['correct']} of {score['total']}; {low:.1%} to {high:.1%})"
