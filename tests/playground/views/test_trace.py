"""The view of a trace in a bare page: how it draws events, and which requests it sends."""

import re

import pytest

from playground.locales import by_language
from tests.playground.conftest import HOSTILE, answer, example
from tests.support.bare_page import to_text
from tests.support.steering import (
    PLAY,
    RIBBON,
    TEXT,
    VIEW,
    open_token,
    part,
    read_tokens,
    read_trace,
    show_token,
)

WORDS = by_language("trace")

pytestmark = pytest.mark.browser
EN = WORDS["en"]
LONG = {"model": "endless", "prompt": "# Pergunta:\n", "sampling": PLAY | {"max_new_tokens": 60}}


@pytest.fixture(scope="module")
def long(catalogue):
    """The events of sixty new tokens."""
    return answer(catalogue, LONG)


@pytest.fixture(scope="module")
def recorded(catalogue):
    return example(catalogue)


def state(view) -> str:
    return view.page.locator(VIEW).get_attribute("data-state")


def test_a_generation_is_drawn_as_its_events_arrive(view, long):
    shown = view("trace")
    assert (state(shown), part(shown.page, "empty").text_content()) == ("empty", EN["empty"])
    announced = "() => window.announced ??= []"
    shown.page.evaluate(
        """() => {
          window.announced = [];
          const live = document.querySelector("[data-part=live]");
          const note = () => live.textContent && announced.push(live.textContent);
          new MutationObserver(note).observe(live, { childList: true });
        }"""
    )
    shown.change("waiting")
    assert state(shown) == "waiting" and part(shown.page, "status").text_content() == EN["waiting"]
    for count in (3, 40, len(long) - 1):
        shown.change("running", value=to_text(long[:count]))
        assert state(shown) == "running"
        assert read_tokens(shown.page) == [step["t"] for step in long[1:count]]
    scrolled = shown.page.locator(RIBBON).evaluate("box => [box.scrollWidth - box.clientWidth, box.scrollLeft]")
    assert scrolled[1] >= scrolled[0] - 1, "the newest token stays visible"
    shown.change("idle", value=to_text(long))
    assert state(shown) == "done"
    status = "endless · temperature 0.8 · seed 3 · stopped at the maximum length"
    assert part(shown.page, "status").text_content() == status
    assert shown.page.locator(f"{RIBBON} .av-col").count() == len(long) - 2
    spoken = shown.page.evaluate(announced)
    assert spoken[:2] == [EN["waiting"], EN["announce_start"]] and len(spoken) == 3, "not every token is announced"
    verdict = part(shown.page, "verdict").text_content()
    assert spoken[2] == EN["announce_end"].format(tokens=len(long) - 2, verdict=verdict)


def test_load_and_figures_match_the_steps(view, long):
    shown = view("trace")
    shown.show(long)
    trace = read_trace(shown.page)
    start, steps = trace["start"], trace["steps"]
    assert steps == [{name: value for name, value in step.items() if name != "kind"} for step in long[1:-1]]
    labels = part(shown.page, "load").locator(".av-cell span").all_text_contents()
    reads = [sum(expert in step["e"][row] for step in steps) for row in range(2) for expert in range(4)]
    fair = len(steps) * start["experts_per_token"] / start["experts"]
    assert [float(label[:-1]) for label in labels] == pytest.approx([count / fair for count in reads], abs=0.051)
    most = shown.page.locator(".av-cell").evaluate_all("all => all.findIndex(x => x.classList.contains('av-most'))")
    assert reads[most] == max(reads)
    assert "fair share" in part(shown.page, "verdict").text_content()
    ready, last = (max(step["s"] for step in steps if step["prompt"] is prompt) for prompt in (True, False))
    speed = part(shown.page, "stat-speed").text_content().replace(",", "")
    assert abs(int(speed) - 60 / (last - ready)) <= 0.5
    first = next(step["s"] for step in steps if not step["prompt"])
    assert abs(int(part(shown.page, "stat-first").text_content().removesuffix(" ms")) - 1000 * first) <= 0.5
    assert part(shown.page, "stat-tokens").text_content() == str(len(steps))
    bytes_ = len(steps) * start["cache_bytes"]
    assert part(shown.page, "stat-cache").text_content() == f"{bytes_ / 1000:.1f} kB"


