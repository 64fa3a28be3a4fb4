"""All about one token, and the branches that begin there."""

import json

import pytest

from playground.locales.trace import TEXT as WORDS
from tests.playground.conftest import HOSTILE
from tests.support.steering import (
    PLAY,
    POPOVER,
    RIBBON,
    TEXT,
    VIEW,
    assert_is,
    choose_model,
    expected_steps,
    first_new,
    generate,
    open_token,
    part,
    read_routing,
    read_tokens,
    read_trace,
    set_number,
    wait_for_status,
    wait_until,
)

pytestmark = pytest.mark.browser
PROMPT = "# Pergunta:\n"
EN = WORDS["en"]


def percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{int(100 * share + 0.5)}%"


def run_long(page) -> dict:
    """Sixteen new tokens of a text that does not end; returns the trace."""
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 16)
    generate(page)
    wait_until(page, "done")
    return read_trace(page)


def test_the_popover_tells_all_about_a_token(page):
    trace = run_long(page)
    index = first_new(page) + 5
    step, start = trace["steps"][index], trace["start"]
    popover = open_token(page, index)
    assert popover.locator(".av-token-title").text_content().startswith(visible(step["t"]) + f"token {step['i'] + 1}")
    assert f"probability {percent(step['p'])}" in popover.text_content()

    buttons = popover.locator(".av-alt")
    listed = step["alt"] if any(id_ == step["id"] for id_, *_ in step["alt"]) else [None, *step["alt"]]
    assert buttons.count() == len(listed)
    assert buttons.locator("q").all_text_contents()[-5:] == [visible(text) for _, text, _ in step["alt"]]
    assert buttons.locator("span").all_text_contents()[-5:] == [percent(p) for *_, p in step["alt"]]
    assert popover.get_by_text(EN["stands_here"]).count() == 1
    bars = buttons.locator("i").evaluate_all("bars => bars.map(bar => bar.style.transform)")
    assert bars[-1] == f"scaleX({step['alt'][-1][2]:g})"

    rows = popover.locator(".av-choice tbody tr:not(.av-displaced)")
    chosen = [(layer, rank) for layer in range(start["layers"]) for rank in range(start["experts_per_token"])]
    assert rows.count() == len(chosen)
    for number, (layer, rank) in enumerate(chosen):
        name, gate, total = rows.nth(number).locator("td").all_text_contents()
        expert = step["e"][layer][rank]
        affinity, bias = step["a"][layer][rank], start["bias"][layer][expert]
        assert name == f"E{expert + 1}" and gate == percent(step["g"][layer][rank])
        sign = "−" if round(bias, 3) < 0 else "+"
        assert total.startswith(f"{affinity:.3f} {sign} {abs(bias):.3f} = ")
        assert float(total.split(" = ")[1]) == pytest.approx(affinity + bias, abs=0.0011)
    assert EN["shared_one"] in popover.text_content()


def visible(text: str) -> str:
    """White space that could not be seen, as the view shows it."""
    text = text.replace("\n", "↵")
    text = "␣" + text[1:] if text.startswith(" ") else text
    return (text[:-1] + "␣" if text.endswith(" ") else text) or EN["no_text"]


def test_experts_that_the_bias_displaced_are_named(page):
    trace = run_long(page)
    index, layer = next(
        (index, layer) for index, step in enumerate(trace["steps"]) for layer, out in enumerate(step["d"]) if out
    )
    popover = open_token(page, index)
    line = popover.locator(".av-displaced").first.text_content()
    for expert in trace["steps"][index]["d"][layer]:
        assert f"E{expert + 1} (bias " in line
        assert expert not in trace["steps"][index]["e"][layer]


def test_a_token_of_the_prompt_has_no_alternatives(page):
    popover = open_token(page, 1)
    assert EN["from_prompt"] in popover.text_content()
    assert popover.locator(".av-alt").count() == 0
    assert popover.locator(".av-choice tbody tr").count() > 0


