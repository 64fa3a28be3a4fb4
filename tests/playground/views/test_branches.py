"""Undoing a branch, and walking through the tree of branches, in a bare page."""

import pytest

from playground.locales import by_language
from tests.playground.conftest import answer, example
from tests.support.bare_page import to_text
from tests.support.steering import PLAY, TEXT, VIEW, first_new, open_token, part, read_routing, read_tokens

EN = by_language("trace")["en"]

pytestmark = pytest.mark.browser


def take_branch(shown, catalogue, offset: int) -> None:
    """Take the likeliest alternative of the new token at `offset`, and generate with it."""
    page = shown.page
    popover = open_token(page, first_new(page) + offset)
    popover.locator(".av-alt").filter(has_not_text=EN["chosen_here"]).first.click()
    shown.show(answer(catalogue, shown.asked()[-1]))


def nodes(page):
    return part(page, "branches").locator("button")


def state_of(page) -> tuple:
    return read_tokens(page), read_routing(page), page.locator(VIEW).get_attribute("data-state")


def test_branches_can_be_undone_and_walked(view, catalogue):
    asked = {"model": "endless", "prompt": "# Pergunta:\n", "sampling": PLAY | {"max_new_tokens": 9}}
    shown = view("trace")
    page = shown.page
    shown.show(answer(catalogue, asked))
    assert not part(page, "tree").is_visible()
    states = [state_of(page)]
    take_branch(shown, catalogue, 2)
    states.append(state_of(page))
    take_branch(shown, catalogue, 5)
    states.append(state_of(page))
    asked_so_far = len(shown.asked())
    part(page, "undo").click()
    assert state_of(page) == states[1] and part(page, "status").text_content().count("branch at token") == 1
    page.locator(TEXT).focus()
    page.keyboard.press("Control+z")
    assert state_of(page) == states[0] and "branch" not in part(page, "status").text_content()
    assert part(page, "undo").is_disabled()
    take_branch(shown, catalogue, 4)  # a second branch of the original
    states.append(state_of(page))
    assert [text.split(":")[0] for text in nodes(page).all_text_contents()] == [
        EN["branch_root"],
        *(f"token {first_new(page) + offset + 1}" for offset in (2, 5, 4)),
    ]
    assert part(page, "branches").locator("ul ul ul button").count() == 1
    for number, state in enumerate(states):
        nodes(page).nth(number).click()
        assert state_of(page) == state
        assert part(page, "branches").locator("[aria-current=true]").count() == 1
    assert len(shown.asked()) == asked_so_far + 1, "what was kept is not generated again"
    shown.set_language("pt")
    assert part(page, "undo").text_content() == by_language("trace")["pt"]["undo"]
    shown.show(answer(catalogue, asked))
    assert not part(page, "tree").is_visible()


def test_undo_returns_to_the_recorded_example_and_stops_what_runs(view, catalogue):
    shown = view("trace", value=to_text(example(catalogue)))
    page = shown.page
    recorded = state_of(page)
    open_token(page, first_new(page) + 1).locator(".av-alt").last.click()
    events = answer(catalogue, shown.asked()[-1] | {"model": "endless"})
    shown.change("waiting")
    shown.change("running", value=to_text(events[:-2]))
    part(page, "undo").click()
    assert len(shown.asked("stop")) == 1
    shown.change(value=to_text(events))  # an update already in flight
    assert state_of(page) == recorded
    nodes(page).last.click()
    assert part(page, "status").text_content().count(EN["stopped"]) == 1
    assert len(read_tokens(page)) == len(events) - 3
