"""The tab that compares, in a real Chromium."""

import random
from itertools import takewhile

import pytest

from playground.locales.compare import VIEW as WORDS
from tests.playground.conftest import HOSTILE, choose_language, open_tab
from tests.playground.server.test_browser import assert_model_rests
from tests.support.steering import expected_steps

pytestmark = pytest.mark.browser
ROOT = "#comparison .axion-compare"


@pytest.fixture
def tab(page):
    """The page with this tab open."""
    open_tab(page, "Compare")
    page.locator(ROOT).wait_for()
    return page


def part(page, name):
    return page.locator(f"#comparison [data-part={name}]")


def compare(page, state="done"):
    page.locator("#compare").click()
    page.wait_for_selector(f"{ROOT}[data-state={state}]")


def set_prompt(page, text):
    page.locator("#compare-prompt textarea").fill(text)


def set_side(page, side, label, value):
    control = page.locator(".ax-compare .ax-controls").nth(1 + "ab".index(side)).get_by_label(label).last
    control.fill(str(value))
    control.press("Tab")


def set_shared(page, label, value):
    control = page.locator(".ax-compare .ax-controls").nth(3).get_by_label(label).last
    control.fill(str(value))
    control.press("Tab")


def choose_model(page, side, name):
    field = page.locator(f"#compare-model-{side} input")
    field.click()
    page.locator(f"#compare-model-{side}").get_by_role("option", name=name, exact=True).click()
    page.wait_for_function(f"name => document.querySelector('#compare-model-{side} input').value === name", arg=name)


def read_tokens(page, side):
    tokens = part(page, f"side-{side}").locator(".av-tok")
    return tokens.evaluate_all("tokens => tokens.map(token => token.textContent)")


def new_text(steps):
    return "".join(step.text for step in steps if not step.is_prompt)


def test_it_says_what_it_is_for_before_anything_runs(tab):
    assert tab.locator(ROOT).get_attribute("data-state") == "empty"
    assert part(tab, "empty").text_content() == WORDS["en"]["empty"]


