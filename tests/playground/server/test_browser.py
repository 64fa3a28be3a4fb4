"""The first tab in a real Chromium: generating, stopping, reading the trace."""

import json
import random
import re
import time
from urllib.request import Request, urlopen

import pytest

from axion.release import open_release
from playground.generate import rate_limits as limits
from playground.locales.trace import TEXT as WORDS
from tests.playground.conftest import HOSTILE, Server, choose_language, open_tab
from tests.support.steering import (
    RIBBON,
    TEXT,
    VIEW,
    assert_is,
    choose_model,
    expected_steps,
    expected_tokens,
    generate,
    open_token,
    part,
    read_tokens,
    read_trace,
    set_number,
    set_prompt,
    wait_for_status,
    wait_for_words,
    wait_until,
)

pytestmark = pytest.mark.browser


def test_first_view_is_the_recorded_example(page):
    assert page.locator(VIEW).get_attribute("data-state") == "recorded"
    assert part(page, "status").text_content() == "Recorded example · plain · temperature 0.8 · seed 3"
    assert page.locator("#prompt textarea").input_value() == "# Pergunta:\n"
    recorded = read_tokens(page)
    generate(page)  # the controls hold the example's own settings
    wait_until(page, "done")
    assert read_tokens(page) == recorded


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_a_sum_gives_the_text_of_the_stream(page, releases, temperature):
    a, b, seed = random.randrange(100), random.randrange(100), random.randrange(10**6)
    prompt = f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n"
    set_prompt(page, prompt)
    set_number(page, "Seed", seed)
    set_number(page, "Temperature", temperature)
    set_number(page, "Maximum new tokens", 40)
    generate(page)
    wait_until(page, "done")
    settings = {"temperature": temperature, "seed": seed, "max_new_tokens": 40}
    expected = expected_tokens(releases / "plain", prompt, **settings)
    assert read_tokens(page) == expected
    assert page.locator(TEXT).text_content() == "".join(expected)
    assert page.locator(f"{RIBBON} .av-col").count() == len(expected)
    assert part(page, "stat-tokens").text_content() == str(len(expected))
    assert "fair share" in part(page, "verdict").text_content()
    assert part(page, "live").text_content().startswith(f"Finished: {len(expected)} tokens.")
    assert_is(read_trace(page), expected_steps(releases / "plain", prompt, **settings))


def test_the_load_is_counted_over_all_tokens(page):
    generate(page)
    wait_until(page, "done")
    trace = read_trace(page)
    start, steps = trace["start"], trace["steps"]
    labels = part(page, "load").locator(".av-cell span").all_text_contents()
    reads = [sum(expert in step["e"][row] for step in steps) for row in range(2) for expert in range(4)]
    fair = len(steps) * start["experts_per_token"] / start["experts"]
    assert [float(label[:-1]) for label in labels] == pytest.approx([count / fair for count in reads], abs=0.051)
    most = page.locator("#trace .av-cell").evaluate_all("all => all.findIndex(x => x.classList.contains('av-most'))")
    assert reads[most] == max(reads)


def test_the_speed_is_that_of_the_new_tokens(page):
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 30)
    generate(page)
    wait_until(page, "done")
    steps = read_trace(page)["steps"]
    ready, last = (max(step["s"] for step in steps if step["prompt"] is prompt) for prompt in (True, False))
    assert abs(int(part(page, "stat-speed").text_content()) - 30 / (last - ready)) <= 0.5
    first = next(step["s"] for step in steps if not step["prompt"])
    assert part(page, "stat-first").text_content() == f"{round(1000 * first)} ms"


def test_presets_fill_the_prompt(page):
    page.get_by_role("button", name="Quanto é 5 + 3?").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('5 + 3')")
    assert page.locator("#prompt textarea").input_value() == "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"


@pytest.mark.parametrize(
    ("typed", "question"),
    [("47+38", "Quanto é 47 + 38?"), (" What is $& - 2? ", "What is $& - 2?"), ("# Pergunta:\nx", None)],
)
def test_a_question_is_put_into_the_form_that_was_taught(page, typed, question):
    set_prompt(page, typed)
    page.locator("#as-problem").click()
    wanted = typed if question is None else f"# Pergunta:\n{question}\n--\n# Resposta:\n"
    page.wait_for_function("wanted => document.querySelector('#prompt textarea').value === wanted", arg=wanted)


def start_endless(page) -> None:
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 512)
    generate(page)
    wait_until(page, "running")
    page.wait_for_function("document.querySelectorAll('#trace .av-tok:not(.av-prompt)').length > 3")


def assert_model_rests(server: Server) -> None:
    """Within two seconds the server stops computing: it uses under a fifth of one core."""
    time.sleep(1.5)
    before = server.cpu_seconds()
    time.sleep(0.5)
    assert server.cpu_seconds() - before < 0.1


