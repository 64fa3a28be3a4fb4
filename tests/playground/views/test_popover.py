"""The popover of a token, and the branches that begin there, in a bare page."""

from decimal import ROUND_HALF_UP, Decimal

import pytest

from playground.locales import by_language
from tests.playground.conftest import answer, example
from tests.support.bare_page import to_text
from tests.support.steering import (
    PLAY,
    POPOVER,
    RIBBON,
    TEXT,
    VIEW,
    first_new,
    open_token,
    part,
    read_routing,
    read_tokens,
    read_trace,
)

WORDS = by_language("trace")

pytestmark = pytest.mark.browser
EN = WORDS["en"]
LONG = {"model": "endless", "prompt": "# Pergunta:\n", "sampling": PLAY | {"max_new_tokens": 16}}


@pytest.fixture(scope="module")
def long(catalogue):
    """The events of sixteen new tokens."""
    return answer(catalogue, LONG)


@pytest.fixture
def shown(view, long):
    """A view that shows the events."""
    opened = view("trace")
    opened.show(long)
    return opened


def percent(share: float) -> str:
    """A share as the view rounds it, from its decimal digits."""
    whole = (100 * Decimal(repr(share))).quantize(Decimal(1), ROUND_HALF_UP)
    return "<1%" if 0 < share < 0.005 else f"{whole}%"


def visible(text: str) -> str:
    """Invisible white space, as the view shows it."""
    text = text.replace("\n", "↵")
    text = "␣" + text[1:] if text.startswith(" ") else text
    return (text[:-1] + "␣" if text.endswith(" ") else text) or EN["no_text"]


def status(page) -> str:
    return part(page, "status").text_content()


def test_the_popover_shows_everything_about_a_token(shown):
    page = shown.page
    trace = read_trace(page)
    index = first_new(page) + 5
    step, start = trace["steps"][index], trace["start"]
    popover = open_token(page, index)
    assert popover.locator(".av-token-title").text_content().startswith(visible(step["t"]) + f"token {step['i'] + 1}")
    assert f"probability {percent(step['p'])}" in popover.text_content()

    buttons = popover.locator(".av-alt")
    listed = step["alt"] if any(id_ == step["id"] for id_, *_ in step["alt"]) else [None, *step["alt"]]
    assert buttons.count() == len(listed)
    whole = [visible(text) for _, text, _ in step["alt"] if text != "\ufffd"]
    assert buttons.locator("q").all_text_contents()[len(listed) - len(step["alt"]) :] == whole
    assert buttons.locator("em").count() == len(step["alt"]) - len(whole)
    assert buttons.locator("span").all_text_contents()[-5:] == [percent(p) for *_, p in step["alt"]]
    assert popover.get_by_text(EN["chosen_here"]).count() == 1
    bars = buttons.locator("i").evaluate_all("bars => bars.map(bar => bar.style.transform)")
    assert bars[-1] == f"scaleX({step['alt'][-1][2]:g})"

    rows = popover.locator(".av-choice tbody tr:not(.av-displaced)")
    chosen = [(layer, rank) for layer in range(start["layers"]) for rank in range(start["experts_per_token"])]
    cells = rows.evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].slice(-3).map(cell => cell.textContent))"
    )
    assert len(cells) == len(chosen)
    for (layer, rank), (name, gate, total) in zip(chosen, cells, strict=True):
        expert = step["e"][layer][rank]
        affinity, bias = step["a"][layer][rank], start["bias"][layer][expert]
        assert name == f"L{layer + 1}.E{expert + 1}" and gate == percent(step["g"][layer][rank])
        sign = "−" if round(bias, 3) < 0 else "+"
        assert total.startswith(f"{affinity:.3f} {sign} {abs(bias):.3f} = ")
        assert float(total.split(" = ")[1]) == pytest.approx(affinity + bias, abs=0.0011)
    assert EN["shared_one"] in popover.text_content()


def test_experts_that_the_bias_displaced_are_named(shown):
    trace = read_trace(shown.page)
    index, layer = next(
        (index, layer) for index, step in enumerate(trace["steps"]) for layer, out in enumerate(step["d"]) if out
    )
    line = open_token(shown.page, index).locator(".av-displaced").first.text_content()
    for expert in trace["steps"][index]["d"][layer]:
        assert f"L{layer + 1}.E{expert + 1} (bias " in line
        assert expert not in trace["steps"][index]["e"][layer]


def test_a_token_of_the_prompt_has_no_alternatives(shown):
    popover = open_token(shown.page, 1)
    assert EN["from_prompt"] in popover.text_content()
    assert popover.locator(".av-alt").count() == 0
    assert popover.locator(".av-choice tbody tr").count() > 0


def test_the_popover_is_placed_at_its_token_without_shifting_the_layout(shown):
    page = shown.page
    before = page.locator(VIEW).bounding_box()
    for place in (f"{TEXT} .av-tok", f"{RIBBON} .av-col"):
        token = page.locator(place).nth(first_new(page) + 3)
        token.click()
        page.wait_for_selector(f"{POPOVER}:not([hidden])")
        box, at = page.locator(POPOVER).bounding_box(), token.bounding_box()
        assert box["y"] >= at["y"] + at["height"] or box["y"] + box["height"] <= at["y"], "the token stays visible"
        assert box["x"] - 60 <= at["x"] <= box["x"] + box["width"]
        assert page.locator(VIEW).bounding_box() == before
        page.keyboard.press("Escape")
        assert page.locator(POPOVER).is_hidden()


