"""The Experts tab: its numbers match the release's files, and the text of tokens is escaped."""

import json
from itertools import product
from statistics import NormalDist

import pytest

from axion.errors import AxionError
from axion.evaluation.results import with_current_names
from axion.inference.routing import log_likelihood_ratio
from axion.release import RELEASES
from playground.content.experts import (
    DEAD_BELOW,
    ERROR_RATE,
    KINDS,
    TOKENS_OF_MANY,
    chance_of_at_least,
    describe_experts,
    significance_bound,
    token_kind,
)
from playground.generate.catalogue import Catalogue
from playground.locales import by_language
from playground.server.tabs.experts import error_json, experts_json
from tests.playground.conftest import HOSTILE
from tests.support.measured import LOAD_SETS, expert_load, favourites, make_release, write_info, write_trace

TEXT = by_language("experts")

MANY = 16
WHITE = {" ": "␣", "\n": "↵", " a": "␣a", ":\n": ":↵"}


def describe(folder) -> dict:
    return describe_experts(Catalogue([str(folder)]).open(folder.name))


@pytest.fixture(scope="module")
def measured(tiny_release, tmp_path_factory):
    """A release of 2 layers × 4 experts with favourites and loads, one expert dead on arithmetic."""
    folder = make_release(tiny_release, tmp_path_factory.mktemp("experts") / "measured")
    write_trace(folder, favourites=favourites(2, 4, [*HOSTILE, *WHITE]))
    load = expert_load(2, 4)
    load["arithmetic"]["layers"][1][2] = DEAD_BELOW / 2
    write_info(folder, name="measured", results={"expert_load": load})
    return folder


@pytest.fixture(scope="module")
def many(tiny_release, tmp_path_factory):
    """A release whose first layer is dense, with more experts than there are colours."""
    shape = {"n_routed_experts": MANY, "num_hidden_layers": 3, "first_k_dense_replace": 1}
    folder = make_release(tiny_release, tmp_path_factory.mktemp("experts") / "many", **shape)
    write_trace(folder, favourites=favourites(2, MANY, list("abcdefgh"), first_layer=2))
    write_info(folder, results={"expert_load": expert_load(2, MANY)})
    return folder


@pytest.fixture(scope="module")
def dense(tiny_release, tmp_path_factory):
    return make_release(tiny_release, tmp_path_factory.mktemp("experts") / "dense", first_k_dense_replace=2)


@pytest.mark.skipif(not (RELEASES / "axion1-v0.1").is_dir(), reason="releases/axion1-v0.1 is not built")
def test_numbers_of_the_bundled_release_match_its_files():
    shown = describe_experts(Catalogue().open("axion1-v0.1"))
    trace, info = (json.loads((RELEASES / "axion1-v0.1" / name).read_text()) for name in ("trace.json", "release.json"))
    for entry in trace["favourites"]:
        card = shown["cards"][entry["layer"] - 1][entry["expert"] - 1]
        assert card["share"] == entry["share"]
        told = [[*list(token.values())[:5], token.get("context")] for token in entry["tokens"]]
        assert sorted(card["tokens"]) == sorted(told)
        evidence = [log_likelihood_ratio(count, seen, entry["share"]) for _, count, seen, *_ in card["tokens"]]
        assert evidence == sorted(evidence, reverse=True) and evidence[-1] > 0
    measured = with_current_names(info["results"])["expert_load"]
    for name in LOAD_SETS:
        assert shown["load"][name] == measured[name]["layers"]
    assert shown["command"] == info["results"]["expert_load"]["command"]


def test_dead_experts_are_those_below_the_stated_fraction(measured):
    shown = describe(measured)
    assert shown["dead"] == {"together": [], "validation": [], "arithmetic": [[1, 3]]}
    assert shown["dead_below"] == DEAD_BELOW


def test_layers_are_counted_from_the_models_first(many):
    shown = describe(many)
    assert (shown["layers"], shown["first_layer"], shown["experts"]) == (2, 2, MANY)
    for row, expert in product(range(2), range(MANY)):
        assert shown["cards"][row][expert]["tokens"][0][1] == 1000 * (row + 2) + 10 * (expert + 1) + 7
    assert {len(card["tokens"]) for layer in shown["cards"] for card in layer} == {TOKENS_OF_MANY}