def test_both_sides_are_their_own_streams_and_the_first_difference_is_marked(tab, releases):
    prompt, seed = f"# Pergunta:\nQuanto é {random.randrange(100)} + 7?\n", random.randrange(10**6)
    set_prompt(tab, prompt)
    set_shared(tab, "Maximum new tokens", 24)
    set_shared(tab, "Seed", seed)
    set_side(tab, "b", "Temperature", 2)
    compare(tab)
    a = expected_steps(releases / "plain", prompt, temperature=0, seed=seed, max_new_tokens=24)
    b = expected_steps(releases / "plain", prompt, temperature=2, seed=seed, max_new_tokens=24)
    assert read_tokens(tab, "a") == [step.text for step in a]
    assert read_tokens(tab, "b") == [step.text for step in b]
    verdict = part(tab, "verdict").text_content()
    if new_text(a) == new_text(b):
        assert verdict in (WORDS["en"]["identical"], WORDS["en"]["nothing"])
        return
    pairs = zip(new_text(a), new_text(b), strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    assert verdict.startswith(f"They part after {common} equal characters: A" if common else "They part at once: A")
    assert part(tab, "parting").is_visible()
    assert part(tab, "live").text_content() == f"Finished. {verdict}"
    count = int(part(tab, "common").text_content().split()[0])
    shared = len(list(takewhile(lambda pair: pair[0].token_id == pair[1].token_id, zip(a, b, strict=False))))
    assert 0 < count <= shared


def test_equal_settings_give_identical_texts_and_no_mark(tab):
    set_shared(tab, "Maximum new tokens", 12)
    set_side(tab, "b", "Temperature", 0)
    compare(tab)
    assert read_tokens(tab, "a") == read_tokens(tab, "b")
    assert part(tab, "verdict").text_content() in (WORDS["en"]["identical"], WORDS["en"]["nothing"])
    assert not part(tab, "parting").is_visible()
    total = len(read_tokens(tab, "a"))
    assert part(tab, "common").text_content() == f"{total} of {total} common tokens were read by the same experts."


def test_equal_letters_stand_at_equal_places(tab):
    set_shared(tab, "Maximum new tokens", 12)
    set_side(tab, "b", "Temperature", 0)
    compare(tab)
    places = [
        part(tab, f"ribbon-{side}").locator(".ac-col").evaluate_all("all => all.map(each => each.offsetLeft)")
        for side in "ab"
    ]
    assert places[0] == places[1]
    assert places[0] == sorted(places[0]) and places[0][-1] > places[0][0]


def test_a_broken_release_says_so_and_the_other_side_works(tab):
    choose_model(tab, "a", "broken")
    set_shared(tab, "Maximum new tokens", 6)
    compare(tab)
    assert "config.json cannot be read" in part(tab, "side-a").text_content()
    assert len(read_tokens(tab, "b")) > 6


def test_two_models_stand_beside_each_other_with_their_own_routing(tab, releases):
    choose_model(tab, "b", "endless")
    set_shared(tab, "Maximum new tokens", 30)
    set_side(tab, "b", "Temperature", 0)
    compare(tab)
    assert len(read_tokens(tab, "b")) >= 30
    assert part(tab, "common").text_content() == ""  # two models need not route alike
    assert "endless" in part(tab, "side-b").locator(".av-status").text_content()


def test_hostile_text_runs_nothing(tab):
    set_prompt(tab, "".join(HOSTILE))
    set_shared(tab, "Maximum new tokens", 6)
    compare(tab)
    assert part(tab, "side-a").locator(".av-text").text_content().startswith("".join(HOSTILE))
    part(tab, "ribbon-a").locator(".ac-lane").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("window.hacked") is None
    assert tab.locator(f"{ROOT} img, {ROOT} script").count() == 0


def test_stop_frees_the_model(tab, server):
    choose_model(tab, "a", "endless")
    choose_model(tab, "b", "endless")
    set_shared(tab, "Maximum new tokens", 512)
    compare(tab, "running")
    tab.locator("#compare-stop").click()
    tab.wait_for_selector(f"{ROOT}[data-state=done]")
    assert_model_rests(server)
    assert "stopped" in part(tab, "side-a").locator(".av-status").text_content()


def test_a_refused_wish_leaves_nothing_waiting(tab):
    set_prompt(tab, "")
    tab.locator("#compare").click()
    tab.wait_for_selector(f"{ROOT}[data-state=empty]")
    set_prompt(tab, "# Pergunta:\n")
    set_shared(tab, "Maximum new tokens", 4)
    compare(tab)


def test_swap_swaps(tab):
    choose_model(tab, "b", "endless")
    tab.locator("#swap").click()
    tab.wait_for_function("document.querySelector('#compare-model-a input').value === 'endless'")
    assert tab.locator("#compare-model-b input").input_value() == "plain"
    sides = tab.locator(".ax-compare .ax-controls")
    assert sides.nth(1).get_by_label("Temperature").last.input_value() == "0.8"
    assert sides.nth(2).get_by_label("Temperature").last.input_value() == "0"


def test_the_language_changes_every_word(tab):
    set_shared(tab, "Maximum new tokens", 4)
    compare(tab)
    choose_language(tab, "pt")
    tab.wait_for_function(
        "text => document.querySelector('#comparison [data-text=ribbons]').textContent === text",
        arg=WORDS["pt"]["ribbons"],
    )
    assert WORDS["pt"]["stat_speed"] in part(tab, "side-a").text_content()
    assert tab.locator("#compare").text_content().strip() == "Comparar"


def test_the_keyboard_walks_both_lanes(tab):
    set_shared(tab, "Maximum new tokens", 4)
    compare(tab)
    lanes = [part(tab, f"ribbon-{side}").locator(".ac-lane") for side in "ab"]
    lanes[0].focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert lanes[0].get_attribute("aria-activedescendant") == "axion-compare-a-1"
    assert part(tab, "side-a").locator(".av-tok.on").count() == 1
    assert part(tab, "side-b").locator(".av-tok.on").count() >= 1  # the same letters on the other side
    tab.keyboard.press("ArrowDown")
    assert lanes[1].evaluate("lane => lane === document.activeElement")


def test_a_narrow_screen_does_not_scroll_sideways(page):
    page.set_viewport_size({"width": 390, "height": 844})
    open_tab(page, "Compare")
    set_shared(page, "Maximum new tokens", 12)
    compare(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
