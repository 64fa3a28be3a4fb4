"""The pace of a trace in a bare page: generations that are drawn more slowly than they arrive, and replays."""

import pytest

from playground.locales import by_language
from tests.playground.conftest import answer, example
from tests.support.bare_page import to_text
from tests.support.steering import PLAY, VIEW, part, read_routing, read_tokens, read_trace, replay, wait_until

EN = by_language("trace")["en"]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def long(catalogue):
    """The events of sixty new tokens."""
    sampling = PLAY | {"max_new_tokens": 60}
    return answer(catalogue, {"model": "endless", "prompt": "# Pergunta:\n", "sampling": sampling, "forced": []})


def texts(events: list[dict]) -> list[str]:
    return [event["t"] for event in events if event["kind"] == "step"]


# ---------------------------------------------------------------------------------------------------------- generations


def test_new_tokens_are_drawn_at_the_chosen_pace(view, long):
    shown = view("trace", pace="3")
    page = shown.page
    shown.show(long)
    prompt = sum(event["kind"] == "step" and event["prompt"] for event in long)
    assert page.locator(VIEW).get_attribute("data-state") == "running"
    assert prompt <= len(read_tokens(page)) < len(texts(long)), "the prompt is drawn at once, new tokens are not"
    assert part(page, "pause").text_content() == EN["pause"]
    part(page, "pause").click()
    held = len(read_tokens(page))
    assert part(page, "pause").text_content() == EN["continue"]
    page.wait_for_timeout(400)
    assert len(read_tokens(page)) == held
    for more in (1, 2, 3):
        part(page, "step").click()
        assert len(read_tokens(page)) == held + more
    assert part(page, "replay").text_content() == EN["show_all"]
    part(page, "replay").click()
    wait_until(page, "done")
    assert read_tokens(page) == texts(long)
    assert part(page, "step").is_disabled() and part(page, "replay").text_content() == EN["replay"]
    rapid = view("trace")
    rapid.show(long)
    assert view_of(page) == view_of(rapid.page), "the figures are the model's own, whatever the pace"


def test_the_last_step_ends_the_trace(view, long):
    shown = view("trace", pace="3")
    shown.show([*long[:5], long[-1]])
    while not part(shown.page, "step").is_disabled():
        part(shown.page, "step").click()
    assert shown.page.locator(VIEW).get_attribute("data-state") == "done"
    assert read_tokens(shown.page) == texts(long[:5])


def test_the_pace_is_kept_and_may_change_while_tokens_wait(view, long):
    shown = view("trace", pace="3")
    page = shown.page
    shown.show(long)
    part(page, "pace").select_option("own")
    wait_until(page, "done")
    assert page.evaluate("localStorage.getItem('axion-pace')") == "own"
    shown.set_language("pt")
    assert part(page, "pace").input_value() == "own"


def test_stop_drops_the_tokens_that_are_not_drawn_yet(view, long):
    shown = view("trace", pace="3")
    shown.change("waiting")
    shown.change("running", value=to_text(long[:40]))
    shown.change("stopped")
    held = len(read_tokens(shown.page))
    assert part(shown.page, "status").text_content().endswith("· stopped") and held < 39
    shown.change(value=to_text(long))  # an update already in flight
    assert len(read_tokens(shown.page)) == held


def test_a_recorded_example_is_drawn_at_once(view, catalogue):
    recorded = example(catalogue)
    shown = view("trace", value=to_text(recorded), pace="3")
    assert read_tokens(shown.page) == texts(recorded)


# -------------------------------------------------------------------------------------------------------------- replays


def view_of(page) -> dict:
    """Everything that the view shows."""
    names = ("status", "text", "verdict", "load", "stat-tokens", "stat-speed", "stat-first", "stat-cache")
    return {name: part(page, name).text_content() for name in names} | {"ribbon": read_routing(page)}


def paced(events: list[dict], seconds: float) -> list[dict]:
    """The same events, with the last token after this many seconds."""
    steps = len(events) - 2
    return [event | ({"s": seconds * at / steps} if event["kind"] == "step" else {}) for at, event in enumerate(events)]


@pytest.mark.parametrize("model", ["plain", "endless"])
def test_a_replay_ends_with_the_same_content(view, catalogue, long, model):
    """`plain` is a recorded example, which has no timings."""
    if model == "plain":
        shown = view("trace", value=to_text(example(catalogue)))
    else:
        shown = view("trace")
        shown.show(paced(long, 0.5))
    page = shown.page
    before, trace, state = view_of(page), read_trace(page), page.locator(VIEW).get_attribute("data-state")
    page.evaluate(
        "() => { window.least = Infinity; new MutationObserver(() => { window.least = Math.min(window.least,"
        " document.querySelectorAll('.av-tok').length); })"
        ".observe(document.querySelector('[data-part=columns]'), { childList: true }); }"
    )
    replay(page)
    wait_until(page, state)
    assert page.evaluate("least") < len(trace["steps"])
    assert view_of(page) == before
    assert read_trace(page) == trace
    assert shown.page.evaluate("host.asked") == []


def test_the_button_ends_a_replay_at_once(view, long):
    shown = view("trace")
    shown.show(paced(long, 600))
    page = shown.page
    before = view_of(page)
    part(page, "replay").click()
    wait_until(page, "replaying")
    assert part(page, "replay").text_content() == EN["show_all"]
    part(page, "replay").click()
    wait_until(page, "done")
    assert view_of(page) == before
    assert part(page, "replay").text_content() == EN["replay"]


def test_a_new_run_during_a_replay_is_shown(view, long):
    shown = view("trace")
    shown.show(paced(long, 600))
    part(shown.page, "replay").click()
    wait_until(shown.page, "replaying")
    seed = long[0]["sampling"] | {"seed": 77}
    shown.show([{**long[0], "sampling": seed}, *long[1:20], long[-1]])
    wait_until(shown.page, "done")
    assert "seed 77" in part(shown.page, "status").text_content()
    assert len(read_tokens(shown.page)) == 19


def test_with_reduced_motion_a_replay_takes_few_steps(view, long):
    counts = {}
    for motion in ("no-preference", "reduce"):
        shown = view("trace", context={"reduced_motion": motion})
        shown.show(paced(long, 1.0))
        page = shown.page
        page.evaluate(
            """() => {
              window.changes = 0;
              const columns = document.querySelector("[data-part=columns]");
              new MutationObserver(() => window.changes++).observe(columns, { childList: true });
            }"""
        )
        part(page, "replay").click()
        wait_until(page, "replaying")
        wait_until(page, "done")
        counts[motion] = page.evaluate("window.changes")
    assert counts["reduce"] <= 4 * 1.0 + 3 < counts["no-preference"]