@pytest.mark.parametrize(
    ("language", "tokens", "load", "temperature"), [("en", "1,234", "1.0×", "0.8"), ("pt", "1.234", "1,0×", "0,8")]
)
def test_numbers_are_formatted_for_the_language(view, long, language, tokens, load, temperature):
    start, step = long[0], {**long[1], "e": [[0, 1], [2, 3]], "s": 1.0}
    shown = view("trace", language=language)
    steps = [{**step, "i": index, "e": [[index % 4, (index + 1) % 4]] * 2} for index in range(1233)]
    shown.show([start, *steps, {**long[-2], "i": 1233, "s": 1.6129, "p": 0.976}, long[-1]])
    assert part(shown.page, "stat-tokens").text_content() == tokens
    assert part(shown.page, "load").locator(".av-cell span").first.text_content() == load
    assert f" {temperature} · " in part(shown.page, "status").text_content()
    assert part(shown.page, "stat-first").text_content() == {"en": "1,613 ms", "pt": "1.613 ms"}[language]
    popover = open_token(shown.page, -1)
    assert "98%" in popover.text_content()
    number = {"en": r"0\.\d{3} [+−] 0\.\d{3} = -?\d\.\d{3}", "pt": r"0,\d{3} [+−] 0,\d{3} = -?\d,\d{3}"}[language]
    assert all(re.fullmatch(number, text) for text in popover.locator(".av-sum").all_text_contents())


def test_no_tokens_arrive_after_stop(view, long):
    shown = view("trace")
    shown.change("waiting")
    shown.change("running", value=to_text(long[:20]))
    shown.change("stopped")
    assert state(shown) == "done"
    assert part(shown.page, "status").text_content().endswith("· stopped")
    shown.change(value=to_text(long[:40]))  # an update already in flight
    assert len(read_tokens(shown.page)) == 19
    shown.show([{**long[0], "run": "the next"}, *long[1:]])
    assert len(read_tokens(shown.page)) == len(long) - 2


def test_a_request_without_result_leaves_the_view_unchanged(view, recorded, long):
    shown = view("trace", value=to_text(recorded))
    tokens = read_tokens(shown.page)
    assert part(shown.page, "status").text_content() == "Recorded example · plain · temperature 0.8 · seed 3"
    for end, note in (("idle", None), ("stopped", None), ("refused", EN["refused"])):
        shown.change("waiting")
        assert state(shown) == "waiting"
        shown.change(end)
        if end == "stopped":
            shown.change(value=to_text(long[:20]))  # an update already in flight
        assert state(shown) == "recorded" and read_tokens(shown.page) == tokens
        assert part(shown.page, "note").is_visible() == bool(note)
        if note:
            assert part(shown.page, "note").text_content() == note
    shown.show(long)
    assert state(shown) == "done" and not part(shown.page, "note").is_visible()


def test_a_late_example_does_not_replace_a_newer_request(view, recorded, long):
    shown = view("trace", value=to_text(recorded))
    shown.change(model="endless")
    shown.show(long)
    shown.change(value="")  # `endless` has no example
    assert state(shown) == "done" and len(read_tokens(shown.page)) == len(long) - 2
    shown.change(model="plain")
    shown.change(value=to_text(recorded))
    assert state(shown) == "recorded"


def test_an_error_shows_its_reason(view, long):
    shown = view("trace", value=to_text([{"kind": "error", "message": "no <b>config</b>", "of": "example"}]))
    assert part(shown.page, "error").text_content() == "no <b>config</b>"
    assert state(shown) == "error"
    shown.show([*long[:9], {"kind": "error", "message": "the server failed"}])
    assert part(shown.page, "error").text_content() == "the server failed"
    assert (state(shown), len(read_tokens(shown.page))) == ("done", 8)
    shown.show(long)
    assert not part(shown.page, "error").is_visible()
    shown.change("idle", value=to_text([{"kind": "error", "message": "seed must be", "of": "link"}]))
    assert part(shown.page, "error").text_content() == EN["bad_link"].format(message="seed must be")


