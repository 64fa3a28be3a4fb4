"""The layout of results, shared by terminal, page and card."""

from copy import deepcopy
from typing import get_args

import pytest

from axion.data.sources.dialogue_turns import TurnKind
from axion.data.sources.phrasings import OPERATIONS
from axion.data.templates import LANGUAGES, read_templates
from axion.evaluation.results import LOAD_SETS, TEXTS, MalformedResults, measured, result_rows, skipped_tasks
from axion.evaluation.tasks import TASKS
from axion.files import read_json
from tests.conftest import ROOT

SCORE = {"correct": 1234, "total": 1300, "accuracy": 0.95, "interval": [0.9, 0.97]}
CHOICES = SCORE | {
    **{"correct": 1234.5, "chance": 0.5, "tied": 1, "bits_per_byte": 2.0, "bits_per_byte_wrong": 2.5},
    "bits_interval": [1.9, 2.1],
}
RESULTS = {
    "validation": {
        "data": "GSM8K",
        "documents": 12,
        "nats_per_token": 2.5,
        "bits_per_byte": 1.25,
        "tokens": 3456,
        "bytes": 9,
    },
    "prose": {
        "scores": [
            {"data": "TinyStories", "language": "en", "trained_on": True, "documents": 2, "tokens": 3456}
            | {"nats_per_token": 2.5, "bits_per_byte": 1.25, "bytes": 9, "interval": [1.0, 1.5]},
        ]
    },
    "arithmetic": {"scores": [SCORE | {"digits": 1, "language": "pt"}, SCORE | {"digits": 2, "language": "en"}]},
    "arithmetic_reasoning": {"scores": [SCORE | {"digits": 2, "language": "pt"}]},
    "phrasings": {
        "scores": [
            SCORE | {"typing": typing, "operation": "*", "digits": 1, "language": "en", "reasoning": False}
            for typing in ("clean", "careless")
        ]
    },
    "long_sums": {"scores": [SCORE | {"operation": "-", "language": "pt", "reasoning": None}]},
    "calibration": {
        "answers": 1200,
        "stated": 0.8,
        "accuracy": 0.5,
        "error": 0.3,
        "error_interval": [0.25, 0.35],
    },
    "stories": {"scores": [SCORE | {"kind": "more and fewer", "language": "pt", "reasoning": True}]},
    "events": {"scores": [SCORE | {"steps": steps, "language": "en", "reasoning": False} for steps in (1, 2)]},
    "singleop": {"data": "SingleOp", "scores": [SCORE | {"language": "en", "reasoning": False}]},
    "dialogues": {"scores": [SCORE | {"kind": "follow-up", "language": "pt"}]},
    "gsm8k_test": SCORE | {"data": "GSM8K"},
    "gsm8k_majority": SCORE | {"data": "GSM8K", "samples": 8, "temperature": 0.7, "single_accuracy": 0.25},
    "blimp": CHOICES | {"data": "BLiMP", "is_sample": True, "scores": [CHOICES | {"phenomenon": "ellipsis"}]},
    "arc_easy": CHOICES
    | {"data": "ARC-easy", "is_sample": False, "accuracy_by_length": 0.5, "interval_by_length": [0.4, 0.6]},
    "expert_load": {"together": {"layers": [[0.5, 1.5]] * 3, "lowest": 0.5, "highest": 1.5}},
    "experts": {
        "rows": [
            {"layer": 1, "loop": 1, "load": [1.0, 1.0], "entropy": 1.0, "dead": []},
            {"layer": 2, "loop": 1, "load": [2.0, 0.0], "entropy": 0.0, "dead": [2]},
        ],
        "worth": [
            {"layer": 1, "expert": 1, "nats_per_token": 0.25, "interval": [0.125, 0.375]},
            {"layer": 1, "expert": 2, "nats_per_token": -0.5, "interval": None},
        ],
    },
    "loops": {
        "scores": [
            {"loops": loops, "nats_per_token": 2.5, "bits_per_byte": 1.25, "tokens_per_second": 1e4 / loops}
            | {"problems": SCORE | ({"gain": 0.25, "gain_interval": [0.125, 0.375]} if loops > 1 else {})}
            for loops in (1, 2)
        ],
        "num_loops": 2,
    },
    "speed": {
        "by_threads": [
            {"threads": count, "decode_tokens_per_second": 100.4 * count, "prefill_tokens_per_second": 5000.0}
            for count in (1, 2)
        ],
        "machine": {"processor": "A Processor"},
        "memory": {"peak_bytes": 400_000_000, "libraries_bytes": 350_000_000},
    },
}
RESULTS = {task: result | {"command": f"measure {task}"} for task, result in RESULTS.items()}


