"""Synthetic sums and differences: correct, complete, without held-out pairs."""

import re
from itertools import product

import pytest

from axion.data.holdout import is_held_out, operand_pairs, shows_held_out
from axion.data.sources.arithmetic import Arithmetic, arithmetic, arithmetic_tests
from axion.errors import AxionError
from tests.data.conftest import digest

CANONICAL = re.compile(r"(?:Quanto é|What is) (\d+) ([+-]) (\d+)\?")
HOLDOUT = 0.05


@pytest.fixture(scope="module")
def training():
    return list(arithmetic(48_000, seed=1, holdout=HOLDOUT))


def asked(problem):
    """(a, sign, b) of a canonically phrased problem, else None."""
    match = CANONICAL.fullmatch(problem.question)
    return match and (int(match[1]), match[2], int(match[3]))


def test_count_and_seed():
    assert len(list(arithmetic(123, 5, HOLDOUT))) == 123
    first, again, other = (list(arithmetic(700, seed, HOLDOUT)) for seed in (5, 5, 6))
    assert first == again != other


def test_the_output_matches_its_version():
    """If you change the problems, increase Arithmetic.version and update this digest."""
    source = Arithmetic(count=32_000)  # more than the enumerated part
    assert (source.version, digest(source)) == (1, "3bf40669ddc57f78")


def test_every_answer_is_right(training):
    for problem in training:
        a, b = map(int, re.findall(r"\d+", problem.question))
        if re.match(r"Subtraia|Tire|Subtract|Take", problem.question):  # "Subtract b from a"
            a, b = b, a
        minus = re.search(r" - | menos | minus |Subtra|Tire|Take", problem.question)
        assert int(problem.answer) == (a - b if minus else a + b), problem


def test_every_line_of_the_working_is_right(training):
    worked = [problem for problem in training if problem.reasoning]
    assert 0.01 < len(worked) / len(training) < 0.1
    for problem in worked:
        *columns, last = problem.reasoning.split("\n")
        for line in [*columns, last]:
            left, right = re.sub(r",.*", "", line).split(" = ")
            assert re.fullmatch(r"[\d +-]+", left) and eval(left) == int(right), line
        digits = [line.split(" = ")[1].split(",")[0] for line in columns]
        assert int("".join(digit[-1] for digit in reversed(digits))) in (
            int(problem.answer),
            int(problem.answer) - 10 ** len(digits),
        )
        assert last.endswith(f"= {problem.answer}")


def test_every_two_digit_problem_that_is_not_held_out_appears_in_both_languages(training):
    asked_in = {
        language: {asked(problem) for problem in training if problem.question.startswith(start) and asked(problem)}
        for language, start in (("pt", "Quanto"), ("en", "What"))
    }
    for a, b in product(range(100), repeat=2):
        if is_held_out(a, b, HOLDOUT):
            continue
        for tasks in asked_in.values():
            assert (a, "+", b) in tasks
            assert a < b or (a, "-", b) in tasks


def test_most_problems_are_canonical_and_few_are_negative(training):
    assert 0.85 < sum(asked(problem) is not None for problem in training) / len(training) < 0.98
    assert 0 < sum(problem.answer.startswith("-") for problem in training) / len(training) < 0.03
    assert any(len(number) == 3 for problem in training for number in re.findall(r"\d+", problem.question))
    assert len({re.sub(r"\d+", "#", problem.question) for problem in training}) == 28


def test_no_held_out_pair_whatever_the_phrasing(training):
    for problem in training:
        a, b = map(int, re.findall(r"\d+", problem.question))
        assert not is_held_out(a, b, HOLDOUT)
        if problem.reasoning:
            assert not shows_held_out(problem.document(), HOLDOUT)


@pytest.mark.parametrize("language", ["pt", "en"])
def test_two_digit_tests_are_held_out_and_different(language):
    problems = arithmetic_tests(2, language, 500, seed=3)
    assert len({problem.question for problem in problems}) == 500
    for problem in problems:
        a, sign, b = asked(problem)
        assert is_held_out(a, b, HOLDOUT) and 10 <= max(a, b) <= 99
        assert int(problem.answer) == (a + b if sign == "+" else a - b) >= 0
        assert operand_pairs(problem.question) == [(a, b)]
    assert {asked(problem)[1] for problem in problems} == {"+", "-"}
    assert problems == arithmetic_tests(2, language, 500, seed=3) != arithmetic_tests(2, language, 500, seed=4)


def test_one_digit_tests_are_the_whole_space():
    problems = arithmetic_tests(1, "en", 500, seed=0)
    tasks = {asked(problem) for problem in problems}
    assert len(problems) == len(tasks) == 100 + 55
    assert all(a < 10 and b < 10 and (sign == "+" or a >= b) for a, sign, b in tasks)


@pytest.mark.parametrize("wrong", [(3, "pt", 0.05), (1, "fr", 0.05), (2, "pt", 0.0)])
def test_impossible_tests_are_refused(wrong):
    digits, language, holdout = wrong
    with pytest.raises(AxionError):
        arithmetic_tests(digits, language, 10, 0, holdout)
