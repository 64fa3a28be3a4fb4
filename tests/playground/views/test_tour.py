"""The tour of six steps, in a bare page: its numbers are the trace's and the host's, whatever the model is made of."""

import pytest

from playground.generate.inspection import inspect_token
from playground.locales import by_language
from tests.playground.conftest import example
from tests.support.bare_page import to_text
from tests.support.steering import TEXT, part, show_token

pytestmark = pytest.mark.browser
WORDS = by_language("trace", "closeup", "tour")
EN = WORDS["en"]
TITLES = ["tour_text", "tour_tokens", "tour_attention", "tour_router", "tour_experts", "tour_next"]


@pytest.fixture
def open_tour(view, catalogue):
    """Opens the view of a trace whose host answers what the model computes; `answers` False for one that cannot."""

    def open_(events, language="en", answers=True, **options):
        shown = view("trace", language=language, **options)
        if answers:
            shown.answer_inspections(lambda asked: inspect_token(catalogue, asked))
        shown.change(value=to_text(events))
        return shown

    return open_


@pytest.fixture(scope="module")
def recorded(catalogue):
    return example(catalogue)


def title(page) -> str:
    return part(page, "tour-title").text_content()


def body(page) -> str:
    return part(page, "tour-body").text_content()


def wait_for(page, step: int) -> None:
    page.wait_for_function(
        "text => document.querySelector('[data-part=tour-title]').textContent === text"
        " && document.activeElement.dataset.part === 'tour-title'",
        arg=EN[TITLES[step - 1]],
    )


def first_new(events) -> int:
    return sum(event["kind"] == "step" and event["prompt"] for event in events)


def test_six_steps_are_walked_by_keys_with_the_numbers_of_the_model(open_tour, recorded, catalogue):
    page = open_tour(recorded).page
    start, *steps, _ = recorded
    index = first_new(recorded)
    ids = [step["id"] for step in steps]
    found = inspect_token(catalogue, {"model": "plain", "ids": ids[: index + 1], "at": index})
    part(page, "tour-open").click()
    wait_for(page, 1)
    assert str(len(start["prompt"])) in body(page) and part(page, "text").evaluate("box => box.matches('.av-lit')")
    page.keyboard.press("ArrowRight")
    wait_for(page, 2)
    assert f"number {ids[index]} in the list" in body(page)
    assert page.locator(f"{TEXT} .av-tok.av-lit").evaluate_all("all => all.map(x => x.dataset.index)") == [str(index)]
    page.keyboard.press("ArrowRight")
    wait_for(page, 3)
    page.wait_for_selector("[data-part=tour-body] table")
    looked = [max(range(index + 1), key=weights.__getitem__) + 1 for weights in found["attention"][0]]
    assert column(page, 2) == [str(number) for number in looked]
    assert f"{start['cache_bytes']} B" in body(page)
    page.keyboard.press("ArrowRight")
    wait_for(page, 4)
    scores = {f"L1.E{expert + 1}": f"{score:.3f}" for expert, score in enumerate(found["scores"][0])}
    assert dict(zip(column(page, 0), column(page, 1), strict=True)) == scores
    marked = page.locator(".av-tour-table .av-marked td:first-child").all_text_contents()
    assert marked == [f"L1.E{expert + 1}" for expert in steps[index]["e"][0]]
    assert page.locator(".av-flow .av-node:not(.av-idle)").count() == 2 + 1, "two experts and the shared one"
    page.keyboard.press("ArrowRight")
    wait_for(page, 5)
    lit = page.locator(".av-cell.av-lit").evaluate_all("cells => cells.map(cell => cell.getAttribute('aria-label'))")
    assert {label.split(":")[0] for label in lit} == set(marked)
    page.keyboard.press("ArrowRight")
    wait_for(page, 6)
    rows = part(page, "sampling-rows").locator("li")
    rows.nth(2).wait_for()
    assert rows.count() == len(found["after"]["top"]) + 1, "and all others together"
    assert part(page, "sampling-title").text_content().startswith(f"Token {index + 2}")
    page.keyboard.press("ArrowLeft")
    wait_for(page, 5)
    page.keyboard.press("Escape")
    assert not part(page, "tour").is_visible() and not page.locator(".av-lit").count()
    assert page.evaluate("document.activeElement.dataset.part") == "tour-open"
    assert not part(page, "sampling").get_attribute("open"), "what the tour opened is closed again"


def column(page, at: int) -> list[str]:
    return page.locator(f".av-tour-table tbody td:nth-child({at + 1})").all_text_contents()


def test_a_step_has_an_address_and_another_token_can_be_followed(open_tour, recorded):
    page = open_tour(recorded).page
    page.evaluate("location.hash = '#tour-2'")
    wait_for(page, 2)
    show_token(page, 1).click()
    page.wait_for_function("document.querySelector('.av-tour-table .av-marked td').textContent === '2'")
    assert not part(page, "popover").is_visible()
    page.keyboard.press("Tab")
    part(page, "tour-next").click()
    wait_for(page, 3)
    assert page.evaluate("location.hash") == "#tour-3"
    part(page, "tour-close").click()
    assert page.evaluate("location.hash") == ""


def test_without_an_answer_of_the_host_the_numbers_of_the_trace_are_told(open_tour, recorded):
    page = open_tour(recorded, language="pt", answers=False).page
    step = recorded[1 + first_new(recorded)]
    page.evaluate("location.hash = '#tour-4'")
    page.wait_for_selector(".av-tour-table")
    assert title(page) == WORDS["pt"]["tour_router"]
    assert sorted(column(page, 1)) == sorted(f"{score:.3f}".replace(".", ",") for score in step["a"][0])
    page.evaluate("location.hash = '#tour-6'")
    page.wait_for_function("document.querySelector('[data-part=sampling-rows] li')")
    assert part(page, "sampling-rows").text_content() == WORDS["pt"]["closeup_unavailable"]


@pytest.mark.parametrize("loops", [1, 3])
def test_a_model_without_experts_has_steps_of_its_own(open_tour, recorded, loops):
    passes = [[1, 1], *([2, loop + 1] for loop in range(loops)), [3, 1]]
    start = {**recorded[0], "layers": 0, "rows": [], "bias": [], "experts": 0, "shared_experts": 0, "attention": "gqa"}
    start |= {"passes": passes, "plain_cache_bytes": recorded[0]["cache_bytes"]}
    steps = [{**step, "e": [], "g": [], "a": [], "d": []} for step in recorded[1:-1]]
    page = open_tour([start, *steps, recorded[-1]], answers=False).page
    titles = []
    for number in range(1, 7):
        page.evaluate(f"location.hash = '#tour-{number}'")
        page.wait_for_function("text => document.querySelector('[data-part=tour-count]').textContent === text",
                               arg=EN["tour_count"].format(step=number, steps=6))  # fmt: skip
        titles.append(title(page))
        if number == 5:
            assert ("3 times" in body(page)) == (loops == 3) and str(len(passes)) in body(page)
    assert titles == [EN[key] for key in (*TITLES[:3], "tour_network", "tour_depth", "tour_next")]


def test_the_drawing_rests_for_readers_who_want_little_motion(open_tour, recorded):
    for reduced in ("no-preference", "reduce"):
        page = open_tour(recorded, context={"reduced_motion": reduced}).page
        part(page, "tour-open").click()
        wait_for(page, 1)
        assert bool(page.locator(".av-flow animateMotion").count()) == (reduced == "no-preference")