def test_every_task_has_rows_in_order_and_a_command():
    assert list(RESULTS) == list(TASKS)
    rows = result_rows(RESULTS)
    assert list(dict.fromkeys(row.task for row in rows)) == list(TASKS)
    assert all(row.command == f"measure {row.task}" for row in rows)
    assert len({row.label for row in rows}) == len(rows)


def test_a_row_has_a_value_and_a_note():
    rows = {row.label: (row.value, row.note) for row in result_rows(RESULTS)}
    assert rows["GSM8K, held-out documents: bits per byte"] == ("1.250", "12 documents, 3,456 tokens predicted")
    exact = ("95.0%", "1,234 of 1,300; 95% interval 90.0% to 97.0%")
    assert rows["GSM8K, test set: exact match"] == rows["sums and differences, 1 digit, Portuguese"] == exact
    assert rows["sums and differences, 2 digits, English"] == exact
    for label in (
        "products as people ask for them, 1 digit, English",
        "products as people ask for them, 1 digit, English, typed carelessly",
        "differences of two to ten digits, Portuguese",
        "replies in conversations, follow-up question, Portuguese",
        "one-step stories, more and fewer, Portuguese, reasoning first",
        "problems of 1 step, English",
        "problems of 2 steps, English",
        "SingleOp, problems of one step that people wrote, English",
    ):
        assert rows[label] == exact
    assert rows["TinyStories, English: bits per byte"] == (
        "1.250",
        "2 documents, 3,456 tokens predicted; 95% interval 1.000 to 1.500; the model was trained on them",
    )
    assert rows["arithmetic as people ask for it: expected calibration error"] == (
        "0.300",
        "1,200 answers, stated probability 80.0% on average, 50.0% right; 95% interval 0.250 to 0.350",
    )
    assert rows["GSM8K, test set: exact match, most frequent of 8 answers"] == (
        "95.0%",
        exact[1] + "; drawn at temperature 0.7, a single answer is right in 25.0%",
    )
    points = "1,234.50 of 1,300; 95% interval 90.0% to 97.0%; chance 50.0%"
    for label in ("BLiMP: accuracy", "BLiMP, ellipsis: accuracy"):
        assert rows[label] == ("95.0%", points + "; a fixed sample")
    assert rows["ARC-easy: accuracy"] == ("95.0%", points)
    assert rows["ARC-easy: accuracy by the loss per character"] == ("50.0%", "95% interval 40.0% to 60.0%")
    assert rows["ARC-easy, right answers: bits per byte"] == (
        "2.000",
        "95% interval 1.900 to 2.100; wrong answers 2.500",
    )
    assert rows["what an expert is worth, layer 1: loss added without it"] == (
        "-0.500 to 0.250 nats per token",
        "E1 0.250 (0.125 to 0.375), E2 -0.500",
    )
    assert rows["entropy of the experts' load, layer 1"] == ("100.0%", "100% where it is even; no dead experts")
    assert rows["entropy of the experts' load, layer 2"] == ("0.0%", "100% where it is even; dead experts: E2")
    load = rows["load of an expert, times its fair share: all of it together"]
    assert load == ("0.500 to 1.500", "least to most used of 3 layers with 2 experts each")
    assert rows["1 loop: loss in nats per token"] == ("2.500", "1.250 bits per byte; 10,000 tokens/s read")
    assert rows["1 loop: problems of several steps"] == exact
    gain = "; 25.0 points above one loop (12.5 to 37.5)"
    assert rows["2 loops: problems of several steps"] == (exact[0], exact[1] + gain)
    assert rows["2 loops: loss in nats per token"] == ("2.500", "1.250 bits per byte; 5,000 tokens/s read")
    assert rows["generation, one text at a time"] == ("201 tokens/s", "2 threads, A Processor")
    assert rows["peak memory of a process that generates"][0] == "400.0 MB"


class Marked:
    """Numbers in a form that English never has."""

    def number(self, value: float, decimals: int = 0) -> str:
        return f"<{value:.{decimals}f}>"

    def percent(self, share: float, decimals: int = 0) -> str:
        return f"<{share:.{decimals}f} of 1>"


def test_a_translation_replaces_every_text_and_number():
    translated = {key: text.upper() if "{" not in text else f"* {text}" for key, text in TEXTS.items()}
    rows = {(row.label, row.value, row.note) for row in result_rows(RESULTS, translated, Marked())}
    assert (
        "* GSM8K, held-out documents: bits per byte",
        "<1.250>",
        "* <12> documents, <3456> tokens predicted",
    ) in rows
    score = ("<0.9 of 1>", "* <1234> of <1300>; 95% interval <0.9 of 1> to <1.0 of 1>")
    assert ("* sums and differences, * 1 digit, PORTUGUESE", *score) in rows
    assert ("GENERATION, ONE TEXT AT A TIME", "* <201> tokens/s", "* 2 threads, A Processor") in rows
    assert any(value == "* <400.0> MB" for _, value, _ in rows)


