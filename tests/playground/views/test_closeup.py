"""The chosen token in full, in a bare page: where it looks, what it was drawn from, and the overview of a long text."""

import math

import pytest
import torch

from axion.inference.sampling import Sampling
from axion.inference.torch_reader import Sampler
from playground.generate.inspection import inspect_token
from playground.locales import by_language
from playground.views import VIEWS, bundle
from tests.playground.conftest import answer, example
from tests.support.bare_page import to_text
from tests.support.steering import PLAY, RIBBON, TEXT, part, show_token

pytestmark = pytest.mark.browser
EN = by_language("trace", "closeup", "tour")["en"]
FRAME = "() => new Promise(requestAnimationFrame)"
"""An answer that is there already is drawn before the next frame."""
SETTINGS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}


@pytest.fixture
def shown(view, catalogue):
    """The recorded example, on a host that answers what the model computes."""
    opened = view("trace")
    opened.answer_inspections(lambda asked: inspect_token(catalogue, asked))
    opened.change(value=to_text(example(catalogue)))
    return opened


@pytest.fixture(scope="module")
def told(catalogue):
    """What the host tells of the first new token of the example."""
    steps = [event for event in example(catalogue) if event["kind"] == "step"]
    at = sum(step["prompt"] for step in steps)
    ids = [step["id"] for step in steps[: at + 1]]
    return inspect_token(catalogue, {"model": "plain", "ids": ids, "at": at})


CHANGES = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.5},
    {"temperature": 1.7, "top_k": 7},
    {"top_k": 60, "top_p": 0.6},
    {"top_p": 0.35, "temperature": 0.8},
    {"min_p": 0.3},
    {"repetition_penalty": 1.5, "top_p": 0.9, "min_p": 0.05, "top_k": 40},
]


def candidate(logit, count=1, seen=False):
    return {"logit": logit, "count": count, "seen": seen, "ends": False}


def draw_shares(page, candidates, settings):
    script = bundle(VIEWS / "distribution.js")
    draw = f"([candidates, settings]) => {{ {script} return drawShares(candidates, settings); }}"
    return page.evaluate(draw, [candidates, settings])


def test_the_settings_leave_what_the_sampler_leaves(shown):
    logits_V = torch.randn(300, generator=torch.Generator().manual_seed(2)) * 3
    seen = [5, 17, 200]
    candidates = [candidate(logit, seen=token in seen) for token, logit in enumerate(logits_V.tolist())]
    for changes in CHANGES:
        settings = SETTINGS | changes
        filters = Sampler(Sampling(**settings), 0, set())._filters
        filtered_V = filters(torch.LongTensor([seen]), logits_V.unsqueeze(0))[0]
        expected_V = filtered_V.softmax(-1)
        if not settings["temperature"]:
            expected_V = torch.nn.functional.one_hot(filtered_V.argmax(), 300)
        found = draw_shares(shown.page, candidates, settings)
        assert [share["after"] for share in found] == pytest.approx(expected_V.tolist(), abs=1e-5), changes
        assert [share["before"] for share in found] == pytest.approx(logits_V.softmax(-1).tolist(), abs=1e-5)
        assert all((share["cut"] is None) == (share["kept"] == 1) for share in found)
    for changes, kept in (({"top_k": 4}, 3), ({"top_p": 0.45}, 3), ({"min_p": 0.5}, 0), ({}, 9)):
        found = draw_shares(shown.page, [candidate(2.0), candidate(1.0, count=9)], SETTINGS | changes)
        assert [share["kept"] for share in found] == [1, kept], "tokens of a group are cut one by one"
        assert found[0]["after"] == pytest.approx(math.e / (math.e + kept))


