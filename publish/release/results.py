"""Evaluation results in the two formats of the Hub: a card's model-index, and `.eval_results`."""

from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from axion.evaluation.results import LANGUAGES, digits_label, measured

GSM8K, GSM8K_PROBLEMS = "openai/gsm8k", 1319
"""A benchmark that is registered on the Hub, and the size of its test set.

Its leaderboard collects the `.eval_results` of models.
"""


CHOICE_METRICS = (
    ("accuracy", "accuracy", "Accuracy"),
    ("bits_per_byte", "bits_per_byte", "Bits per byte of the right answers"),
)
"""Key in the results, and type and name of the metric, for tasks that choose among given texts."""
OWN_TASKS = {
    "phrasings": "arithmetic as people ask for it",
    "long_sums": "sums and differences of two to ten digits",
    "stories": "one-step stories",
    "events": "problems of several steps",
    "dialogues": "conversations",
}
"""Tasks of questions that Axion writes → what the entries call them."""


def evaluation_results(info: dict) -> list[EvalResult]:
    """The model-index entries: every measured result that the Hub can show."""
    results, entries = info["results"], []
    generation: dict[str, Any] = {"task_type": "text-generation", "task_name": "Text Generation"}

    def measured_on(result: dict, split: str) -> dict[str, Any]:
        config = info["dataset_config"] if result["dataset"] == info["dataset"] else None
        names = {"dataset_type": result["dataset"], "dataset_name": result["data"], "dataset_config": config}
        return generation | names | {"dataset_split": split}

    if (loss := measured(results, "validation")) and loss["dataset"]:
        held_out: dict[str, Any] = measured_on(loss, "train") | {"dataset_args": {"held_out": info["val_fraction"]}}
        for key, name in (("bits_per_byte", "Bits per byte"), ("nats_per_token", "Loss (nats per token)")):
            entries.append(EvalResult(**held_out, metric_type=key, metric_name=name, metric_value=round(loss[key], 4)))
    if (score := measured(results, "gsm8k_test")) and score["dataset"]:
        entries.append(EvalResult(**measured_on(score, "test"), **_exact_match(score)))
    if (score := measured(results, "gsm8k_majority")) and score["dataset"]:
        metric: dict[str, Any] = _exact_match(score) | {
            "metric_type": f"maj@{score['samples']}",
            "metric_name": "Majority exact match",
        }
        entries.append(EvalResult(**measured_on(score, "test"), **metric))
    for task in ("blimp", "arc_easy"):
        if score := measured(results, task):
            names: dict[str, Any] = {f"dataset_{key}": score.get(f"dataset_{key}") for key in ("config", "split")}
            names |= {"dataset_type": score["dataset"], "dataset_name": score["data"]}
            if score["is_sample"]:
                names["dataset_args"] = {"sample": score["total"]}
            for key, kind, title in CHOICE_METRICS:
                entries.append(
                    EvalResult(
                        **generation, **names, metric_type=kind, metric_name=title, metric_value=round(score[key], 4)
                    )
                )
    for score in (measured(results, "arithmetic") or {"scores": []})["scores"]:
        name = f"Axion arithmetic, {digits_label(score['digits'])}, {LANGUAGES[score['language']]}"
        config = (
            f"{score['digits']}-digit-{score['language']}"  # the Hub merges results of the same data set and config
        )
        dataset = {"dataset_type": "axion-arithmetic", "dataset_name": name, "dataset_config": config}
        entries.append(EvalResult(**generation, **dataset, **_exact_match(score)))
    for task, name in OWN_TASKS.items():
        for (language, reasoning), share in _shares(measured(results, task)).items():
            way = ", reasoning first" if reasoning else ""
            described = {"dataset_type": f"axion-{task}", "dataset_name": f"Axion {name}, {LANGUAGES[language]}{way}"}
            described["dataset_config"] = f"{language}{'-reasoning' if reasoning else ''}"
            entries.append(EvalResult(**generation, **described, **_exact_match({"accuracy": share})))
    return entries


def _shares(result: dict | None) -> dict[tuple[str, bool], float]:
    """Language and whether the reasoning came first → the share of right answers, over all scores of a task."""
    counts: dict[tuple[str, bool], list[int]] = {}
    for score in (result or {"scores": []})["scores"]:
        both = counts.setdefault((score["language"], score.get("reasoning", False)), [0, 0])
        both[0] += score["correct"]
        both[1] += score["total"]
    return {key: correct / total for key, (correct, total) in counts.items()}


def _exact_match(score: dict) -> dict[str, Any]:
    return {"metric_type": "exact_match", "metric_name": "Exact match", "metric_value": round(score["accuracy"], 4)}


def benchmark_results(info: dict) -> list[dict] | None:
    """The content of `.eval_results/gsm8k.yaml`; None unless all of GSM8K's test set was measured.

    Task id and unit (percent) are those of the benchmark's own `eval.yaml` and leaderboard.
    Source: https://huggingface.co/docs/hub/eval-results
    """
    score = measured(info["results"], "gsm8k_test")
    if score is None or (score["dataset"], score["total"]) != (GSM8K, GSM8K_PROBLEMS):
        return None
    entry = EvalResultEntry(
        dataset_id=GSM8K,
        task_id="gsm8k",
        value=round(100 * score["accuracy"], 2),
        date=info["measured"]["date"],
        source_url=f"https://huggingface.co/{info['repo_id']}",
        source_name="Model card",
        notes=f"zero-shot, greedy; {score['correct']} of {score['total']}",
    )
    return eval_result_entries_to_yaml([entry])
