"""The view of two generations in a bare page."""

import csv
import io
import json
from itertools import takewhile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from axion.errors import AxionError
from playground.api.mcp import Tools
from playground.generate.catalogue import Catalogue
from playground.generate.comparison import compared_events
from playground.generate.links import read_comparison
from playground.generate.request import read_request
from playground.locales import by_language
from tests.playground.conftest import HOSTILE, answer
from tests.support.bare_page import to_text
from tests.support.measured import make_release

WORDS = by_language("trace", "comparison")

pytestmark = pytest.mark.browser
ROOT = "#comparison .axion-compare"
EN = WORDS["en"]
PROMPT = "# Pergunta:\nQuanto é 5 + 7?\n"


def compared(catalogue, a: dict, b: dict | str) -> list[dict]:
    """The events of both sides, each given as {"model", settings…} or as an error message."""

    def request(asked: dict | str) -> object:
        if isinstance(asked, str):
            return AxionError(asked)
        sampling = {"temperature": 0, "max_new_tokens": 12, "seed": 5, **asked}
        model, prompt = sampling.pop("model", "plain"), sampling.pop("prompt", PROMPT)
        return read_request(catalogue, {"model": model, "prompt": prompt, "sampling": sampling})

    return list(compared_events(catalogue, {"a": request(a), "b": request(b)}))


@pytest.fixture(scope="module")
def different(catalogue):
    return compared(catalogue, {"max_new_tokens": 24}, {"temperature": 2, "max_new_tokens": 24})


@pytest.fixture(scope="module")
def equal(catalogue):
    return compared(catalogue, {}, {})


def part(page, name):
    return page.locator(f"#comparison [data-part={name}]")


def read_tokens(page, side):
    tokens = part(page, f"side-{side}").locator(".av-tok")
    return tokens.evaluate_all("tokens => tokens.map(token => token.textContent)")


def steps_of(events, side):
    return [event for event in events if event["side"] == side and event["kind"] == "step"]


def new_text(steps):
    return "".join(step["t"] for step in steps if not step["prompt"])


def state(shown) -> str:
    return shown.page.locator(ROOT).get_attribute("data-state")


