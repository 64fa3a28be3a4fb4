"""Stated probabilities against the frequency of right answers."""

import math

import numpy as np
import pytest

from axion.data.format import prompt
from axion.data.recipe import DataRecipe
from axion.data.sources import Arithmetic
from axion.evaluation import calibration as module
from axion.evaluation.calibration import calibration, measure_calibration
from axion.evaluation.likelihood import Way, losses
from axion.evaluation.questions import DirectAnswer
from axion.evaluation.subject import Subject
from axion.release import open_release


def test_true_probabilities_have_a_small_error_and_boasted_ones_a_large():
    rng = np.random.default_rng(1)
    stated_N = rng.uniform(size=4000)
    is_right_N = rng.uniform(size=4000) < stated_N
    true, boasted = calibration(stated_N, is_right_N), calibration(stated_N**0.25, is_right_N)
    assert true["error"] < 0.03 < 0.25 < boasted["error"]
    assert boasted["error_interval"][0] < boasted["error"] < boasted["error_interval"][1]
    assert len(true["bins"]) == 10 and sum(each["answers"] for each in true["bins"]) == 4000
    assert all(each["low"] <= each["stated"] <= each["high"] for each in true["bins"])


def test_the_error_is_the_mean_difference_over_the_answers():
    figures = calibration(np.array([1.0, 0.95, 0.05]), np.array([True, False, False]))
    low, high = figures["bins"]  # 1 belongs to the last bin
    assert (low["answers"], high["answers"], high["right"]) == (1, 2, 0.5)
    assert figures["error"] == pytest.approx((1 * 0.05 + 2 * (0.975 - 0.5)) / 3)
    assert figures["accuracy"] == pytest.approx(1 / 3)


def test_the_stated_probability_is_that_of_the_whole_answer_and_its_end(tiny_release, monkeypatch):
    release, asked = open_release(tiny_release), prompt("Quanto é 2 + 5?")
    cut = "x" * module.ANSWER_TOKENS
    answers = [DirectAnswer(asked, "7", True), DirectAnswer(asked, cut, False)]
    monkeypatch.setattr(Subject, "once", lambda self, make: answers)
    seen = []
    monkeypatch.setattr(module, "calibration", lambda stated_N, right_N: seen.append((stated_N, right_N)) or {})
    assert measure_calibration(Subject(release, DataRecipe(sources=(Arithmetic(count=100),)))) == {"answers": 2}
    [(stated_N, right_N)] = seen
    assert right_N.tolist() == [True, False]

    def ids(text: str) -> list[int]:
        return release.tokenizer(text).input_ids

    start = len(ids(asked))
    whole = [Way([*ids(asked + "7"), release.tokenizer.eos_token_id], start)], [Way(ids(asked + cut), start)]
    expected = [math.exp(-nats) for [nats] in losses(release.model, whole)]
    assert stated_N.tolist() == pytest.approx(expected) and 0 < stated_N[1] < stated_N[0] < 1