def test_significance_uses_the_bonferroni_correction(measured):
    shown = describe(measured)
    assert shown["looked_at"] == 320 * 2 * 4  # vocabulary × layers × experts
    one_by_accident = shown["looked_at"] * (1 - NormalDist().cdf(shown["bound"]))
    assert one_by_accident == pytest.approx(ERROR_RATE, rel=1e-6)
    assert significance_bound(1) == pytest.approx(1.645, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("7", "digit"), (" 12", "digit"), (" the", "word"), ("é", "word"), ("+", "sign"), (" ", "space"), (":\n", "line")],
)
def test_kinds_of_tokens(text, kind):
    assert token_kind(text) == kind and kind in KINDS
    assert token_kind(text, {text}) == "special"


def test_an_expert_has_a_leaning_only_where_it_is_significant(tiny_release, tmp_path):
    folder = make_release(tiny_release, tmp_path / "leaning")
    entries = favourites(2, 4, [f"w{letter}" for letter in "abcdefghijkl"])
    for place, token in enumerate(entries[1]["tokens"]):
        token["text"] = str(place)
    write_trace(folder, favourites=entries)
    cards = describe(folder)["cards"]
    assert cards[0][1]["leaning"] == ["digit", 12, 12, 12, 48]
    assert cards[0][1]["kinds"] == [["digit", 12]]
    assert [card["leaning"] for card in cards[1]] == [None] * 4  # only words, like the whole layer
    assert chance_of_at_least(12, 12, 12, 48) < ERROR_RATE / (8 * len(KINDS)) < chance_of_at_least(5, 12, 12, 48)


def test_tail_probabilities():
    assert chance_of_at_least(0, 5, 7, 20) == 1
    assert chance_of_at_least(1, 1, 5, 20) == 0.25
    assert chance_of_at_least(2, 2, 2, 4) == pytest.approx(1 / 6)


def test_older_releases_show_what_they_contain(tiny_release, tmp_path):
    folder = make_release(tiny_release, tmp_path / "older")
    assert describe(folder)["cards"] is None and describe(folder)["load"] == {}
    token = {"text": "+", "count": 60, "lift": 1.9}
    write_trace(folder, favourites=[{"layer": 1, "expert": 2, "share": 0.5, "tokens": [token]}])
    cards = describe(folder)["cards"]
    assert cards[0][1]["tokens"] == [["+", 60, None, 1.9, None, None]]
    assert cards[0][0] is None and cards[1] == [None] * 4


@pytest.mark.parametrize(
    "broken",
    [
        [{"layer": 9, "expert": 1, "share": 0.5, "tokens": []}],
        [{"layer": 1, "expert": 0, "share": 0.5, "tokens": []}],
        [{"layer": 1, "expert": 1, "share": 0.5, "tokens": [{"text": 3, "count": 1, "lift": 2}]}],
        [{"layer": 1, "expert": 1, "share": float("nan"), "tokens": []}],
        [{}],
        {"layer": 1},
        7,
    ],
)
def test_broken_favourites_are_reported(tiny_release, tmp_path, broken):
    folder = make_release(tiny_release, tmp_path / "odd")
    write_trace(folder, favourites=broken)
    with pytest.raises(AxionError, match=r"odd: trace\.json (is broken|cannot be read: NaN is not valid JSON)"):
        describe(folder)


@pytest.mark.parametrize("layers", [[[1.0, 1.0]], [[1.0] * 4, ["x"] * 4], [[1.0] * 4, [float("inf")] * 4], 3])
def test_broken_loads_are_reported(tiny_release, tmp_path, layers):
    folder = make_release(tiny_release, tmp_path / "odd")
    write_info(folder, results={"expert_load": {"together": {"layers": layers}}})
    with pytest.raises(AxionError, match=r"odd: release\.json (is broken: its expert_load|cannot be read: Infi)"):
        describe(folder)


def test_every_kind_and_every_set_has_a_name():
    for text in TEXT.values():
        assert all(f"kind_{kind}" in text for kind in KINDS) and all(f"set_{name}" in text for name in LOAD_SETS)


def test_the_value_is_json_even_if_something_is_wrong(dense):
    assert json.loads(experts_json(Catalogue([str(dense)]).open("dense")))["layers"] == 0
    assert json.loads(error_json("it's <broken>")) == {"error": "it's <broken>", "layers": 0}
