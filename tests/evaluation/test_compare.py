"""Releases compared: which items are paired, what is significant, and what the command prints."""

import json
import shutil

import matplotlib.image
import numpy as np
import pytest
import torch

from axion.cli import app, run
from axion.data.recipe import DataRecipe
from axion.data.sources import Arithmetic, WordProblems
from axion.evaluation.compare import FEWEST_DIFFERING, compare
from axion.evaluation.comparison_chart import draw_comparison
from axion.evaluation.evaluate import evaluate
from axion.evaluation.intervals import bootstrap_difference
from axion.evaluation.outcomes import OUTCOMES, Outcomes, on_shared_items
from axion.recipe import load_recipe
from axion.release import open_release


def results_of(right, ids=None):
    """The results of a release with one score: whether each item was answered right."""
    ids = ids or [f"question {number}" for number in range(len(right))]
    score = {"correct": sum(right), "total": len(right), "accuracy": np.mean(right), "interval": [0.0, 1.0]}
    outcomes = Outcomes.of_answers(ids, right)
    return {"arithmetic": {"scores": [{"digits": 1, "language": "en", **score, OUTCOMES: [outcomes]}]}}


def first_difference(before, now, **ids):
    [figure] = compare({"a": results_of(before, **ids), "b": results_of(now, **ids)}).figures
    return figure.cells[1].difference


def test_the_same_answers_do_not_differ():
    right = [number % 3 == 0 for number in range(60)]
    comparison = compare({"a": results_of(right), "b": results_of(right)})
    [figure] = comparison.figures
    assert (figure.label, figure.items) == ("sums and differences, 1 digit, English", 60)
    assert figure.cells[0].difference is None
    difference = figure.cells[1].difference
    assert (difference.value, difference.interval, difference.significant) == (0, [0, 0], False)
    assert (len(comparison.differences), comparison.notes) == (1, [])


def test_answers_are_paired():
    """Of two releases with the same shares, only the one that keeps every right answer is significantly better."""
    before = [number < 100 for number in range(200)]
    better = [number < 112 for number in range(200)]
    others = [number >= 88 for number in range(200)]
    kept, changed = first_difference(before, better), first_difference(before, others)
    assert kept.value == changed.value == pytest.approx(0.06)
    assert kept.significant and 0 < kept.interval[0] < 0.06 < kept.interval[1]
    assert not changed.significant and changed.interval[0] < 0 < changed.interval[1]


@pytest.mark.parametrize("differing", [FEWEST_DIFFERING - 1, FEWEST_DIFFERING])
def test_a_few_items_are_never_significant(differing):
    difference = first_difference([False] * 40, [number < differing for number in range(40)])
    assert difference.interval[0] > 0
    assert difference.significant == (differing == FEWEST_DIFFERING)


def test_the_interval_of_a_difference_covers_it():
    rng, covered, widths = np.random.default_rng(5), 0, []
    for _ in range(40):
        sizes = rng.integers(50, 500, 60)
        hardness = rng.normal(1.5, 0.4, 60)  # of a document, for both
        ours, theirs = (sizes * (hardness + rng.normal(shift, 0.05, 60)) for shift in (0, 0.02))
        low, high = bootstrap_difference(ours, sizes, theirs, sizes)
        covered += low <= 0.02 <= high
        widths.append(high - low)
    assert covered >= 34  # of 40, where 95% are expected
    assert np.mean(widths) < 0.06  # unpaired, it would be about 0.3
    assert bootstrap_difference([1], [1], [2], [1]) is None


def test_figures_are_over_the_items_that_all_have():
    ids = [f"question {number}" for number in range(30)]
    ours, theirs = results_of([True] * 20, ids=ids[:20]), results_of([False] * 10 + [True] * 10, ids=ids[10:])
    [figure] = compare({"a": ours, "b": theirs}).figures
    assert figure.items == 10
    assert [cell.value for cell in figure.cells] == [1, 0]
    assert figure.cells[1].difference.value == -1

    apart = results_of([True] * 10, ids=ids[20:])
    comparison = compare({"a": ours, "b": apart})
    [figure] = comparison.figures
    assert figure.items is None and [cell.value for cell in figure.cells] == [1, 1]
    assert comparison.differences == []
    assert comparison.notes == [f"{figure.label}: the releases have no documents or questions in common"]


def test_an_id_that_recurs_is_paired_as_often():
    first = Outcomes.of_answers(["a", "b", "a"], [True, False, False])
    second = Outcomes.of_answers(["a", "a", "a", "b"], [False, True, True, True])
    ours, theirs = on_shared_items([first, second])
    assert ours == Outcomes.of_answers(["a", "b", "a"], [True, False, False])
    assert theirs == Outcomes.of_answers(["a", "b", "a"], [False, True, True])