def test_the_popover_stands_at_its_token_and_moves_nothing(page):
    run_long(page)
    before = page.locator(VIEW).bounding_box()
    for place in (f"{TEXT} .av-tok", f"{RIBBON} .av-col"):
        token = page.locator(place).nth(first_new(page) + 3)
        token.click()
        page.wait_for_selector(f"{POPOVER}:not([hidden])")
        box, at = page.locator(POPOVER).bounding_box(), token.bounding_box()
        assert box["y"] >= at["y"] + at["height"] or box["y"] + box["height"] <= at["y"], "the token stays in sight"
        assert box["x"] - 60 <= at["x"] <= box["x"] + box["width"]
        assert page.locator(VIEW).bounding_box() == before
        page.keyboard.press("Escape")
        assert page.locator(POPOVER).is_hidden()


def test_a_click_elsewhere_or_on_the_cross_closes(page):
    for close in (lambda: page.mouse.click(3, 3), lambda: page.get_by_role("button", name=EN["close"]).click()):
        open_token(page, 0)
        close()
        page.wait_for_selector(POPOVER, state="hidden")
    open_token(page, 0)
    page.locator(f"{TEXT} .av-tok").first.click()
    page.wait_for_selector(POPOVER, state="hidden")


def test_a_branch_is_the_stream_with_forced_tokens(page, releases):
    trace = run_long(page)
    index = first_new(page) + 6
    step = trace["steps"][index]
    kept = tuple(step["id"] for step in trace["steps"][first_new(page) : index])
    popover = open_token(page, index)
    rank, id_ = next((rank, id_) for rank, (id_, *_) in enumerate(step["alt"]) if id_ != step["id"])
    popover.locator(".av-alt").nth(rank - len(step["alt"])).click()
    status = wait_for_status(page, "branch")
    wait_until(page, "done")

    branch = read_trace(page)
    taken, before = (
        f"“{visible(text)}”" if text else EN["no_text"] for text in (branch["steps"][index]["t"], step["t"])
    )
    assert f"branch at token {step['i'] + 1}: {taken} instead of {before}" in status
    assert branch["start"]["forced"] == [*kept, id_]
    settings = PLAY | {"max_new_tokens": 16}
    assert_is(branch, expected_steps(releases / "endless", PROMPT, (*kept, id_), **settings))

    for place in (TEXT, RIBBON):
        marks = page.locator(f"{place} [data-index]").evaluate_all(
            "all => all.map(node => ['av-kept', 'av-branch'].find(name => node.classList.contains(name)) || '')"
        )
        assert marks[index] == "av-branch" and marks.count("av-branch") == 1
        assert [number for number, mark in enumerate(marks) if mark == "av-kept"] == list(range(index - 6, index))
    assert EN["mark_branch"] in open_token(page, index).text_content()
    assert page.locator(POPOVER).get_by_text(EN["mark_kept"]).count() == 0


def test_a_branch_of_a_branch_keeps_both(page, releases):
    run_long(page)
    first = first_new(page)
    for offset in (2, 5):
        open_token(page, first + offset).locator(".av-alt").last.click()
        wait_for_status(page, f"branch at token {first + offset + 1}:")
        wait_until(page, "done")
    branch = read_trace(page)
    forced = branch["start"]["forced"]
    assert len(forced) == 6
    assert_is(branch, expected_steps(releases / "endless", PROMPT, tuple(forced), **PLAY | {"max_new_tokens": 16}))


def test_the_token_that_was_drawn_anyway_gives_the_same_run(page):
    trace = run_long(page)
    tokens, routing = read_tokens(page), read_routing(page)
    open_token(page, first_new(page) + 4).locator(".av-alt", has_text=EN["stands_here"]).click()
    status = wait_for_status(page, "branch")
    wait_until(page, "done")
    assert "instead" not in status
    assert (read_tokens(page), read_routing(page)) == (tokens, routing)
    assert [step["g"] for step in read_trace(page)["steps"]] == [step["g"] for step in trace["steps"]]