def test_stop_stops(page, server):
    start_endless(page)
    page.locator("#stop").click()
    wait_until(page, "done")
    assert part(page, "status").text_content().endswith("· stopped")
    count = len(read_tokens(page))
    assert count < 512
    assert_model_rests(server)
    assert len(read_tokens(page)) == count
    generate(page)  # and the page still works
    wait_until(page, "running")
    page.locator("#stop").click()
    wait_until(page, "done")


def test_a_closed_tab_frees_the_model(page, server):
    start_endless(page)
    page.close()
    assert_model_rests(server)


def join_queue(server: Server, count: int) -> None:
    """Other visitors ask for long texts, all at once."""
    config = json.load(urlopen(f"{server.address}/config"))
    ids = {component["props"].get("elem_id"): component["id"] for component in config["components"]}
    values = {component["id"]: component["props"].get("value") for component in config["components"]}
    [event] = [event for event in config["dependencies"] if [ids["trace"], "submit"] in event["targets"]]
    wish = {"model": "endless", "prompt": "1", "sampling": {"max_new_tokens": 512}}
    for number in range(count):
        body = {
            "data": [values[number] for number in event["inputs"]],
            "fn_index": event["id"],
            "session_hash": f"other{number}",
        }
        body |= {"trigger_id": ids["trace"], "event_data": wish}
        headers = {"Content-Type": "application/json", "X-Forwarded-For": f"203.0.113.{number}"}
        urlopen(Request(f"{server.address}/gradio_api/queue/join", json.dumps(body).encode(), headers)).close()


def test_who_waits_for_a_place_is_told_so_and_can_stop(page, server):
    recorded = read_tokens(page)
    join_queue(server, 8)
    generate(page)
    wait_until(page, "waiting")
    assert part(page, "status").text_content() == WORDS["en"]["waiting"]
    page.locator("#stop").click()
    wait_until(page, "recorded")
    assert read_tokens(page) == recorded
    assert not part(page, "note").is_visible()
    generate(page)
    wait_until(page, "waiting")
    page.wait_for_selector(f"{VIEW}[data-state=done]", timeout=120_000)


def test_a_refused_wish_does_not_wait_for_ever(page):
    set_prompt(page, "")
    generate(page)
    page.get_by_text("the prompt is empty").wait_for()
    wait_until(page, "recorded")
    assert part(page, "note").text_content() == WORDS["en"]["refused"]
    set_prompt(page, "1")
    generate(page)
    wait_until(page, "done")
    assert not part(page, "note").is_visible()


def test_who_asks_too_often_is_told_so_and_keeps_the_trace(page):
    for _ in range(limits.BURST + limits.STARTS_PER_MINUTE):
        page.wait_for_selector(f"{VIEW}:not([data-state=waiting], [data-state=running])")
        generate(page)
        page.wait_for_selector(f"{VIEW}:not([data-state=waiting], [data-state=running])")
        if part(page, "note").is_visible():
            break
    assert "too many requests from you" in page.locator("#prompt").text_content()
    assert page.locator(VIEW).get_attribute("data-state") == "done"
    assert read_tokens(page)


def test_hostile_tokens_run_nothing(page):
    choose_model(page, "hostile")
    wait_for_status(page, "hostile")
    shown = read_tokens(page)
    assert shown == (HOSTILE * len(shown))[: len(shown)] and len(shown) > len(HOSTILE)
    page.locator(RIBBON).focus()
    page.keyboard.press("Home")
    assert HOSTILE[0] in part(page, "token").text_content()
    set_prompt(page, "".join(HOSTILE))
    generate(page)
    wait_until(page, "done")
    assert page.locator(TEXT).text_content().startswith("".join(HOSTILE))
    assert page.evaluate("window.hacked") is None
    assert page.locator(f"{VIEW} img, {VIEW} script").count() == 0


def test_a_broken_release_shows_why_and_the_others_work(page):
    choose_model(page, "broken")
    page.wait_for_selector("#trace [data-part=error]:visible")
    assert part(page, "error").text_content().startswith("broken: config.json cannot be read")
    page.locator("#facts", has_text="could not be opened").wait_for()
    generate(page)
    wait_until(page, "error")
    assert part(page, "error").is_visible()
    choose_model(page, "plain")
    wait_until(page, "recorded")
    assert not part(page, "error").is_visible()


@pytest.mark.parametrize("language", ["en", "pt"])
def test_a_prompt_longer_than_the_context_is_cut_in_plain_sight(page, releases, language):
    prompt = "0123456789" * 30
    choose_language(page, language)
    wait_for_words(page, language)
    assert not part(page, "note").is_visible()
    set_prompt(page, prompt)
    generate(page)
    wait_until(page, "done")
    release = open_release(releases / "plain")
    context = release.config.max_position_embeddings
    ids = release.tokenizer(prompt).input_ids
    dropped = len(ids) - page.locator(f"{TEXT} .av-prompt").count()
    assert 0 < dropped < len(ids)
    assert part(page, "note").text_content() == WORDS[language]["dropped"].format(dropped=dropped, context=context)
    assert part(page, "note").is_visible()
    set_prompt(page, "1")
    generate(page)
    page.wait_for_selector("#trace [data-part=note]", state="hidden")