def test_the_first_difference_is_marked(view, different):
    shown = view("compare")
    page = shown.page
    assert state(shown) == "empty" and part(page, "empty").text_content() == EN["empty"]
    shown.change("waiting")
    assert state(shown) == "waiting" and part(page, "verdict").text_content() == EN["waiting"]
    shown.change("running", value=to_text(different[:30]))
    assert state(shown) == "running"
    shown.change("idle", value=to_text(different))
    assert state(shown) == "done"
    a, b = (steps_of(different, side) for side in "ab")
    for side, steps in (("a", a), ("b", b)):
        assert read_tokens(page, side) == [step["t"] for step in steps]
    pairs = zip(new_text(a), new_text(b), strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    verdict = part(page, "verdict").text_content()
    start = f"They differ after {common} equal characters: A" if common else "They differ from the start: A"
    assert verdict.startswith(start)
    assert part(page, "divergence").is_visible()
    assert part(page, "live").text_content() == f"Finished. {verdict}"
    count = int(part(page, "common").text_content().split()[0])
    shared = len(list(takewhile(lambda pair: pair[0]["id"] == pair[1]["id"], zip(a, b, strict=False))))
    assert 0 < count <= shared


def test_equal_texts_have_no_mark_and_are_aligned(view, equal):
    shown = view("compare")
    shown.show(equal)
    page = shown.page
    assert read_tokens(page, "a") == read_tokens(page, "b")
    assert part(page, "verdict").text_content() in (EN["identical"], EN["nothing"])
    assert not part(page, "divergence").is_visible()
    total = len(read_tokens(page, "a"))
    assert part(page, "common").text_content() == f"{total} of {total} common tokens were routed to the same experts."
    places = [
        part(page, f"ribbon-{side}").locator(".ac-col").evaluate_all("all => all.map(each => each.offsetLeft)")
        for side in "ab"
    ]
    assert places[0] == places[1] == sorted(places[0]) and places[0][-1] > places[0][0]


def test_two_models_or_an_error_are_shown_side_by_side(view, catalogue):
    shown = view("compare")
    page = shown.page
    shown.show(compared(catalogue, {}, {"model": "endless", "max_new_tokens": 30}))
    assert len(read_tokens(page, "b")) >= 30
    assert part(page, "common").text_content() == ""  # routing of different models is not comparable
    assert "endless" in part(page, "side-b").locator(".av-status").text_content()
    shown.show(compared(catalogue, {}, "config.json cannot be read"))
    assert part(page, "side-b").text_content() == "config.json cannot be read"
    assert len(read_tokens(page, "a")) > 6


def test_a_dense_model_has_no_experts_to_show(view, catalogue, tiny_release, tmp_path):
    folder = make_release(tiny_release, tmp_path / "dense", first_k_dense_replace=2)
    dense = Catalogue([str(folder)])
    start, *steps, _ = answer(dense, {"model": "dense", "prompt": PROMPT, "sampling": {"max_new_tokens": 12}})
    shape = {"layers": 0, "first_layer": None, "experts": 0, "experts_per_token": 0, "shared_experts": 0, "bias": []}
    assert {name: start[name] for name in shape} == shape
    assert all(step[name] == [] for step in steps for name in "egad")
    [listed] = [model for model in Tools(dense).list_models()["models"] if model["name"] == "dense"]
    assert {name: listed[name] for name in shape.keys() & listed.keys()} == {
        name: value for name, value in shape.items() if name != "bias"
    }

    shown = view("compare")
    events = compared(catalogue, {}, {"prompt": PROMPT})
    b = [{"side": "b", **event} for event in (start, *steps, {"kind": "end", "reason": "length"})]
    shown.show([*(event for event in events if event["side"] == "a"), *b])
    page = shown.page
    assert read_tokens(page, "b") == [step["t"] for step in steps]
    assert part(page, "side-a").locator(".av-cell").count() == 8
    assert part(page, "side-b").locator(".av-cell, .av-layers label").count() == 0
    assert (
        "no experts" in part(page, "side-b").text_content() and "no experts" not in part(page, "side-a").text_content()
    )
    assert part(page, "ribbons").is_visible()
    assert part(page, "ribbon-b").locator(".ac-col i, .av-row-labels span").count() == 0
    part(page, "side-b").locator(".av-tok").last.hover()
    assert "E1" not in part(page, "token").text_content() and part(page, "common").text_content() == ""
    shown.show([*({**event, "side": "a"} for event in b), *b])
    page.wait_for_function("document.querySelector('#comparison [data-part=ribbons]').hidden")


def test_hostile_text_runs_nothing(view, catalogue):
    prompt = "".join(HOSTILE)
    shown = view("compare")
    page = shown.page
    shown.show(compared(catalogue, {"prompt": prompt}, prompt))
    assert part(page, "side-a").locator(".av-text").text_content().startswith(prompt)
    assert part(page, "side-b").text_content() == prompt
    part(page, "ribbon-a").locator(".ac-lane").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)  # the error event of a broken image fires later
    assert page.evaluate("window.hacked") is None
    assert page.locator(f"{ROOT} img, {ROOT} script").count() == 0


def test_stop_and_refusal_end_the_waiting_state(view, different):
    shown = view("compare")
    page = shown.page
    for end in ("refused", "stopped", "idle"):
        shown.change("waiting")
        shown.change(end)
        if end == "stopped":
            shown.change(value=to_text(different[:30]))  # an update already in flight
        assert state(shown) == "empty"
    shown.change("waiting")
    shown.change("running", value=to_text(different[:30]))
    shown.change("stopped")
    assert state(shown) == "done"
    assert "stopped" in part(page, "side-a").locator(".av-status").text_content()
    count = len(read_tokens(page, "a"))
    shown.change(value=to_text(different))  # an update already in flight
    assert len(read_tokens(page, "a")) == count
    shown.change("waiting", value="")
    side_a = [event for event in different if event["side"] == "a"]
    shown.change("running", value=to_text(side_a[:9]))  # B has not started yet
    shown.change("stopped")
    shown.change(value=to_text([*side_a[:9], *different]))
    assert state(shown) == "done" and not read_tokens(page, "b")


