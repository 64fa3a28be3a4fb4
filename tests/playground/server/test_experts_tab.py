"""The tab about the experts: its numbers are those of the release's files, and a token's text stays text."""

import json
from collections import Counter
from itertools import product
from statistics import NormalDist

import pytest

from axion.errors import AxionError
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
from playground.locales.experts import TEXT
from playground.server.tabs.experts import error_json, experts_json
from tests.playground.conftest import HOSTILE, choose_language, open_tab, served
from tests.support.measured import LOAD_SETS, expert_load, favourites, make_release, write_info, write_trace

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
def test_the_bundled_release_s_numbers_are_those_of_its_files():
    shown = describe_experts(Catalogue().open("axion1-v0.1"))
    trace, info = (json.loads((RELEASES / "axion1-v0.1" / name).read_text()) for name in ("trace.json", "release.json"))
    for entry in trace["favourites"]:
        card = shown["cards"][entry["layer"] - 1][entry["expert"] - 1]
        assert card["share"] == entry["share"]
        assert sorted(card["tokens"]) == sorted(list(token.values()) for token in entry["tokens"])
        lifts = [(token[3], token[1]) for token in card["tokens"]]
        assert lifts == sorted(lifts, reverse=True)
    for name in LOAD_SETS:
        assert shown["load"][name] == info["results"]["expert_load"][name]["layers"]
    assert shown["command"] == info["results"]["expert_load"]["command"]


def test_the_dead_are_those_below_the_stated_fraction(measured):
    shown = describe(measured)
    assert shown["dead"] == {"together": [], "gsm8k_validation": [], "arithmetic": [[2, 3]]}
    assert shown["dead_below"] == DEAD_BELOW


def test_layers_are_counted_from_the_model_s_first(many):
    shown = describe(many)
    assert (shown["layers"], shown["first_layer"], shown["experts"]) == (2, 2, MANY)
    for row, expert in product(range(2), range(MANY)):
        assert shown["cards"][row][expert]["tokens"][0][1] == 1000 * (row + 2) + 10 * (expert + 1) + 7
    assert {len(card["tokens"]) for layer in shown["cards"] for card in layer} == {TOKENS_OF_MANY}


def test_significance_is_bonferroni_s(measured):
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


def test_an_expert_leans_where_its_list_is_no_accident(tiny_release, tmp_path):
    folder = make_release(tiny_release, tmp_path / "leaning")
    entries = favourites(2, 4, [f"w{letter}" for letter in "abcdefghijkl"])
    for place, token in enumerate(entries[1]["tokens"]):
        token["text"] = str(place)
    write_trace(folder, favourites=entries)
    cards = describe(folder)["cards"]
    assert cards[0][1]["leaning"] == ["digit", 12, 12, 12, 48]
    assert cards[0][1]["kinds"] == [["digit", 12]]
    assert [card["leaning"] for card in cards[1]] == [None] * 4  # all words, as all of the layer
    assert chance_of_at_least(12, 12, 12, 48) < ERROR_RATE / (8 * len(KINDS)) < chance_of_at_least(5, 12, 12, 48)


def test_chance_adds_up_to_certainty():
    assert chance_of_at_least(0, 5, 7, 20) == 1
    assert chance_of_at_least(1, 1, 5, 20) == 0.25
    assert chance_of_at_least(2, 2, 2, 4) == pytest.approx(1 / 6)


def test_older_releases_show_what_they_have(tiny_release, tmp_path):
    folder = make_release(tiny_release, tmp_path / "older")
    assert describe(folder)["cards"] is None and describe(folder)["load"] == {}
    token = {"text": "+", "count": 60, "lift": 1.9}
    write_trace(folder, favourites=[{"layer": 1, "expert": 2, "share": 0.5, "tokens": [token]}])
    cards = describe(folder)["cards"]
    assert cards[0][1]["tokens"] == [["+", 60, None, 1.9, None]]
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
def test_broken_favourites_are_told(tiny_release, tmp_path, broken):
    folder = make_release(tiny_release, tmp_path / "odd")
    write_trace(folder, favourites=broken)
    with pytest.raises(AxionError, match=r"odd: trace\.json (is broken|cannot be read: NaN is not valid JSON)"):
        describe(folder)


@pytest.mark.parametrize("layers", [[[1.0, 1.0]], [[1.0] * 4, ["x"] * 4], [[1.0] * 4, [float("inf")] * 4], 3])
def test_broken_loads_are_told(tiny_release, tmp_path, layers):
    folder = make_release(tiny_release, tmp_path / "odd")
    write_info(folder, results={"expert_load": {"together": {"layers": layers}}})
    with pytest.raises(AxionError, match=r"odd: release\.json (is broken: its expert_load|cannot be read: Infi)"):
        describe(folder)


def test_every_kind_and_every_set_has_words():
    for text in TEXT.values():
        assert all(f"kind_{kind}" in text for kind in KINDS) and all(f"set_{name}" in text for name in LOAD_SETS)


def test_the_value_is_json_also_where_something_is_wrong(dense):
    assert json.loads(experts_json(Catalogue([str(dense)]).open("dense")))["layers"] == 0
    assert json.loads(error_json("it's <broken>")) == {"error": "it's <broken>", "layers": 0}


# ------------------------------------------------------------------------------------------------------- in the browser


@pytest.fixture(scope="module")
def address(measured, many, dense, tiny_release, tmp_path_factory):
    bare = make_release(tiny_release, tmp_path_factory.mktemp("experts") / "bare")
    odd = make_release(tiny_release, tmp_path_factory.mktemp("experts") / "odd")
    write_trace(odd, favourites=7)
    with served([str(folder) for folder in (measured, many, dense, bare, odd)]) as running:
        yield running.address


