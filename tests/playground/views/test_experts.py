"""The view of the experts in a bare page: its numbers match the release's files, and texts are escaped."""

import json
from collections import Counter

import pytest

from playground.content.experts import DEAD_BELOW, describe_experts
from playground.generate.catalogue import Catalogue
from playground.locales import by_language
from playground.server.tabs.experts import error_json, experts_json
from tests.playground.conftest import HOSTILE
from tests.support.measured import expert_load, favourites, make_release, write_info, write_trace

pytestmark = pytest.mark.browser
EN = by_language("experts")["en"]
MANY = 16
WHITE = {" ": "␣", "\n": "↵", " a": "␣a", ":\n": ":↵"}


def opened(folder):
    return Catalogue([str(folder)]).open(folder.name)


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
def value(measured) -> str:
    return experts_json(opened(measured))


@pytest.fixture(scope="module")
def many(tiny_release, tmp_path_factory) -> str:
    """The value of a release whose first layer is dense, with more experts than there are colours."""
    shape = {"n_routed_experts": MANY, "num_hidden_layers": 3, "first_k_dense_replace": 1}
    folder = make_release(tiny_release, tmp_path_factory.mktemp("experts") / "many", **shape)
    write_trace(folder, favourites=favourites(2, MANY, list("abcdefgh"), first_layer=2))
    write_info(folder, results={"expert_load": expert_load(2, MANY)})
    return experts_json(opened(folder))


def switch(page, part: str, label: str) -> None:
    page.locator(f"[data-part={part}] label", has_text=label).click()


def read(page, selector: str) -> list[str]:
    return page.locator(selector).evaluate_all("nodes => nodes.map((node) => node.textContent)")


def test_hostile_tokens_stay_text(view, value, many):
    shown = view("experts", value=value)
    page = shown.page
    texts = read(page, ".ax-card:first-child .ax-chips q")
    assert sorted(texts) == sorted([*HOSTILE, *WHITE.values()] * 2)  # the first expert of both layers
    shown.change(value=many)
    shown.change(value=value)
    page.wait_for_timeout(100)  # the error event of a broken image fires later
    assert page.evaluate("window.hacked") is None
    assert page.locator(".ax-experts img, .ax-experts script").count() == 0


@pytest.mark.parametrize("language", ["en", "pt"])
def test_the_loads_match_the_chosen_set(view, measured, value, language):
    page = view("experts", language=language, value=value).page
    load = json.loads((measured / "release.json").read_text())["results"]["expert_load"]
    sets = ("together", "validation", "arithmetic")
    labels = [by_language("experts")[language][f"set_{name}"] for name in sets]
    dead = {
        "en": "Dead, below 0.1× the fair share: L2.E3.",
        "pt": "Mortos, abaixo de 0,1× a parcela justa: L2.E3.",
    }
    for name, label in zip(sets, labels, strict=True):
        switch(page, "sets", label)
        expected = [f"{times:.2f}" for layer in load[name]["layers"] for times in layer]
        if language == "pt":
            expected = [times.replace(".", ",") for times in expected]
        assert read(page, ".ax-heat i") == expected
        assert read(page, ".ax-card-load span") == [f"{times}×" for times in expected]
        assert (dead[language] in read(page, "[data-part=verdicts] p")) == (name == "arithmetic")


def test_each_card_shows_lift_count_and_significance(view, measured, value):
    page = view("experts", value=value).page
    entry = json.loads((measured / "trace.json").read_text())["favourites"][5]
    card = page.locator(".ax-card").nth(5)
    assert card.locator("h4").text_content() == f"L{entry['layer']}.E{entry['expert']}"
    for name in ("together", "arithmetic"):
        switch(page, "sets", by_language("experts")["en"][f"set_{name}"])
        load = json.loads((measured / "release.json").read_text())["results"]["expert_load"][name]["layers"]
        share = load[entry["layer"] - 1][entry["expert"] - 1] * 2 / 4  # of two experts a token among four
        assert f"{100 * share:.1f}%" in card.locator("header").text_content(), "the share follows the chosen set"
    bound = describe_experts(opened(measured))["bound"]
    expected = Counter(
        f"{token['lift']:.2f}×{'*' if token['z'] > bound else ''}{token['count']:,}" for token in entry["tokens"]
    )
    rows = card.locator(".ax-chips li:not(.ax-chips-head)").evaluate_all(
        "rows => rows.map((row) => row.querySelector('b').textContent + row.querySelector('span').textContent)"
    )
    assert Counter(rows) == expected
    assert any("*" in text for text in expected) and not all("*" in text for text in expected)
    assert f"{bound:.1f} standard deviations" in page.locator("[data-part=rule]").text_content()


