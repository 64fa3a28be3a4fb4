"""Tampering with the model of a trace, in a bare page: the panel, the popover, the comparison, links and files."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from playground.generate.links import read_link
from playground.locales import by_language
from tests.playground.conftest import answer
from tests.playground.views.test_share import copy_link, read_csv
from tests.support.bare_page import to_text
from tests.support.steering import PLAY, part, read_tokens, read_trace, show_token

pytestmark = pytest.mark.browser
EN = by_language("comparison", "trace", "tampering")["en"]
ASKED = {"model": "endless", "prompt": "# Pergunta:\n", "sampling": PLAY | {"max_new_tokens": 16}, "forced": []}
CHANGES = {"mute": "L2.E4", "force": "L1.E2", "top_experts": "1", "bias": "off", "mute_head": "L1.H2"}


@pytest.fixture(scope="module")
def original(catalogue):
    return answer(catalogue, ASKED)


def cell(page, name):
    return page.locator(f"#trace .at-cell[data-name='{name}']")


def sides(page):
    texts = page.locator("#trace [data-part=tampered] .av-text")
    return [texts.nth(index).locator(".av-tok").all_text_contents() for index in range(2)]


def test_a_changed_model_is_drawn_beside_the_original(view, catalogue, original):
    shown = view("trace")
    shown.show(original)
    page = shown.page
    assert part(page, "tamper-statement").is_hidden() and not shown.asked("tamper")
    part(page, "tamper").locator("summary").click()
    cell(page, "L2.E4").click()
    for _ in range(2):  # the second click makes it one that is always used
        cell(page, "L1.E2").click()
    part(page, "tamper-top").select_option("1")
    part(page, "tamper-bias").check()
    cell(page, "L1.H1").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    asked = shown.asked("tamper")
    assert len(asked) == 6 and asked[0]["tampering"] == {"mute": "L2.E4"} and asked[-1]["tampering"] == CHANGES
    assert asked[-1]["prompt"] == ASKED["prompt"] and asked[-1]["sampling"]["seed"] == PLAY["seed"]
    assert cell(page, "L2.E4").get_attribute("aria-label") == EN["tamper_mute"].format(name="L2.E4")
    assert part(page, "tamper-changes").text_content() == (
        "Tampered with: without L2.E4 · always L1.E2 · 1 expert per token · no balancing bias · without head L1.H2."
    )

    changed = answer(catalogue, asked[-1])
    shown.change(tampered=to_text(changed))
    steps = [event for event in changed if event["kind"] == "step"]
    assert sides(page) == [read_tokens(page)[: len(original) - 2], [step["t"] for step in steps]]
    assert all(step["e"][0] == [1] for step in steps)
    assert page.locator("#trace [data-part=tampered] .ac-verdict").text_content().startswith("They differ")
    assert page.locator("#trace [data-part=tampered] .av-tok.ac-first").count() == 2
    assert not page.evaluate(
        "[...document.querySelectorAll('[id]')].some((n, i, all) => all.findIndex((o) => o.id === n.id) !== i)"
    )

    part(page, "tamper-reset").click()
    assert shown.asked("tamper")[-1]["tampering"] == {}
    assert part(page, "tampered").is_hidden() and part(page, "tamper-statement").is_hidden()


def test_links_and_files_state_what_is_changed(view, catalogue, original):
    shown = view("trace")
    opened = {"kind": "open", "tampering": CHANGES | {"scale": "L1.E2=0.5"}, **ASKED}
    shown.change("running", value=to_text([opened]))
    page = shown.page
    shown.show(original)
    [asked] = shown.asked("tamper")
    assert asked["tampering"] == opened["tampering"]
    changed = answer(catalogue, asked)
    shown.change(tampered=to_text(changed))
    query = dict(parse_qsl(urlsplit(copy_link(page)).query, keep_blank_values=True))
    assert read_link(catalogue, query).tampering.to_texts() == asked["tampering"]
    trace = read_trace(page)
    assert trace["tampered"]["start"]["tampering"] == asked["tampering"]
    assert [step["id"] for step in trace["tampered"]["steps"]] == [step["id"] for step in changed if "id" in step]
    _, rows = read_csv(page)
    assert {row["tampering"] for row in rows} == {
        "",
        " ".join(f"{name}={text}" for name, text in asked["tampering"].items()),
    }
    assert len(rows) == 2 * (len(original) + len(changed) - 4)
    shown.set_language("pt")
    assert part(page, "tamper-changes").text_content().startswith("Modelo alterado: sem L2.E4 · sempre L1.E2")


def test_the_popover_takes_experts_away_and_weighs_them(view, original):
    shown = view("trace")
    shown.show(original)
    page = shown.page
    show_token(page, 3).click()
    first = page.locator("#trace .at-choose").input_value()
    take = page.get_by_role("button", name=EN["tamper_take"])
    take.click()
    assert take.get_attribute("aria-pressed") == "true"
    page.locator("#trace .at-actions input").first.fill("0.5")
    assert shown.asked("tamper")[-1]["tampering"] == {"mute": first, "scale": f"{first}=0.5"}
    assert cell(page, first).get_attribute("data-state") == "mute"
    shown.change(tampered=to_text([{"kind": "error", "message": "layer 1 must keep at least 2 experts"}]))
    assert part(page, "tamper-error").text_content() == "layer 1 must keep at least 2 experts"
    assert part(page, "tampered").is_hidden()