def test_bars_follow_the_controls_without_asking_again(shown, told):
    page = shown.page
    part(page, "sampling").locator("summary").click()
    rows = part(page, "sampling-rows").locator("li")
    page.wait_for_function("document.querySelectorAll('[data-part=sampling-rows] li').length > 2")
    assert rows.count() == len(told["before"]["top"]) + 1
    shares = rows.locator(".av-shares")
    before = shares.all_text_contents()
    shown.change(settings=SETTINGS | {"top_k": 3})
    assert rows.locator("small", has_text=EN["cut_top_k"]).count() == len(told["before"]["top"]) - 3 + 1
    assert "top-k 3" in part(page, "sampling-settings").text_content()
    shown.change(settings=SETTINGS | {"temperature": 0})
    assert shares.first.text_content().endswith("→ 100%")
    assert [text.split(" → ")[0] for text in shares.all_text_contents()] == [text.split(" → ")[0] for text in before]
    assert rows.locator(".av-taken").count() <= 1
    assert shown.asked("submit") == []


def test_earlier_tokens_are_shaded_by_the_weight_of_a_head(shown, told):
    page = shown.page
    part(page, "attention").locator("summary").click()
    page.wait_for_selector(".av-attending")
    read = "tokens => tokens.map(token => Number(token.style.getPropertyValue('--w')))"

    def shading():
        return page.locator(f"{TEXT} .av-tok.av-seen").evaluate_all(read)

    def expected(weights):
        return [math.sqrt(weight / max(weights)) for weight in weights]

    heads = told["attention"][0]
    mean = [sum(weights) / len(heads) for weights in zip(*heads, strict=True)]
    assert shading() == pytest.approx(expected(mean), abs=1e-3)
    part(page, "attention-head").select_option("1")
    page.evaluate(FRAME)
    assert shading() == pytest.approx(expected(heads[1]), abs=1e-3)
    part(page, "attention-layer").select_option("1")
    page.evaluate(FRAME)
    last = told["attention"][1][1]
    assert shading() == pytest.approx(expected(last), abs=1e-3)
    most = part(page, "attention-list").locator("li span").first.text_content()
    assert float(most.rstrip("%")) == pytest.approx(100 * max(last), abs=0.06)
    show_token(page, 2).hover()
    assert f"{100 * last[2]:.1f}%" in part(page, "token").text_content()
    part(page, "attention").locator("summary").click()
    page.wait_for_selector(".axion-view:not(.av-attending)")
    assert not page.locator(".av-seen").count()


def test_an_overview_has_a_window_that_keys_and_pointer_move(view, catalogue):
    events = answer(catalogue, {"model": "endless", "prompt": "1+1=", "sampling": PLAY | {"max_new_tokens": 200}})
    shown = view("trace", context={"viewport": {"width": 700, "height": 800}})
    page = shown.page
    shown.show(events[:5])
    assert not part(page, "overview").is_visible(), "a short text needs none"
    shown.show(events)
    pane = part(page, "overview-window")
    pane.wait_for()
    place = f"document.querySelector('{RIBBON}')"
    count = len(events) - 2
    page.wait_for_function(f"{place}.scrollLeft + {place}.clientWidth > {place}.scrollWidth - 2")
    page.wait_for_function(
        "end => document.querySelector('[data-part=overview-window]').ariaValueText.endsWith(end)",
        arg=f"to {count} of {count}",
    )
    pane.focus()
    page.keyboard.press("Home")
    assert page.evaluate(f"{place}.scrollLeft") == 0 and pane.get_attribute("aria-valuenow") == "1"
    page.keyboard.press("ArrowRight")
    assert 0 < page.evaluate(f"{place}.scrollLeft") <= 16
    page.keyboard.press("PageDown")
    seen = page.evaluate(f"{place}.clientWidth")
    assert page.evaluate(f"{place}.scrollLeft") == pytest.approx(seen + 10, abs=8)
    box, strip = pane.bounding_box(), part(page, "overview").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(strip["x"] + strip["width"] + 50, box["y"] + 5)
    page.mouse.up()
    assert page.evaluate(f"{place}.scrollWidth - {place}.clientWidth - {place}.scrollLeft") <= 1
    assert page.locator(TEXT).evaluate("box => box.scrollHeight - box.clientHeight - box.scrollTop") <= 1