def test_the_passes_of_a_looped_mixture_are_not_called_layers():
    for loops, note in ((1, "3 layers with 2 experts each; 1 loop"), (2, "in 3 passes through layers with 2 experts")):
        [row] = result_rows({"expert_load": RESULTS["expert_load"] | {"num_loops": loops}})
        assert note in row.note


def test_a_translation_may_name_kinds_of_data():
    data = RESULTS["validation"] | {"data": "arithmetic, word problems, stories.txt"}
    texts = TEXTS | {"data_arithmetic": "somas", "data_word problems": "problemas"}
    assert result_rows({"validation": data}, texts)[0].label.startswith("somas, problemas, stories.txt, held-out")


def test_what_was_not_measured_has_no_row():
    results = deepcopy(RESULTS) | {task: {"skipped": "no data"} for task in ("gsm8k_test", "gsm8k_majority")}
    results["speed"]["memory"] = None
    labels = [row.label for row in result_rows(results)]
    assert not any(label.startswith(("GSM8K, test set", "peak memory")) for label in labels)
    assert set(skipped_tasks(results)) == {"gsm8k_test", "gsm8k_majority"} and measured(results, "gsm8k_test") is None
    assert result_rows({}) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"arithmetic": {"scores": [{}]}},
        {"arithmetic": {"scores": [SCORE | {"digits": 1, "language": "pt", "interval": 3}]}},
        {"gsm8k_test": {}},
        {"gsm8k_test": SCORE | {"data": "a", "total": "many"}},
        {"speed": {"by_threads": []}},
        {"speed": []},
        {"stories": {"scores": [SCORE | {"kind": "none", "language": "pt", "reasoning": True}]}},
        {"validation": RESULTS["validation"] | {"interval": 3}},
        {"calibration": {}},
        {"dialogues": {"scores": [SCORE | {"kind": "none", "language": "pt"}]}},
        {"gsm8k_majority": SCORE},
        {"blimp": CHOICES},
        {"experts": {"rows": [], "worth": [{}]}},
        {"prose": {"scores": [{}]}},
        {"expert_load": []},
        {"expert_load": {"together": []}},
        {"expert_load": {"together": {"layers": [], "lowest": 0, "highest": 1}}},
        {"validation": None},
        [],
        3,
    ],
)
def test_malformed_results_are_one_error(broken):
    with pytest.raises(MalformedResults, match=r"malformed: .+") as caught:
        result_rows(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("broken", [[], {"expert_load": []}, {"gsm8k_validation": 3}])
def test_no_reader_of_results_fails_otherwise(broken):
    for read in (skipped_tasks, lambda results: measured(results, "validation")):
        with pytest.raises(MalformedResults):
            read(broken)


def test_the_data_is_called_what_it_is():
    mine = deepcopy(RESULTS)
    mine["validation"]["data"] = "stories.txt"
    mine["gsm8k_test"]["data"] = mine["gsm8k_majority"]["data"] = "mine.jsonl"
    labels = {row.label for row in result_rows(mine)}
    assert {"stories.txt, held-out documents: bits per byte", "mine.jsonl, test set: exact match"} <= labels
    assert not any("GSM8K" in label for label in labels)


def test_results_of_the_first_release_are_read():
    """They were measured on GSM8K alone, and name the task after it."""
    results = read_json(ROOT / "releases" / "axion1-v0.1" / "release.json")["results"]
    assert "gsm8k_validation" in results
    rows = {row.label: row for row in result_rows(results)}
    row = rows["GSM8K, held-out documents: bits per byte"]
    assert (row.task, row.value, row.note) == ("validation", "1.323", "392 documents, 81,764 tokens predicted")
    assert "GSM8K, test set: exact match" in rows
    assert "load of an expert, times its fair share: held-out documents" in rows
    assert measured(results, "validation")["dataset"] == "openai/gsm8k"
    skipped = results | {"gsm8k_validation": {"skipped": "no network"}}
    assert skipped_tasks(skipped) == {"validation": "no network"} and measured(skipped, "validation") is None


def test_every_operation_and_kind_of_story_has_a_name():
    kinds = {template.group for language in LANGUAGES for template in read_templates("stories", language)}
    assert {name for key in TEXTS if key.startswith("kind_") and (name := key.removeprefix("kind_"))} == kinds
    assert all(f"operation_{sign}" in TEXTS for sign in OPERATIONS)
    assert {key.removeprefix("turn_") for key in TEXTS if key.startswith("turn_")} == set(get_args(TurnKind))


def test_every_set_that_is_measured_has_a_name():
    assert set(LOAD_SETS) == {"together", "validation", "arithmetic"}
