"""What a visitor may ask for."""

import math

import pytest

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from playground.generate.request import LIMITS, MAX_PROMPT_CHARACTERS, find_problems, read_request, starting_values

GOOD = {
    "temperature": 0.8,
    "top_k": 50,
    "top_p": 0.95,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "max_new_tokens": 80,
    "min_new_tokens": 10,
    "seed": 7,
}


def test_a_good_request_becomes_a_sampling():
    request = read_request("# Pergunta:\n", GOOD)
    assert request.prompt == "# Pergunta:\n"
    assert request.sampling == Sampling(**GOOD)


def test_whole_numbers_may_arrive_as_floats():
    assert isinstance(read_request("a", GOOD | {"seed": 7.0}).sampling.seed, int)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, None, "1", [1], {}, -1, 10**30, 1j])
def test_bad_numbers_are_refused_by_name(name, value):
    with pytest.raises(AxionError, match=name):
        read_request("a", GOOD | {name: value})
    assert list(find_problems("a", GOOD | {name: value})) == [name]


@pytest.mark.parametrize("name", ["top_k", "max_new_tokens", "seed"])
def test_fractions_are_refused_where_whole_numbers_are_due(name):
    with pytest.raises(AxionError, match=name):
        read_request("a", GOOD | {name: 1.5})


@pytest.mark.parametrize("name", LIMITS)
def test_both_ends_of_each_range_are_taken_and_no_more(name):
    limit = LIMITS[name]
    others = GOOD | {"min_new_tokens": 0, "max_new_tokens": LIMITS["max_new_tokens"].high}
    for value in (limit.low, limit.high):
        assert getattr(read_request("a", others | {name: value}).sampling, name) == value
    with pytest.raises(AxionError, match=name):
        read_request("a", others | {name: limit.high + limit.step})


def test_numbers_that_do_not_go_together_are_refused_under_the_one_that_would_help():
    assert list(find_problems("a", GOOD | {"min_new_tokens": 81})) == ["min_new_tokens"]
    assert list(find_problems("a", GOOD | {"temperature": 0.001})) == ["temperature"]
    for wrong in ({"min_new_tokens": 81}, {"temperature": 0.001}):
        with pytest.raises(AxionError):
            read_request("a", GOOD | wrong)


@pytest.mark.parametrize("forced", [None, 3, "12", [1.0], [True], [-1], [None], [[1]], {"1": 1}, [0] * 513])
def test_bad_forced_tokens_are_refused(forced):
    with pytest.raises(AxionError, match="forced"):
        read_request("a", GOOD, forced)


def test_forced_tokens_are_kept_in_order():
    assert read_request("a", GOOD, [5, 3, 5]).forced == (5, 3, 5)


def test_a_refusal_speaks_the_languages_of_the_page():
    [english] = find_problems("", GOOD).values()
    [portuguese] = find_problems("", GOOD, "pt").values()
    assert "empty" in english and "vazio" in portuguese
    assert "número inteiro" in find_problems("a", GOOD | {"seed": 1.5}, "pt")["seed"]
    assert "9007199254740991" in find_problems("a", GOOD | {"seed": 2**53})["seed"]


@pytest.mark.parametrize("prompt", ["", None, 5, ["a"], "\ud800", "x" * (MAX_PROMPT_CHARACTERS + 1)])
def test_bad_prompts_are_refused(prompt):
    with pytest.raises(AxionError, match="prompt") as caught:
        read_request(prompt, GOOD)
    assert len(str(caught.value)) < 200
    assert list(find_problems(prompt, GOOD)) == ["prompt"]


def test_missing_and_unknown_settings_are_refused():
    with pytest.raises(AxionError, match="seed"):
        read_request("a", {name: value for name, value in GOOD.items() if name != "seed"})
    with pytest.raises(AxionError, match="typo"):
        read_request("a", GOOD | {"typo": 1})


def test_controls_start_with_the_example_or_the_defaults():
    trace = {"prompt": "# Pergunta:\n", "sampling": GOOD}
    assert starting_values(trace) == {"prompt": "# Pergunta:\n"} | GOOD
    defaults = {"prompt": None} | {name: getattr(Sampling(), name) for name in LIMITS}
    assert starting_values(None) == defaults
    assert starting_values({"prompt": "a", "sampling": GOOD | {"temperature": 4.0}}) == defaults
