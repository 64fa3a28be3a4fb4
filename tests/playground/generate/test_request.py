"""Validation of visitors' requests."""

import math

import pytest

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from playground.generate.request import (
    DEFAULTS,
    LIMITS,
    MAX_PROMPT_CHARACTERS,
    check_forced,
    check_prompt,
    check_settings,
    prompt_problems,
    read_example,
    settings_of,
    settings_problems,
)

GOOD = {
    "temperature": 0.8,
    "top_k": 50,
    "top_p": 0.95,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "max_new_tokens": 80,
    "min_new_tokens": 10,
    "num_loops": 3,
    "seed": 7,
}


def test_valid_settings_become_a_sampling():
    assert check_settings(GOOD) == Sampling(**GOOD)
    assert settings_of(Sampling(**GOOD)) == GOOD
    assert check_prompt("# Pergunta:\n") == "# Pergunta:\n"


def test_whole_numbers_may_arrive_as_floats():
    assert isinstance(check_settings(GOOD | {"seed": 7.0}).seed, int)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, None, "1", [1], {}, -1, 10**30, 1j])
def test_bad_numbers_are_refused_by_name(name, value):
    with pytest.raises(AxionError, match=name):
        check_settings(GOOD | {name: value})
    assert list(settings_problems(GOOD | {name: value}, "en")) == [name]


@pytest.mark.parametrize("name", ["top_k", "max_new_tokens", "seed"])
def test_fractions_are_refused_for_whole_numbers(name):
    with pytest.raises(AxionError, match=name):
        check_settings(GOOD | {name: 1.5})


@pytest.mark.parametrize("name", LIMITS)
def test_ranges_include_both_ends_and_nothing_beyond(name):
    limit = LIMITS[name]
    others = GOOD | {"min_new_tokens": 0, "max_new_tokens": LIMITS["max_new_tokens"].high}
    for value in (limit.low, limit.high):
        assert getattr(check_settings(others | {name: value}), name) == value
    with pytest.raises(AxionError, match=name):
        check_settings(others | {name: limit.high + limit.step})


def test_contradictory_numbers_are_refused_by_the_one_to_change():
    assert list(settings_problems(GOOD | {"min_new_tokens": 81}, "en")) == ["min_new_tokens"]
    assert list(settings_problems(GOOD | {"temperature": 0.001}, "en")) == ["temperature"]
    for wrong in ({"min_new_tokens": 81}, {"temperature": 0.001}):
        with pytest.raises(AxionError):
            check_settings(GOOD | wrong)


@pytest.mark.parametrize("forced", [None, 3, "12", [1.0], [True], [-1], [None], [[1]], {"1": 1}, [0] * 513])
def test_bad_forced_tokens_are_refused(forced):
    with pytest.raises(AxionError, match="forced"):
        check_forced(forced)


def test_forced_tokens_are_kept_in_order():
    assert check_forced([5, 3, 5]) == (5, 3, 5)


def test_refusals_are_translated():
    [english], [portuguese] = (prompt_problems("", language).values() for language in ("en", "pt"))
    assert "empty" in english and "vazio" in portuguese
    assert "número inteiro" in settings_problems(GOOD | {"seed": 1.5}, "pt")["seed"]
    assert "9007199254740991" in settings_problems(GOOD | {"seed": 2**53}, "en")["seed"]
    assert "de 0,05 a 1," in settings_problems(GOOD | {"top_p": 0}, "pt")["top_p"]
    assert "8.001" in prompt_problems("x" * 8001, "pt")["prompt"]


@pytest.mark.parametrize("prompt", ["", None, 5, ["a"], "\ud800", "x" * (MAX_PROMPT_CHARACTERS + 1)])
def test_bad_prompts_are_refused(prompt):
    with pytest.raises(AxionError, match="prompt") as caught:
        check_prompt(prompt)
    assert len(str(caught.value)) < 200
    assert list(prompt_problems(prompt, "en")) == ["prompt"]


def test_missing_and_unknown_settings_are_refused():
    with pytest.raises(AxionError, match="seed"):
        check_settings({name: value for name, value in GOOD.items() if name != "seed"})
    with pytest.raises(AxionError, match="typo"):
        check_settings(GOOD | {"typo": 1})


def test_an_example_is_reproduced_only_if_the_page_offers_its_settings():
    assert read_example({"prompt": "# Pergunta:\n", "sampling": GOOD}) == ("# Pergunta:\n", Sampling(**GOOD))
    assert read_example({"prompt": "a", "sampling": {}}) == ("a", Sampling())
    assert read_example(None) is None
    assert read_example({"prompt": "a", "sampling": GOOD | {"temperature": 4.0}}) is None
    assert read_example({"prompt": "", "sampling": GOOD}) is None
    assert settings_of(Sampling()) == DEFAULTS