def test_favourites_stand_in_their_sentences(view, tiny_release, tmp_path):
    folder = make_release(tiny_release, tmp_path / "told")
    counted = favourites(2, 4, ["rare", "often", "third", "last"])
    for place, token in enumerate(counted[0]["tokens"]):
        token |= {"lift": 1.9 - place / 10, "count": 10 ** (place + 1), "seen": 10 ** (place + 1) + 1}
        token["context"] = ["<b>Ana\n", token["text"], " fish"]
    write_trace(folder, favourites=counted)
    write_info(folder, results={"expert_load": expert_load(2, 4)})
    page = view("experts", value=experts_json(opened(folder))).page
    card = page.locator(".ax-card").first
    ranked = card.locator(".ax-chips q").all_text_contents()
    assert ranked == ["last", "third", "often", "rare"], "the highest lift has the least evidence"
    assert card.locator("mark").all_text_contents() == ranked
    assert card.locator(".ax-contexts li").first.text_content() == "<b>Ana↵last fish"
    assert card.locator("details mark").all_text_contents() == ["rare"]
    assert page.locator(".ax-card").nth(1).locator(".ax-contexts").count() == 0


def test_many_experts_are_shown_a_layer_at_a_time(view, many):
    page = view("experts", value=many).page
    assert read(page, ".ax-experts h3") == ["Layer 2"]
    assert page.locator(".ax-heat i").count() == 2 * MANY
    switch(page, "layers", "L3")
    assert read(page, ".ax-experts h3") == ["Layer 3"]
    assert read(page, ".ax-card h4") == [f"L3.E{expert}" for expert in range(1, MANY + 1)]
    assert (
        page.locator(".ax-card .ax-chips span").nth(3).text_content() == "3,017"
    )  # after the headers of three columns


def test_missing_results_are_explained(view, value, tiny_release, tmp_path):
    dense = experts_json(opened(make_release(tiny_release, tmp_path / "dense", first_k_dense_replace=2)))
    bare = experts_json(opened(make_release(tiny_release, tmp_path / "bare")))
    shown = view("experts", value=dense)
    page = shown.page
    assert "This model has no experts" in page.locator(".ax-experts").text_content()
    assert page.locator(".ax-panel:visible").count() == 0
    shown.change(value=bare)
    assert "experts have not been measured: python -m publish" in page.locator(".ax-experts").text_content()
    assert "experts has not been measured: python -m publish" in page.locator("[data-part=verdicts]").text_content()
    shown.change(value=error_json("odd: trace.json is broken"))
    assert page.locator(".ax-error").text_content() == "odd: trace.json is broken"
    shown.change(value=value)
    assert page.locator(".ax-card").count() == 8 and page.locator(".ax-error").is_hidden()


def test_changing_the_language_translates_the_text(view, value):
    shown = view("experts", value=value)
    shown.set_language("pt")
    assert read(shown.page, ".ax-experts h3") == ["Camada 1", "Camada 2"]
    assert "A parcela justa é 50% de todos os tokens" in shown.page.locator("[data-part=verdicts]").text_content()
    assert "recebe 26,0% dos tokens" in read(shown.page, ".ax-card header")[2]


def test_a_phone_shows_one_layer_without_horizontal_scrolling(view, value):
    page = view("experts", value=value, context={"viewport": {"width": 390, "height": 800}}).page
    assert read(page, ".ax-experts h3") == ["Layer 1"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_is_lost_without_each_expert_is_measured_on_request(view, value):
    shown = view("experts", value=value)
    page = shown.page
    page.get_by_role("button", name=EN["measure"]).click()
    assert page.locator("[data-part=measure]").text_content() == EN["measuring"]
    assert shown.asked("measure") == [{"model": "measured"}]
    cells = [
        {"layer": layer, "expert": expert, "nats_per_token": 0.1 * expert - 0.15 * layer, "accuracy": -0.01 * expert}
        for layer in (1, 2)
        for expert in (1, 2, 3, 4)
    ]
    whole = {"documents": 200, "tokens": 12345, "nats_per_token": 1.25, "accuracy": 0.5}
    found = {"model": "measured", "experts": 4, "layers": [1, 2], **whole, "absences": cells[:-1]}
    shown.change(absences=json.dumps(found))
    heat = "[data-part=absence-heat] i"
    assert read(page, heat) == ["−0.050", "+0.050", "+0.150", "+0.250", "−0.200", "−0.100", "+0.000", "–"]
    assert "12,345 tokens" in page.locator("[data-part=absences-whole]").text_content()
    switch(page, "absence-kinds", EN["absence_accuracy"])
    assert read(page, heat)[:4] == ["−1.0%", "−2.0%", "−3.0%", "−4.0%"]
    assert page.locator("[data-part=measure]").is_hidden()
    shown.change(absences=json.dumps({"error": "no documents"}))
    assert page.locator("[data-part=absences-error]").text_content() == "no documents"