def test_opening_a_link_sends_its_request(view):
    request = {"model": "plain", "prompt": "1 + 1", "sampling": PLAY, "forced": [1, 2]}
    shown = view("trace", value=to_text([{"kind": "open", **request}]))
    assert shown.asked() == [request]


@pytest.mark.parametrize("language", ["en", "pt"])
def test_a_truncated_prompt_is_labelled(view, long, language):
    shown = view("trace", language=language)
    shown.show([{**long[0], "dropped": 1512, "context": 2048}, *long[1:]])
    numbers = {"en": ("1,512", "2,048"), "pt": ("1.512", "2.048")}[language]
    told = WORDS[language]["dropped"].format(dropped=numbers[0], context=numbers[1])
    assert part(shown.page, "note").text_content() == told
    shown.show(long)
    assert not part(shown.page, "note").is_visible()


def test_hostile_tokens_run_nothing(view, catalogue):
    events = example(catalogue, "hostile")
    shown = view("trace", value=to_text(events))
    page = shown.page
    tokens = read_tokens(page)
    assert tokens == (HOSTILE * len(tokens))[: len(tokens)] and len(tokens) > len(HOSTILE)
    page.locator(RIBBON).focus()
    page.keyboard.press("Home")
    assert HOSTILE[0] in part(page, "token").text_content()
    shown.show(
        [{**events[0], "recorded": False, "prompt": "".join(HOSTILE)}, *events[1:-1], {"kind": "end", "reason": "eos"}]
    )
    assert page.locator(TEXT).text_content() == "".join(tokens)
    popover = open_token(page, -1)
    assert popover.locator(".av-alt q").all_text_contents()[-len(HOSTILE) :] == HOSTILE
    assert popover.locator(".av-token-title q").text_content() == tokens[-1]
    popover.get_by_role("button", name=HOSTILE[0]).click()
    shown.show(
        [
            {**events[0], "recorded": False, "forced": shown.asked()[0]["forced"]},
            *events[1:-1],
            {"kind": "end", "reason": "eos"},
        ]
    )
    assert f"instead of “{tokens[-1]}”" in part(page, "status").text_content()
    page.wait_for_timeout(100)  # the error event of a broken image fires later
    assert page.evaluate("window.hacked") is None
    assert page.locator(f"{VIEW} img, {VIEW} script").count() == 0


def test_the_keyboard_navigates_the_ribbon(view, recorded):
    page = view("trace", value=to_text(recorded)).page
    page.locator(RIBBON).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".av-col.on").get_attribute("data-index") == "1"
    assert page.locator(".av-tok.on").get_attribute("data-index") == "1"
    option = page.locator(f"#{page.locator(RIBBON).get_attribute('aria-activedescendant')}")
    assert option.get_attribute("data-index") == "1"
    assert option.get_attribute("aria-selected") == "true"
    assert "token 2, from the prompt" in option.get_attribute("aria-label")
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("radio", name="layer 2").is_checked()
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("radio", name="layer 2").is_checked(), "there is no third layer"
    page.keyboard.press("Escape")
    assert page.locator(".av-col.on").count() == 0


def test_the_layer_colours_the_text(view, recorded):
    page = view("trace", value=to_text(recorded)).page
    for row, choose in ((1, page.get_by_role("radio", name="layer 2")), (0, page.locator(".av-row-labels span").first)):
        choose.click()
        colours = page.locator(f"{TEXT} .av-tok").evaluate_all("all => all.map(x => x.style.getPropertyValue('--c'))")
        assert colours == [f"var(--e{step['e'][row][0] + 1})" for step in recorded[1:-1]]