def test_keyboard_walks_the_ribbon(page):
    page.locator(RIBBON).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#trace .av-col.on").get_attribute("data-index") == "1"
    assert page.locator("#trace .av-tok.on").get_attribute("data-index") == "1"
    option = page.locator(f"#{page.locator(RIBBON).get_attribute('aria-activedescendant')}")
    assert option.get_attribute("data-index") == "1"
    assert option.get_attribute("aria-selected") == "true"
    assert "token 2, from the prompt" in option.get_attribute("aria-label")
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("radio", name="layer 2").is_checked()
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("radio", name="layer 2").is_checked(), "there is no third layer"
    page.keyboard.press("Escape")
    assert page.locator("#trace .av-col.on").count() == 0


def test_hovering_links_token_column_and_cells(page):
    page.locator(f"{TEXT} .av-tok").nth(2).hover()
    assert page.locator("#trace .av-col.on").get_attribute("data-index") == "2"
    page.locator(f"{RIBBON} .av-col").nth(1).hover()
    assert page.locator("#trace .av-tok.on").get_attribute("data-index") == "1"
    steps = read_trace(page)["steps"]
    for focus in (False, True):
        cell = page.locator("#trace .av-cell").nth(4 + 1)  # layer 2, expert 2
        cell.focus() if focus else cell.hover()
        lit = page.locator("#trace .av-tok.av-hit").evaluate_all("tokens => tokens.map(x => Number(x.dataset.index))")
        assert lit == [index for index, step in enumerate(steps) if 1 in step["e"][1]]
        assert "Layer 2, expert 2" in part(page, "token").text_content()
        page.mouse.move(1, 1)


def test_another_language_changes_every_word_of_the_view(page):
    generate(page)
    wait_until(page, "done")

    def words() -> set[str]:
        """All words of the view but the model's own, and the names that are spoken."""
        open_token(page, -1)
        view = page.locator(VIEW)
        named = view.locator("[aria-label]:not(.av-columns *, .av-cell)")
        spoken = named.evaluate_all("nodes => nodes.map(node => node.ariaLabel)")
        shown = view.locator("[data-text], [data-part=status], [data-part=verdict], h3, th, .av-hint, dd:last-child")
        return {*spoken, *shown.all_text_contents()}

    english = words()
    choose_language(page, "pt")
    wait_for_words(page, "pt")
    portuguese = words()
    same = {text for text in english & portuguese if re.search(r"[a-z]{3}", text)}
    same = {text for text in same if not re.match(r"tokens?\b", text, re.IGNORECASE)}
    assert not same, "a word that is another one in Portuguese"
    assert part(page, "status").text_content().startswith("plain · temperatura 0.8 · semente 3")
    assert page.locator(TEXT).get_attribute("data-end") in (None, WORDS["pt"]["end_of_text"])
    choose_language(page, "en")
    wait_for_words(page, "en")
    assert words() == english


def test_narrow_screen(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(".ax-tabs > .tab-wrapper .overflow-menu > button").wait_for()
    for tab in ("Model & training", "Playground"):
        open_tab(page, tab)
        page.wait_for_function("document.scrollingElement.scrollWidth <= 390")
    assert page.locator(VIEW).bounding_box()["y"] < page.locator("#prompt").bounding_box()["y"]
    page.locator(f"{TEXT} .av-tok").nth(1).click()
    page.wait_for_selector("#trace [data-part=popover]:not([hidden])")
    box, ribbon = part(page, "popover").bounding_box(), part(page, "ribbon").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert box["y"] >= ribbon["y"] + ribbon["height"]
    page.wait_for_function("document.scrollingElement.scrollWidth <= 390")


def test_a_wide_ribbon_scrolls_in_itself(page):
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 120)
    generate(page)
    wait_until(page, "done")
    scrolled = page.locator(RIBBON).evaluate("box => [box.scrollWidth, box.clientWidth, box.scrollLeft]")
    assert scrolled[0] > scrolled[1] and scrolled[2] > 0, "the newest token is kept in sight"
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 1280


def test_model_tab_shows_the_counted_parameters(page, releases):
    from axion.params import count_parameters

    open_tab(page, "Model & training")
    total = count_parameters(open_release(releases / "plain").config).total
    assert page.locator(".ax-about").get_by_text(f"{total:,}").count()


def test_a_model_s_late_example_does_not_cover_what_was_asked_of_it(page):
    held = []
    page.route("**/run/predict*", lambda route: held.append(route))
    choose_model(page, "hostile")
    generate(page)
    wait_for_status(page, "hostile")
    wait_until(page, "done")
    tokens = read_tokens(page)
    assert held
    for route in held:
        with page.expect_response("**/run/predict*"):
            route.continue_()
    page.unroute("**/run/predict*")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert read_tokens(page) == tokens
    assert page.locator(VIEW).get_attribute("data-state") == "done"
    choose_model(page, "plain")
    wait_until(page, "recorded")