@pytest.fixture
def tab(browser, address):
    """The tab, open; the test fails if the page raised a script error."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    open_tab(page, "Experts")
    page.wait_for_selector(".ax-experts")
    yield page
    page.close()
    assert not errors


def choose(page, model: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=model, exact=True).click()
    page.wait_for_function("name => document.querySelector('#model input').value === name", arg=model)


def switch(page, part: str, label: str) -> None:
    page.locator(f".ax-experts [data-part={part}] label", has_text=label).click()


def read(page, selector: str) -> list[str]:
    return page.locator(selector).evaluate_all("nodes => nodes.map((node) => node.textContent)")


@pytest.mark.browser
def test_hostile_tokens_stay_text(tab, measured):
    shown = read(tab, ".ax-card:first-child .ax-chips q")
    assert sorted(shown) == sorted([*HOSTILE, *WHITE.values()] * 2)  # the first expert of both layers
    tab.wait_for_timeout(300)  # an image that fails to load tells so later
    assert tab.evaluate("window.hacked") is None
    assert tab.locator(".ax-experts img, .ax-experts script").count() == 0
    choose(tab, "many")
    choose(tab, "measured")
    tab.wait_for_selector(".ax-chips q:text('window.hacked=2')")
    tab.wait_for_timeout(300)
    assert tab.evaluate("window.hacked") is None


@pytest.mark.browser
def test_the_loads_are_those_of_the_chosen_set(tab, measured):
    load = json.loads((measured / "release.json").read_text())["results"]["expert_load"]
    for name, label in (("together", "everything"), ("gsm8k_validation", "GSM8K"), ("arithmetic", "arithmetic")):
        switch(tab, "sets", label)
        expected = [f"{times:.2f}" for layer in load[name]["layers"] for times in layer]
        assert read(tab, ".ax-heat i") == expected
        assert read(tab, ".ax-card-load span") == [f"{times}×" for times in expected]
        dead = "Dead, under 0.1× the fair share: E3 of layer 2." in read(tab, "[data-part=verdicts] p")
        assert dead == (name == "arithmetic")


@pytest.mark.browser
def test_each_card_tells_lift_count_and_significance(tab, measured):
    entry = json.loads((measured / "trace.json").read_text())["favourites"][5]
    card = tab.locator(".ax-card").nth(5)
    assert card.locator("h4").text_content() == f"E{entry['expert']}"
    assert f"{100 * entry['share']:.1f}%" in card.locator("header").text_content()
    bound = describe(measured)["bound"]
    expected = Counter(
        f"{token['lift']:.2f}×{'*' if token['z'] > bound else ''}{token['count']:,}" for token in entry["tokens"]
    )
    shown = card.locator(".ax-chips li:not(.ax-chips-head)").evaluate_all(
        "rows => rows.map((row) => row.querySelector('b').textContent + row.querySelector('span').textContent)"
    )
    assert Counter(shown) == expected
    assert any("*" in text for text in expected) and not all("*" in text for text in expected)
    assert f"{bound:.1f} standard deviations" in tab.locator("[data-part=rule]").text_content()


@pytest.mark.browser
def test_many_experts_are_shown_a_layer_at_a_time(tab):
    choose(tab, "many")
    tab.wait_for_function("n => document.querySelectorAll('.ax-card').length === n", arg=MANY)
    assert read(tab, ".ax-experts h3") == ["Layer 2"]
    assert tab.locator(".ax-heat i").count() == 2 * MANY
    switch(tab, "layers", "L3")
    assert read(tab, ".ax-experts h3") == ["Layer 3"]
    assert read(tab, ".ax-card h4") == [f"E{expert}" for expert in range(1, MANY + 1)]
    assert tab.locator(".ax-card .ax-chips span").nth(3).text_content() == "3,017"  # after the heads of three columns


@pytest.mark.browser
def test_what_is_missing_is_said(tab):
    choose(tab, "dense")
    tab.wait_for_selector(".ax-experts:has-text('This model has no experts')")
    assert tab.locator(".ax-panel:visible").count() == 0
    choose(tab, "bare")
    tab.wait_for_selector(".ax-experts:has-text('its trace.json has no favourites')")
    assert "its release.json has no expert_load" in tab.locator("[data-part=verdicts]").text_content()
    choose(tab, "odd")
    tab.wait_for_selector(".ax-experts .ax-error:has-text('odd: trace.json is broken')")
    choose(tab, "measured")
    tab.wait_for_function("document.querySelectorAll('.ax-card').length === 8")
    assert tab.locator(".ax-experts .ax-error").is_hidden()


@pytest.mark.browser
def test_it_speaks_portuguese(tab):
    choose_language(tab, "pt")
    tab.wait_for_selector("h2:has-text('O que cada especialista prefere')")
    assert read(tab, ".ax-experts h3") == ["Camada 1", "Camada 2"]
    assert "A parte justa é 50% dos tokens" in tab.locator("[data-part=verdicts]").text_content()
    choose_language(tab, "en")
    tab.wait_for_selector("h2:has-text('What each expert favours')")


@pytest.mark.browser
def test_a_telephone_sees_one_layer_and_no_sideways_scroll(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(address)
    open_tab(page, "Experts")
    page.wait_for_selector(".ax-card")
    assert read(page, ".ax-experts h3") == ["Layer 1"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