def test_the_recorded_example_can_be_branched(page, releases):
    steps = read_trace(page)["steps"]
    index = first_new(page) + 1
    id_ = next(id_ for id_, *_ in reversed(steps[index]["alt"]) if id_ != steps[index]["id"])
    open_token(page, index).locator(".av-alt").last.click()
    wait_for_status(page, "branch")
    wait_until(page, "done")
    assert_is(read_trace(page), expected_steps(releases / "plain", PROMPT, (steps[index - 1]["id"], id_), **PLAY))


def test_an_alternative_that_ends_the_text_says_so_and_ends_it(page):
    choose_model(page, "hostile")
    wait_for_status(page, "hostile")
    count = len(read_tokens(page))
    popover = open_token(page, count - 1)
    popover.get_by_role("button", name=EN["end_of_text"]).click()
    wait_for_status(page, f"branch at token {count}: {EN['end_of_text']} instead of")
    wait_until(page, "done")
    assert len(read_tokens(page)) == count - 1
    assert read_trace(page)["end"]["reason"] == "eos"
    assert page.locator(TEXT).get_attribute("data-end") == EN["end_of_text"]


def test_a_branch_stops_the_run_that_it_leaves(page):
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 512)
    generate(page)
    page.wait_for_function("document.querySelectorAll('#trace .av-tok:not(.av-prompt)').length > 8")
    open_token(page, first_new(page) + 2).locator(".av-alt").last.click()
    wait_for_status(page, f"branch at token {first_new(page) + 3}:")
    page.wait_for_function("document.querySelectorAll('#trace .av-tok:not(.av-prompt)').length > 12")
    page.locator("#stop").click()
    wait_until(page, "done")
    assert len(read_trace(page)["start"]["forced"]) == 3


def test_everything_works_by_keyboard(page):
    page.locator(RIBBON).focus()
    for _ in range(first_new(page) + 2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{POPOVER}:not([hidden])")
    focused = "[...document.querySelectorAll('#trace .av-alt')].indexOf(document.activeElement)"
    assert page.evaluate(focused) == 0
    page.keyboard.press("Escape")
    page.wait_for_selector(POPOVER, state="hidden")
    assert page.evaluate("document.activeElement.dataset.part") == "columns"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    last = page.locator(".av-alt").count() - 1
    assert page.evaluate(focused) == last
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == 1
    page.keyboard.press("Enter")
    wait_for_status(page, f"branch at token {first_new(page) + 2}:")
    wait_until(page, "done")


def test_hostile_tokens_run_nothing_in_the_popover_and_the_branch(page):
    choose_model(page, "hostile")
    wait_for_status(page, "hostile")
    count = len(read_tokens(page))
    popover = open_token(page, count - 1)
    assert popover.locator(".av-alt q").all_text_contents()[-len(HOSTILE) :] == HOSTILE
    attack = read_tokens(page)[-1]
    assert attack in HOSTILE
    assert popover.locator(".av-token-title q").text_content() == attack
    popover.locator(".av-alt").last.click()
    status = wait_for_status(page, "branch")
    assert f"instead of “{attack}”" in status
    wait_until(page, "done")
    assert page.evaluate("window.hacked") is None
    assert page.locator(f"{VIEW} img, {VIEW} script").count() == 0


@pytest.mark.parametrize(
    "wish",
    [None, [], "x", {"model": "/etc", "prompt": "a"}, {"model": "plain", "prompt": "a", "forced": [99999]}],
    ids=str,
)
def test_a_wish_that_no_button_makes_is_refused_without_a_traceback(page, wish):
    """The view's own event, with what its script would never send."""
    answers = []

    def tamper(route) -> None:
        body = json.loads(route.request.post_data)
        answer = route.fetch(post_data=json.dumps(body | {"event_data": wish}))
        answers.append((answer.status, answer.text()))
        route.fulfill(response=answer)

    page.route("**/queue/join*", tamper)
    open_token(page, first_new(page)).locator(".av-alt").first.click()
    page.wait_for_selector("#trace [data-part=error]:visible, #trace [data-part=note]:visible")
    [(status, body)] = answers
    assert "Traceback" not in body + page.content()
    assert status == 422 or part(page, "error").text_content() == "plain has no token 99999; its tokens are 0 to 319"
