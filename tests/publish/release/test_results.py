"""Evaluation results as the Hub takes them."""

from publish.release.results import benchmark_results, evaluation_results
from tests.publish.conftest import score

CHOICES = {"accuracy": 0.52, "bits_per_byte": 2.5, "total": 100, "is_sample": False}
RESULTS = {
    "gsm8k_test": {"data": "GSM8K", "dataset": "openai/gsm8k", **score(7, 1319)},
    "gsm8k_majority": {"data": "GSM8K", "dataset": "openai/gsm8k", "samples": 8, **score(14, 1319)},
    "blimp": CHOICES | {"data": "BLiMP", "dataset": "nyu-mll/blimp", "dataset_split": "train", "is_sample": True},
    "arc_easy": CHOICES
    | {"data": "ARC-easy", "dataset": "allenai/ai2_arc", "dataset_config": "ARC-Easy", "dataset_split": "test"},
    "stories": {
        "scores": [
            {"kind": kind, "language": "en", "reasoning": reasoning, **score(correct, 10)}
            for kind, reasoning, correct in (("gain", False, 2), ("gain", True, 5), ("loss", False, 4))
        ]
    },
    "dialogues": {"scores": [{"kind": "why", "language": "pt", **score(3, 4)}]},
}
INFO = {"results": RESULTS, "dataset": "openai/gsm8k", "dataset_config": "main", "val_fraction": 0.05}


def test_every_kind_of_result_has_entries_of_its_own():
    entries = {
        (entry.dataset_type, entry.dataset_config, entry.metric_type): entry for entry in evaluation_results(INFO)
    }
    values = {key: entry.metric_value for key, entry in entries.items()}
    assert values == {
        ("openai/gsm8k", "main", "exact_match"): 0.0053,
        ("openai/gsm8k", "main", "maj@8"): 0.0106,
        ("nyu-mll/blimp", None, "accuracy"): 0.52,
        ("nyu-mll/blimp", None, "bits_per_byte"): 2.5,
        ("allenai/ai2_arc", "ARC-Easy", "accuracy"): 0.52,
        ("allenai/ai2_arc", "ARC-Easy", "bits_per_byte"): 2.5,
        ("axion-stories", "en", "exact_match"): 0.3,
        ("axion-stories", "en-reasoning", "exact_match"): 0.5,
        ("axion-dialogues", "pt", "exact_match"): 0.75,
    }
    assert entries["nyu-mll/blimp", None, "accuracy"].dataset_args == {"sample": 100}
    assert entries["allenai/ai2_arc", "ARC-Easy", "accuracy"].dataset_args is None


def test_the_leaderboard_gets_the_greedy_result_alone():
    [entry] = benchmark_results(INFO | {"measured": {"date": "2031-02-03"}, "repo_id": "someone/x"})
    assert entry["value"] == 0.53 and "greedy; 7 of 1319" in entry["notes"]
