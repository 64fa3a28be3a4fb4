"""Workings: every line follows from the ones before, and the last has Python's result."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axion.data.format import Equation
from axion.data.holdout import is_held_out, is_reserved, shows_held_out
from axion.data.working import is_small, shows_reserved, work_through, working
from axion.data.working_check import check_reasoning, check_working
from axion.errors import AxionError

LONG = st.integers(1, 10).flatmap(lambda digits: st.integers(0, 10**digits - 1))
SHORT = st.integers(0, 999)


@settings(deadline=None)
@given(LONG, LONG)
def test_sums_and_differences(left, right):
    for equation in (Equation(left, "+", right), Equation(left, "-", right)):
        lines = working(equation)
        assert check_working(lines) == equation.result
        assert is_small(equation) or lines[-1].rpartition(";")[2] == str(equation.result)


@settings(deadline=None)
@given(st.integers(0, 10**4), SHORT)
def test_products(left, right):
    equation = Equation(left, "*", right)
    assert check_working(working(equation)) == equation.result


@settings(deadline=None)
@given(st.integers(1, 150), SHORT)
def test_quotients(divisor, quotient):
    equation = Equation(divisor * quotient, "/", divisor)
    assert check_working(working(equation)) == quotient


EXAMPLES = {
    "2637+7504": "7+4=11;263+750;1 3+0+1=4;26+75;41 6+5=11;2+7;141 2+7+1=10;10141",
    "2637-1904": "7=4+3;263-190;3 3=0+3;26-19;33 16=9+7;2-1;733 2=1+1+0;733",
    "1000-7": "10=7+3;100-0;3 10=0+1+9;10-0;93 10=0+1+9;1-0;993 1=0+1+0;993",
    "14-34": "-(34-14) 4=4+0;3-1;0 3=1+2;20 -20",
    "45*6": "5*6=30;4*6;0 4*6+3=27;270",
    "6*45": "45*6 5*6=30;4*6;0 4*6+3=27;270",
    "45*67": "45*7+45*60 5*7=35;4*7;5 4*7+3=31;315 315+45*60 5*6=30;4*6;00 4*6+3=27;2700 315+2700 "
    "5+0=5;31+270;5 1+0=1;3+27;15 3+7=10;0+2;015 0+2+1=3;3015",
    "1344/6": "13=6*2+1;44;2 14=6*2+2;4;22 24=6*4+0;224",
    "1344/42": "134-42=92;4;1 92-42=50;4;2 50-42=8;4;3 84-42=42;31 42-42=0;32",
    "4242/42": "42-42=0;42;1 4<42;2;10 42-42=0;101",
}


@pytest.mark.parametrize("expression", EXAMPLES)
def test_the_form(expression):
    left, sign, right = re.fullmatch(r"(\d+)(.)(\d+)", expression).groups()
    assert working(Equation(int(left), sign, int(right))) == [expression, *EXAMPLES[expression].split()]


def test_one_digit_needs_no_working():
    assert [working(Equation(*each)) for each in ((9, "+", 8), (3, "-", 5), (7, "*", 8), (8, "/", 2))] == [
        ["9+8=17"],
        ["3-5=-2"],
        ["7*8=56"],
        ["8/2=4"],
    ]


@pytest.mark.parametrize("expression", EXAMPLES)
def test_a_wrong_digit_is_found_in_every_line(expression):
    lines = [expression, *EXAMPLES[expression].split()]
    for place, line in enumerate(lines):
        for index, character in enumerate(line):
            if place and character.isdigit():
                wrong = f"{line[:index]}{(int(character) + 1) % 10}{line[index + 1 :]}"
                with pytest.raises(AxionError):
                    check_working([*lines[:place], wrong, *lines[place + 1 :]])
    with pytest.raises(AxionError, match="already there"):
        check_working([*lines, lines[-1]])
    with pytest.raises(AxionError, match="missing"):
        check_working(lines[:-1])


@pytest.mark.parametrize("line", ["7/2=3", "5/0=0", "7/0=1"])
def test_a_quotient_that_is_not_whole_is_refused(line):
    for check in (lambda: check_working([line]), lambda: check_reasoning(line)):
        with pytest.raises(AxionError, match=r"line 1, .*, does not follow"):
            check()


def test_no_lines_are_no_working():
    with pytest.raises(AxionError, match="line 1, which is missing"):
        check_working([])


def test_a_sentence_is_worked_out_where_its_equation_stands():
    small, large = Equation(5, "+", 3), Equation(12, "+", 7)
    assert work_through("Ana has {=} cards.", small) == "Ana has 5+3=8 cards."
    assert work_through("Ana has {=} cards.", large) == "Ana has 12+7\n2+7=9;1+0;9\n1+0=1;19\n=19 cards."
    steps = [work_through("In box 2 there are {=} cards.", large), work_through("{N} has {=}.", small), "24-19"]
    text = "\n".join([*steps, *working(Equation(24, "-", 19))[1:], "6*7=42"])
    assert check_reasoning(text) == [large, small, Equation(24, "-", 19), Equation(6, "*", 7)]
    with pytest.raises(AxionError, match="line 4"):
        check_reasoning("Ana has 12+7\n2+7=9;1+0;9\n1+0=1;19\n=18 cards.")


@settings(deadline=None)
@given(LONG, LONG, st.sampled_from("+-"))
def test_a_working_shows_no_other_held_out_pair_than_it_says(left, right, sign):
    text = "\n".join(working(Equation(left, sign, right)))
    if not shows_reserved(text, 0.05):
        assert not shows_held_out(text, 0.05)


def test_columns_of_differences_show_no_pair_above_nine():
    """Else a held-out pair such as 13 and 7 could never be learnt as a column."""
    for top in range(10):
        for bottom in range(10):
            _, column, *_ = working(Equation(20 + top, "-", bottom))
            assert re.fullmatch(r"1?\d=\d\+\d", column.partition(";")[0])


def test_longer_pairs_are_held_out_by_the_same_hash():
    pairs = [(a, 1000 - a) for a in range(500)]
    assert 10 < sum(is_reserved(*pair, 0.05) for pair in pairs) < 45
    assert all(is_reserved(a, b, 0.05) == is_reserved(b, a, 0.05) for a, b in pairs)
    assert all(is_reserved(a, b, 0.05) == is_held_out(a, b, 0.05) for a in range(30, 50) for b in range(30, 50))
    assert not any(is_held_out(*pair, 0.5) for pair in pairs[:400])