def test_a_click_elsewhere_or_on_the_cross_closes_the_popover(shown):
    page = shown.page
    ways = (
        lambda: page.locator(VIEW).click(position={"x": 3, "y": 3}),
        lambda: page.get_by_role("button", name=EN["close"]).click(),
        lambda: page.locator(f"{TEXT} .av-tok").first.click(),
    )
    for close in ways:
        open_token(page, 0)
        close()
        page.wait_for_selector(POPOVER, state="hidden")


def test_a_branch_requests_the_kept_tokens_and_marks_them(shown, catalogue):
    """A branch of a branch keeps both."""
    page = shown.page
    kept: tuple[int, ...] = ()
    for offset in (2, 5):
        trace = read_trace(page)
        index = first_new(page) + offset
        step = trace["steps"][index]
        kept = tuple(step["id"] for step in trace["steps"][first_new(page) : index])
        rank, id_ = next((rank, id_) for rank, (id_, *_) in enumerate(step["alt"]) if id_ != step["id"])
        open_token(page, index).locator(".av-alt").nth(rank - len(step["alt"])).click()
        assert page.locator(POPOVER).is_hidden()
        request = shown.asked()[-1]
        assert request["forced"] == [*kept, id_]
        assert (request["model"], request["prompt"]) == (LONG["model"], LONG["prompt"])
        assert request["sampling"].items() >= LONG["sampling"].items()
        shown.show(answer(catalogue, request))

        branch = read_trace(page)
        taken, before = (
            f"“{visible(text)}”" if text else EN["no_text"] for text in (branch["steps"][index]["t"], step["t"])
        )
        assert f"branch at token {step['i'] + 1}: {taken} instead of {before}" in status(page)
        for place in (TEXT, RIBBON):
            marks = page.locator(f"{place} [data-index]").evaluate_all(
                "all => all.map(node => ['av-kept', 'av-branch'].find(name => node.classList.contains(name)) || '')"
            )
            assert marks[index] == "av-branch" and marks.count("av-branch") == 1
            assert [at for at, mark in enumerate(marks) if mark == "av-kept"] == list(range(index - offset, index))
    assert EN["mark_branch"] in open_token(page, index).text_content()
    assert page.locator(POPOVER).get_by_text(EN["mark_kept"]).count() == 0
    assert shown.asked("stop") == []


def test_branching_at_the_sampled_token_reproduces_the_run(shown, catalogue):
    page = shown.page
    tokens, routing = read_tokens(page), read_routing(page)
    open_token(page, first_new(page) + 4).locator(".av-alt", has_text=EN["chosen_here"]).click()
    shown.show(answer(catalogue, shown.asked()[-1]))
    assert "branch" in status(page) and "instead" not in status(page)
    assert (read_tokens(page), read_routing(page)) == (tokens, routing)


def test_a_recorded_example_can_be_branched(view, catalogue):
    shown = view("trace", value=to_text(example(catalogue)))
    page = shown.page
    steps = read_trace(page)["steps"]
    index = first_new(page) + 1
    id_ = next(id_ for id_, *_ in reversed(steps[index]["alt"]) if id_ != steps[index]["id"])
    open_token(page, index).locator(".av-alt").last.click()
    [request] = shown.asked()
    assert request == {
        "model": "plain",
        "prompt": LONG["prompt"],
        "sampling": request["sampling"],
        "forced": [steps[index - 1]["id"], id_],
        "question": "# Question:\n",
    }
    assert request["sampling"].items() >= PLAY.items()


def test_an_alternative_that_ends_the_text_is_labelled_and_ends_it(view, catalogue):
    shown = view("trace", value=to_text(example(catalogue, "hostile")))
    page = shown.page
    count = len(read_tokens(page))
    open_token(page, count - 1).get_by_role("button", name=EN["end_of_text"]).click()
    shown.show(answer(catalogue, shown.asked()[-1]))
    assert f"branch at token {count}: {EN['end_of_text']} instead of" in status(page)
    assert len(read_tokens(page)) == count - 1
    assert read_trace(page)["end"]["reason"] == "eos"
    assert page.locator(TEXT).get_attribute("data-end") == EN["end_of_text"]


def test_a_branch_stops_the_previous_run(view, long):
    shown = view("trace")
    shown.change("waiting")
    shown.change("running", value=to_text(long[:-4]))
    open_token(shown.page, first_new(shown.page) + 2).locator(".av-alt").last.click()
    assert [event for event, _ in shown.page.evaluate("host.asked")] == ["stop", "submit"]
    assert len(shown.asked()[0]["forced"]) == 3


def test_everything_works_by_keyboard(shown):
    page = shown.page
    page.locator(RIBBON).focus()
    for _ in range(first_new(page) + 2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{POPOVER}:not([hidden])")
    focused = "[...document.querySelectorAll('.av-alt')].indexOf(document.activeElement)"
    assert page.evaluate(focused) == 0
    page.keyboard.press("Escape")
    page.wait_for_selector(POPOVER, state="hidden")
    assert page.evaluate("document.activeElement.dataset.part") == "columns"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == page.locator(".av-alt").count() - 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == 1
    page.keyboard.press("Enter")
    assert len(shown.asked()[0]["forced"]) == 2