def test_hovering_links_token_column_and_cells(view, recorded):
    page = view("trace", value=to_text(recorded)).page
    show_token(page, 2).hover()
    assert page.locator(".av-col.on").get_attribute("data-index") == "2"
    page.locator(f"{RIBBON} .av-col").nth(1).hover()
    assert page.locator(".av-tok.on").get_attribute("data-index") == "1"
    steps = recorded[1:-1]
    for focus in (False, True):
        cell = page.locator(".av-cell").nth(4 + 1)  # layer 2, expert 2
        cell.focus() if focus else cell.hover()
        lit = page.locator(".av-tok.av-hit").evaluate_all("tokens => tokens.map(x => Number(x.dataset.index))")
        assert lit == [index for index, step in enumerate(steps) if 1 in step["e"][1]]
        assert "L2.E2: " in part(page, "token").text_content()
        page.mouse.move(1, 1)


def test_changing_the_language_translates_every_word(view, long):
    shown = view("trace")
    shown.show([*long[:-1], {"kind": "end", "reason": "eos"}])
    page = shown.page

    def words() -> set[str]:
        """All words of the view except the model's text, including names for screen readers."""
        page.keyboard.press("Escape")
        open_token(page, -1)
        spoken = page.locator(VIEW).locator("[aria-label]:not(.av-columns *, .av-cell)")
        shown = page.locator(VIEW).locator(
            "[data-text], [data-part=status], [data-part=verdict], h3, th, .av-hint, dd:last-child"
        )
        return {*spoken.evaluate_all("nodes => nodes.map(node => node.ariaLabel)"), *shown.all_text_contents()}

    english = words()
    shown.set_language("pt")
    portuguese = words()
    same = {text for text in english & portuguese if re.search(r"[a-z]{3}", text)}
    same = {text for text in same if not re.match(r"tokens?\b", text, re.IGNORECASE)}
    assert not same, "an English word that differs in Portuguese"
    assert part(page, "status").text_content().startswith("endless · temperatura 0,8 · semente 3")
    assert page.locator(TEXT).get_attribute("data-end") == WORDS["pt"]["end_of_text"]
    shown.set_language("en")
    assert words() == english


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_narrow_screen_the_ribbon_scrolls_and_the_popover_is_below_it(view, long, width):
    shown = view("trace", context={"viewport": {"width": width, "height": 844}})
    shown.show(long)
    page = shown.page
    show_token(page, 1).click()
    page.wait_for_selector("[data-part=popover]:not([hidden])")
    box, ribbon = part(page, "popover").bounding_box(), part(page, "ribbon").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert part(page, "popover").evaluate("box => box.scrollWidth <= box.clientWidth")
    assert box["y"] >= ribbon["y"] + ribbon["height"]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.locator(RIBBON).evaluate("box => box.scrollWidth > box.clientWidth")


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", True), ("reduce", False)])
def test_reduced_motion_disables_animations(view, long, motion, moves):
    shown = view("trace", context={"reduced_motion": motion})
    shown.change("waiting")
    shown.change("running", value=to_text(long[:20]))
    running = "document.getAnimations().filter(({ playState }) => playState === 'running').length"
    assert bool(shown.page.evaluate(running)) is moves


def test_many_experts_are_shown_by_position_and_a_dense_model_has_no_ribbon(view, long):
    shown = view("trace")
    many = [{**step, "e": [[index % 16, (index + 5) % 16]] * 2} for index, step in enumerate(long[1:-1])]
    shown.show([{**long[0], "experts": 16, "bias": [[0] * 16] * 2}, *many, long[-1]])
    cell = shown.page.locator(f"{RIBBON} .av-col i").nth(2)
    assert float(cell.evaluate("cell => cell.style.getPropertyValue('--place')")) == pytest.approx(1 / 15)
    stop = shown.page.locator(".av-cell[tabindex='0']")
    stop.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft"):
        shown.page.keyboard.press(key)
    assert stop.count() == 1, "the Tab key stops once in the table"
    assert (
        stop.get_attribute("aria-label").startswith("L2.E2: ") and "L2.E2: " in part(shown.page, "token").text_content()
    )
    bare = [{**step, "e": [], "g": [], "a": [], "d": []} for step in long[1:-1]]
    shown.show([{**long[0], "layers": 0, "experts": 0, "bias": []}, *bare, long[-1]])
    assert part(shown.page, "verdict").text_content() == EN["no_experts"]
    assert not part(shown.page, "ribbon").is_visible()
    assert open_token(shown.page, -1).locator(".av-choice").count() == 0
