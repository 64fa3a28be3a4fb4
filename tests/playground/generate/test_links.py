"""Shared links, and the requests of views."""

import math
import shutil
from dataclasses import asdict
from urllib.parse import parse_qsl

import pytest

from axion.data.asking import problem_prompt
from axion.errors import AxionError
from axion.inference.sampling import Sampling
from playground.generate.catalogue import Catalogue
from playground.generate.links import (
    is_comparison,
    is_link,
    linked_release,
    own_query,
    read_comparison,
    read_link,
)
from playground.generate.request import read_request

SAMPLING = {"temperature": 0.7, "top_k": 5, "seed": 2**53 - 1, "max_new_tokens": 3}


@pytest.fixture(scope="module")
def catalogue(releases):
    return Catalogue([str(releases / name) for name in ("plain", "endless", "broken")])


def from_address(catalogue, query: str):
    return read_link(catalogue, dict(parse_qsl(query, keep_blank_values=True)))


def test_a_link_contains_the_whole_request(catalogue):
    request = from_address(
        catalogue, "model=endless&prompt=5+%2B+3%0A%C3%A9&seed=7&temperature=0.05&top_p=.5&forced=12.7.300&lang=pt&x=1"
    )
    assert request.model == "endless"
    assert request.prompt == "5 + 3\né"
    assert request.forced == (12, 7, 300)
    assert request.sampling == Sampling(seed=7, temperature=0.05, top_p=0.5)


def test_a_link_keeps_what_was_typed_beside_the_prompt(catalogue):
    prompt = "prompt=%23+Pergunta:%0AWhat+is+5+%2B+3?%0A--%0A%23+Resposta:%0A"
    asked = from_address(catalogue, f"{prompt}&question=5%2B3")
    assert (asked.prompt, asked.question) == (problem_prompt("5+3", language="en"), "5+3")
    for other in ("", "&question=", "&question=5%2B4", "&question=" + "9" * 9000):
        assert from_address(catalogue, prompt + other).question is None, "older links, and those that do not fit"


def test_a_link_without_a_model_or_settings_uses_the_defaults(catalogue):
    request = from_address(catalogue, "prompt=1")
    assert (request.model, request.sampling, request.forced) == ("plain", Sampling(), ())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("prompt=", "prompt is empty"),
        ("forced=1.2", "prompt is empty"),
        ("prompt=a&model=/etc", "does not offer that model; the models are plain, endless, broken"),
        ("prompt=a&model=", "does not offer that model"),
        ("prompt=a&model=broken", "config.json cannot be read"),
        ("prompt=" + "a" * 8001, "8,001 characters"),
        ("prompt=%ED%A0%80\ud800", "surrogate"),
        ("prompt=a&seed=1.5", "seed must be"),
        ("prompt=a&seed=-1", "seed must be"),
        ("prompt=a&seed=9007199254740993", "seed must be"),
        ("prompt=a&seed=" + "9" * 5000, "seed must be"),
        ("prompt=a&seed=", "seed must be"),
        ("prompt=a&seed=1e3", "seed must be"),
        ("prompt=a&seed=1_0", "seed must be"),
        ("prompt=a&seed=٣", "seed must be"),
        ("prompt=a&temperature=nan", "temperature must be"),
        ("prompt=a&temperature=inf", "temperature must be"),
        ("prompt=a&temperature=3", "temperature must be"),
        ("prompt=a&temperature=0.001", "temperature must be"),
        ("prompt=a&top_p=0", "top_p must be"),
        ("prompt=a&min_new_tokens=9&max_new_tokens=3", "must not exceed max_new_tokens"),
        ("prompt=a&forced=1.x", "ids separated by dots"),
        ("prompt=a&forced=1..2", "ids separated by dots"),
        ("prompt=a&forced=-1", "ids separated by dots"),
        ("prompt=a&forced=320", "plain has no token 320; its token ids are 0 to 319"),
        ("prompt=a&forced=" + ".".join(["1"] * 513), "513 tokens"),
    ],
    ids=lambda text: text[:40].encode("ascii", "replace").decode(),
)
def test_a_bad_link_is_refused_with_a_reason(catalogue, query, said):
    with pytest.raises(AxionError, match=said):
        from_address(catalogue, query)


@pytest.mark.parametrize(
    ("query", "link"), [("lang=pt", False), ("__theme=dark", False), ("", False), ("prompt=", True), ("forced=1", True)]
)
def test_only_a_generation_makes_a_link(query, link):
    assert is_link(dict(parse_qsl(query, keep_blank_values=True))) is link


def test_the_request_of_a_view_is_parsed(catalogue):
    request = read_request(catalogue, {"model": "plain", "prompt": "a", "sampling": SAMPLING, "forced": [3, 4]})
    assert request.forced == (3, 4)
    assert asdict(request.sampling) == asdict(Sampling(**SAMPLING))


GOOD = {"model": "plain", "prompt": "a", "sampling": SAMPLING, "forced": [3]}


@pytest.mark.parametrize(
    "asked",
    [
        None,
        [],
        "plain",
        7,
        GOOD | {"model": None},
        GOOD | {"model": ["plain"]},
        GOOD | {"model": {"plain": 1}},
        GOOD | {"prompt": None},
        GOOD | {"prompt": ["a"]},
        GOOD | {"sampling": None},
        GOOD | {"sampling": [1]},
        GOOD | {"sampling": {"temperature": "0.5"}},
        GOOD | {"sampling": {"temperature": math.nan}},
        GOOD | {"sampling": {"seed": True}},
        GOOD | {"sampling": {"secret": 1}},
        GOOD | {"forced": None},
        GOOD | {"forced": "3"},
        GOOD | {"forced": {"0": 3}},
        GOOD | {"forced": [3.0]},
        GOOD | {"forced": [True]},
        GOOD | {"forced": [-1]},
        GOOD | {"forced": [[3]]},
        GOOD | {"forced": [10**30]},
        GOOD | {"forced": [1] * 513},
    ],
    ids=lambda asked: str(asked)[:60],
)
def test_invalid_data_from_a_browser_is_refused(catalogue, asked):
    with pytest.raises(AxionError):
        read_request(catalogue, asked)


def test_a_link_to_a_comparison_names_what_is_common_and_what_is_not(catalogue):
    query = dict(
        parse_qsl(
            "prompt=5&seed=7&a_model=plain&b_model=endless&b_temperature=0.8&a_release=0123456789ab&b_release=x&lang=pt"
        )
    )
    assert is_comparison(query) and not is_link(query)
    asked = read_comparison(catalogue, query)
    assert [(each.model, each.prompt, each.sampling.seed) for each in asked.values()] == [
        ("plain", "5", 7),
        ("endless", "5", 7),
    ]
    assert [each.sampling.temperature for each in asked.values()] == [0, 0.8]
    assert [linked_release(own_query(query, side)) for side in asked] == ["0123456789ab", ""]
    with pytest.raises(AxionError, match="temperature must be"):
        read_comparison(catalogue, query | {"b_temperature": "9"})


def test_the_hash_of_a_release_follows_what_decides_its_texts(catalogue, releases, tmp_path):
    opened = catalogue.open("plain")
    assert opened.fingerprint != catalogue.open("endless").fingerprint  # another end of text
    copy = shutil.copytree(releases / "plain", tmp_path / "copy")
    (copy / "README.md").write_text("another card", encoding="utf-8")
    assert Catalogue([str(copy)]).open("copy").fingerprint == opened.fingerprint