def test_the_language_changes_words_and_numbers(view, different):
    shown = view("compare")
    shown.show(different)
    cells = shown.page.locator(".av-cell span")
    english = cells.all_text_contents()
    shown.set_language("pt")
    assert shown.page.locator("[data-text=ribbons]").text_content() == WORDS["pt"]["ribbons"]
    assert WORDS["pt"]["stat_speed"] in part(shown.page, "side-a").text_content()
    assert cells.all_text_contents() == [text.replace(".", ",") for text in english] != english


def test_the_keyboard_navigates_both_lanes(view, equal):
    shown = view("compare")
    shown.show(equal)
    page = shown.page
    lanes = [part(page, f"ribbon-{side}").locator(".ac-lane") for side in "ab"]
    lanes[0].focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert lanes[0].get_attribute("aria-activedescendant") == "axion-compare-a-1"
    assert part(page, "side-a").locator(".av-tok.on").count() == 1
    assert part(page, "side-b").locator(".av-tok.on").count() >= 1  # the same characters on the other side
    page.keyboard.press("ArrowDown")
    assert lanes[1].evaluate("lane => lane === document.activeElement")


def test_a_narrow_screen_does_not_scroll_horizontally(view, different):
    shown = view("compare", context={"viewport": {"width": 390, "height": 844}})
    shown.show(different)
    assert shown.page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_a_comparison_is_shared_as_a_link_and_files(view, different, catalogue):
    shown = view("compare")
    page = shown.page
    shown.show(different)
    part(page, "copy").click()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.endswith("#compare")
    query = {name: value for name, [value] in parse_qs(urlsplit(link).query).items()}
    asked = read_comparison(catalogue, query)
    assert [each.sampling.temperature for each in asked.values()] == [0, 2]
    assert all(each.prompt == PROMPT and each.sampling.max_new_tokens == 24 for each in asked.values())
    assert query["a_release"] == query["b_release"] == catalogue.open("plain").fingerprint
    with page.expect_download() as download:
        part(page, "json").click()
    exported = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    for side in "ab":
        assert [step["t"] for step in exported[side]["steps"]] == read_tokens(page, side)
        assert exported[side]["end"]["reason"]
    with page.expect_download() as download:
        part(page, "csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"), newline="")))
    for side in "ab":
        texts = [row["text"] for row in rows if row["side"] == side.upper() and row["layer"] == "1"]
        assert texts == read_tokens(page, side)


def test_a_link_opens_a_comparison(view, different):
    sides = {side: {"model": "plain", "prompt": PROMPT, "sampling": {}, "forced": []} for side in "ab"}
    release = {"release": "0123456789ab"}
    shown = view("compare", value=to_text([{"kind": "open", "a": sides["a"] | release, "b": sides["b"]}]))
    assert shown.asked() == [sides]
    shown.show(different)
    notes = [part(shown.page, f"side-{side}").locator(".av-note") for side in "ab"]
    assert "0123456789ab" in notes[0].text_content() and not notes[1].is_visible()


def test_a_token_of_either_side_has_a_popover(view, different):
    shown = view("compare")
    page = shown.page
    shown.show(different)
    step = steps_of(different, "b")[-1]
    part(page, "side-b").locator(".av-tok").last.click()
    popover = part(page, "popover-b")
    assert popover.locator(".av-alt").count() >= len(step["alt"]) and popover.locator("button.av-alt").count() == 0
    assert EN["likeliest"] in popover.text_content()
    lane = part(page, "ribbon-a").locator(".ac-lane")
    lane.focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert part(page, "popover-a").is_visible() and not popover.is_visible()
    page.keyboard.press("Escape")
    assert not part(page, "popover-a").is_visible()
    assert lane.evaluate("lane => lane === document.activeElement")