def test_what_one_release_has_no_figure_for_is_said():
    skipped = {"arithmetic": {"skipped": "the model was not trained on problems"}}
    comparison = compare({"a": results_of([True, False]), "b": skipped, "c": results_of([True, True])}, False)
    [figure] = comparison.figures
    assert figure.cells[1] is None and figure.cells[2].difference.value == 0.5
    assert comparison.notes == [
        "arithmetic: b is not measured: the model was not trained on problems",
        "the vocabularies differ, so of the losses only those in bits per byte can be compared",
    ]
    assert compare({"b": skipped, "a": results_of([True])}).differences == []


def test_figures_that_are_not_made_of_items_have_no_difference():
    machine = {"processor": "A"}
    runs = [{"threads": 1, "decode_tokens_per_second": 9.0, "prefill_tokens_per_second": 90.0}]
    speed = {"speed": {"by_threads": runs, "machine": machine, "memory": None}}
    comparison = compare({"a": results_of([True, False]) | speed, "b": results_of([True, True])})
    assert [(each.label, each.values) for each in comparison.others] == [
        ("generation, one text at a time", ["9 tokens/s", None]),
        ("reading a full window", ["90 tokens/s", None]),
    ]


def test_the_plot_shows_every_release(tmp_path):
    results = {name: results_of([number < count for number in range(50)]) for name, count in (("a", 20), ("b", 40))}
    for file in ("one.svg", "two.svg", "one.png"):
        draw_comparison(compare(results), tmp_path / file)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    for text in ("<!-- a -->", "<!-- b -->", "<!-- * -->", "<!-- sums and differences, 1 digit, English -->"):
        assert text in drawn
    assert matplotlib.image.imread(tmp_path / "one.png").std() > 0.05  # not a blank page


@pytest.fixture(scope="module")
def two_releases(tiny_release, tmp_path_factory):
    """Two releases of one recipe with different weights."""
    recipe = load_recipe("axion1-v0.1").model_copy(
        update={"data": DataRecipe(sources=(Arithmetic(count=800), WordProblems(count=60)))}
    )
    parent = tmp_path_factory.mktemp("compared")
    for name in ("first", "second"):
        shutil.copytree(tiny_release, parent / name)
        (parent / name / "recipe.yaml").write_text(recipe.to_yaml())
    model = open_release(parent / "second").model
    with torch.no_grad():
        model.model.norm.weight.mul_(0.5)  # less sure of everything, so that every document's loss changes
    model.save_pretrained(parent / "second")
    return parent / "first", parent / "second"


def test_outcomes_are_kept_on_request_alone(two_releases):
    release, data = open_release(two_releases[0]), load_recipe(two_releases[0] / "recipe.yaml").data
    kept = evaluate(release, data, ["validation", "gsm8k_test"], strict=False, keep_outcomes=True)
    [outcomes] = kept["validation"].pop(OUTCOMES)
    assert outcomes.value == pytest.approx(kept["validation"]["bits_per_byte"])
    assert outcomes.interval() == kept["validation"]["interval"]
    assert len({*outcomes.ids}) == kept["validation"]["documents"]
    assert all(text.startswith("# Pergunta:\n") for text in outcomes.ids)
    assert kept["gsm8k_test"] == {"skipped": "the recipe has no source of kind gsm8k"}
    assert evaluate(release, data, ["validation"])["validation"] == kept["validation"]


def test_the_command_prints_a_table_or_json_and_draws(two_releases, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("axion.evaluation.subject.ARITHMETIC_PROMPTS", 3)
    arguments = ["compare", *map(str, two_releases), "--tasks", "validation, arithmetic, gsm8k_test"]
    plot = tmp_path / "charts" / "compared.svg"
    assert run(app, [*arguments, "--json", "--plot", str(plot)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["releases"] == ["first", "second"] and plot.is_file()
    losses, *sums = printed["figures"]
    assert losses["task"] == "validation" and losses["items"] > 10
    low, high = losses["cells"][1]["difference"]["interval"]
    assert low < losses["cells"][1]["value"] - losses["cells"][0]["value"] < high < 0
    assert losses["cells"][1]["difference"]["significant"]
    assert [figure["items"] for figure in sums] == [3] * 4
    assert printed["comparisons"] == 5 and printed["significant"] == 1

    assert run(app, arguments) == 0
    table = capsys.readouterr().out
    header, first, *_ = table.splitlines()
    assert header.split() == ["items", "first", "second,", "difference"]
    assert first.startswith("arithmetic, word problems, held-out documents: bits per byte") and first.endswith("*")
    assert "5 comparisons were made" in table
    assert "note: gsm8k_test: second is not measured: the recipe has no source of kind gsm8k" in table


def test_what_cannot_be_compared_is_refused_in_one_line(two_releases, capsys, tmp_path):
    first, second = map(str, two_releases)
    for arguments, said in (
        ([first], "give at least two releases"),
        ([first, first], "given twice"),
        ([first, second, "--plot", "plot.gif"], "--plot plot.gif must end in .png or .svg"),
        ([first, second, "--tasks", "mmlu"], "no task 'mmlu'"),
        ([first, second, "--tasks", "loops", "--plot", str(tmp_path / "plot.svg")], "nothing to draw"),
    ):
        assert run(app, ["compare", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err
