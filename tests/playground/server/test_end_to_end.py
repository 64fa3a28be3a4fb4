"""The whole page through Gradio in a real Chromium: what a view alone (tests/playground/views) cannot show."""

import json
import random
import re
import time
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest

from playground.generate import rate_limits as limits
from playground.locales import by_language
from tests.playground.conftest import HOSTILE, Server, choose_language, choose_theme, new_visitor, open_tab
from tests.support.steering import (
    PLAY,
    RIBBON,
    TEXT,
    VIEW,
    assert_is,
    choose_model,
    expected_steps,
    expected_tokens,
    first_new,
    generate,
    open_token,
    part,
    read_routing,
    read_tokens,
    read_trace,
    record_states,
    replay,
    set_number,
    set_prompt,
    set_raw,
    wait_for_status,
    wait_for_words,
    wait_until,
)

CHAT = by_language("trace", "chat")
COMPARE = by_language("trace", "comparison")
PAGE = by_language("page")
WORDS = by_language("trace")

pytestmark = pytest.mark.browser
EN = WORDS["en"]


def assert_model_rests(server: Server) -> None:
    """Assert that within seconds the server uses less than a fifth of one core."""
    deadline = time.monotonic() + 10
    while True:
        before = server.cpu_seconds()
        time.sleep(0.5)
        if server.cpu_seconds() - before < 0.1:
            return
        assert time.monotonic() < deadline, "the model is still running"


def start_endless(page) -> None:
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 512)
    generate(page)
    wait_until(page, "running")
    page.wait_for_function("document.querySelectorAll('#trace .av-tok:not(.av-prompt)').length > 3")


# -------------------------------------------------------------------------------------------------------- the first tab


def test_the_first_view_is_the_recorded_example_and_generate_reproduces_it(page):
    assert page.locator(VIEW).get_attribute("data-state") == "recorded"
    assert part(page, "status").text_content() == "Recorded example · plain · temperature 0.8 · seed 3"
    assert page.locator("#prompt textarea").input_value() == "# Question:\n"
    recorded = read_tokens(page)
    generate(page)  # the controls have the example's settings
    wait_until(page, "done")
    assert read_tokens(page) == recorded
    replay(page)  # from the browser's copy of the events
    wait_until(page, "done")
    assert read_tokens(page) == recorded


def test_an_example_and_a_sum_give_the_text_and_routing_of_the_stream(page, releases):
    filled = "wanted => document.querySelector('#prompt textarea').value === wanted"
    page.get_by_role("button", name="What is 5 + 3?").click()
    page.wait_for_function(filled, arg="What is 5 + 3?")
    a, b, seed = random.randrange(100), random.randrange(100), random.randrange(10**6)
    prompt = f"# Pergunta:\nWhat is {a} + {b}?\n--\n# Resposta:\n"
    set_prompt(page, f"{a}+{b}")
    set_number(page, "Seed", seed)
    set_number(page, "Temperature", 0.8)
    set_number(page, "Maximum new tokens", 40)
    generate(page)
    wait_until(page, "done")
    settings = {"temperature": 0.8, "seed": seed, "max_new_tokens": 40}
    expected = expected_tokens(releases / "plain", prompt, **settings)
    assert read_tokens(page) == expected
    assert page.locator(TEXT).text_content() == "".join(expected)
    assert page.locator(f"{RIBBON} .av-col").count() == len(expected)
    assert part(page, "live").text_content().startswith(f"Finished: {len(expected)} tokens.")
    trace = read_trace(page)
    assert (trace["start"]["prompt"], trace["start"]["question"]) == (prompt, f"{a}+{b}")
    assert_is(trace, expected_steps(releases / "plain", prompt, **settings))


def test_stop_stops_and_a_closed_tab_frees_the_model(page, server):
    start_endless(page)
    page.locator("#stop").click()
    wait_until(page, "done")
    assert part(page, "status").text_content().endswith("· stopped")
    count = len(read_tokens(page))
    assert count < 512
    assert_model_rests(server)
    assert len(read_tokens(page)) == count
    generate(page)
    wait_until(page, "running")
    page.close()
    assert_model_rests(server)


def join_queue(server: Server, count: int) -> None:
    """Send requests for long texts as that many other visitors, all at once."""
    config = json.load(urlopen(f"{server.address}/config"))
    ids = {component["props"].get("elem_id"): component["id"] for component in config["components"]}
    values = {component["id"]: component["props"].get("value") for component in config["components"]}
    [event] = [event for event in config["dependencies"] if [ids["trace"], "submit"] in event["targets"]]
    request = {"model": "endless", "prompt": "1", "sampling": {"max_new_tokens": 512}}
    for number in range(count):
        body = {
            "data": [values[number] for number in event["inputs"]],
            "fn_index": event["id"],
            "session_hash": f"other{number}",
        }
        body |= {"trigger_id": ids["trace"], "event_data": request}
        headers = {"Content-Type": "application/json", "X-Forwarded-For": f"203.0.113.{number}"}
        urlopen(Request(f"{server.address}/gradio_api/queue/join", json.dumps(body).encode(), headers)).close()


def test_a_queued_visitor_sees_the_queue_and_can_cancel(page, server):
    recorded = read_tokens(page)
    join_queue(server, 3)
    generate(page)
    wait_until(page, "waiting")
    assert part(page, "status").text_content() == EN["waiting"]
    page.locator("#stop").click()
    wait_until(page, "recorded")
    assert read_tokens(page) == recorded
    assert not part(page, "note").is_visible()
    generate(page)
    wait_until(page, "waiting")
    page.wait_for_selector(f"{VIEW}[data-state=done]", timeout=120_000)


def test_a_refused_request_keeps_the_trace_and_shows_the_reason(page):
    set_prompt(page, "")
    generate(page)
    page.get_by_text("the prompt is empty").wait_for()
    wait_until(page, "recorded")
    page.wait_for_selector("#trace [data-part=note]:visible")
    assert part(page, "note").text_content() == EN["refused"]
    set_prompt(page, "1")
    for _ in range(limits.BURST + limits.STARTS_PER_MINUTE):
        record_states(page)
        generate(page)
        page.wait_for_function("() => window.states.at(-1) === 'done'")
        if part(page, "note").is_visible():
            break
    assert "too many requests; try again in" in page.locator("#prompt").text_content()
    assert read_tokens(page)


def test_a_branch_matches_the_stream_with_forced_tokens_and_stops_the_previous_run(page, releases):
    start_endless(page)
    first = first_new(page)
    open_token(page, first + 2).locator(".av-alt").last.click()
    wait_for_status(page, f"branch at token {first + 3}:")
    page.locator("#stop").click()
    wait_until(page, "done")
    branch = read_trace(page)
    forced = tuple(branch["start"]["forced"])
    assert len(forced) == 3
    expected = expected_steps(releases / "endless", "# Pergunta:\n", forced, **PLAY | {"max_new_tokens": 512})
    assert_is(branch, expected[: len(branch["steps"])])


def test_a_broken_release_shows_the_reason_and_the_others_work(page):
    choose_model(page, "broken")
    page.wait_for_selector("#trace [data-part=error]:visible")
    assert part(page, "error").text_content().startswith("broken: config.json cannot be read")
    page.locator("#facts", has_text="could not be opened").wait_for()
    generate(page)
    page.wait_for_selector("#trace [data-part=error]:visible")
    choose_model(page, "plain")
    wait_until(page, "recorded")
    assert not part(page, "error").is_visible()


# ---------------------------------------------------------------------------------------------------------------- links


def visit(page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(f"{VIEW}:not([data-state=empty])")


def test_a_link_reproduces_tokens_and_routing_in_a_fresh_page(page, browser, server, releases):
    choose_model(page, "endless")
    prompt, seed = f'é\n5 + {random.randrange(100)}? & "x" = #1%', random.randrange(2**53)
    set_prompt(page, prompt)
    set_raw(page)
    set_number(page, "Seed", seed)
    set_number(page, "Temperature", 1.2)
    set_number(page, "Maximum new tokens", 24)
    generate(page)
    wait_until(page, "done")
    set_prompt(page, "something else")  # the link is for the shown trace, not for the controls
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.address)
    part(page, "copy").click()
    wait_for_words(page, "en", "copy", "copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert parse_qs(urlsplit(link).query)["prompt"] == [prompt]

    fresh = new_visitor(browser, locale="pt-PT")
    visit(fresh, link)
    wait_until(fresh, "done")
    assert read_tokens(fresh) == read_tokens(page)
    assert read_routing(fresh) == read_routing(page)
    settings = {"temperature": 1.2, "seed": seed, "max_new_tokens": 24}
    assert_is(read_trace(fresh), expected_steps(releases / "endless", prompt, **settings))
    assert fresh.locator("#model input").input_value() == "endless"
    assert fresh.locator("#prompt textarea").input_value() == prompt
    assert fresh.locator("#raw input").is_checked()
    assert fresh.get_by_label("Seed").last.input_value() == str(seed)
    assert fresh.get_by_label("Temperature").last.input_value() == "1.2"
    assert fresh.locator("#trace h2").first.text_content().startswith(EN["ribbon"]), (
        "the link sets the language to English"
    )
    fresh.close()


def test_a_reload_keeps_the_controls(page):
    choose_model(page, "endless")
    set_prompt(page, "7 + 2")
    set_number(page, "Seed", 12)
    page.wait_for_function("JSON.parse(sessionStorage.getItem('axion-controls') ?? '{}').seed === 12")
    page.reload()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value === '7 + 2'")
    page.wait_for_function("document.querySelector('#model input').value === 'endless'")
    assert page.get_by_label("Seed").last.input_value() == "12"
    generate(page)
    wait_for_status(page, "endless · ")


def test_a_link_opens_a_comparison(page, browser, server):
    query = "prompt=5&seed=3&max_new_tokens=4&a_model=plain&b_model=endless&b_temperature=1.2&b_release=0123456789ab"
    fresh = new_visitor(browser)
    fresh.goto(f"{server.address}/?{query}#compare")
    fresh.wait_for_selector("#comparison .axion-compare[data-state=done]")
    assert fresh.locator("#compare-model-b input").input_value() == "endless"
    assert fresh.locator("#compare-prompt textarea").input_value() == "5"
    assert "0123456789ab" in fresh.locator("#comparison [data-part=side-b] .av-note").text_content()
    assert fresh.locator("#trace .axion-view[data-state=recorded]").count() == 1, "the first tab is not asked"
    fresh.close()


def test_a_bad_link_shows_the_reason_and_starts_nothing(page, server):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "queue/join" in request.url else None)
    for query, said in (
        ("prompt=a&forced=1.99999", "plain has no token 99999"),
        ("prompt=a&model=broken", "config.json cannot be read"),
        ("prompt=a&seed=<img src=x onerror=window.hacked=1>&lang=pt", ""),
    ):
        page.goto(f"{server.address}/?{query}")
        page.wait_for_selector("#trace [data-part=error]:visible")
        language = "pt" if "lang=pt" in query else "en"
        start = WORDS[language]["bad_link"].format(message="")
        page.wait_for_function(
            "start => document.querySelector('#trace [data-part=error]').textContent.startsWith(start)", arg=start
        )
        assert said in part(page, "error").text_content()
        assert page.locator("#prompt textarea").input_value() in ("# Question:\n", "# Pergunta:\n"), "only translated"
    assert page.evaluate("window.hacked") is None and not asked
    visit(page, f"{server.address}/?utm_source=x&seed=7")  # contains no request
    wait_until(page, "recorded")


def test_a_link_tampers_with_the_model_and_the_snippets_repeat_it(page, server):
    query = "model=endless&prompt=%23+Pergunta%3A&max_new_tokens=4&mute=L2.E4&force=L1.E2&seed=1"
    visit(page, f"{server.address}/?{query}")
    part(page, "tampered").wait_for()
    trace = read_trace(page)
    assert trace["tampered"]["start"]["tampering"] == {"mute": "L2.E4", "force": "L1.E2"}
    assert all(1 in step["e"][0] and 3 not in step["e"][1] for step in trace["tampered"]["steps"])
    page.locator("#trace .at-cell[data-name='L2.E1']").click()
    part(page, "tamper-waiting").wait_for(state="hidden")
    open_tab(page, PAGE["en"]["tab_api"])
    page.locator("#snippet-curl", has_text="L2.E1,L2.E4").wait_for()


# ----------------------------------------------------------------------------------------------------------- other tabs


def chat(page, model: str) -> None:
    """Open the Chat tab with this model."""
    open_tab(page, "Chat")
    page.locator("#model input").click()
    page.get_by_role("option", name=model, exact=True).click()
    page.wait_for_selector(f".axion-chat[data-model={model}]")


def set_number_in_chat(page, label: str, value: int) -> None:
    field = page.get_by_label(label).locator("visible=true").last
    field.fill(str(value))
    field.press("Tab")


def ask(page, question: str, wait: bool = True) -> None:
    count = page.locator(".ac-turn").count()
    page.locator(".ac-compose textarea").fill(question)
    page.locator(".ac-compose textarea").press("Enter")
    page.wait_for_function("count => document.querySelectorAll('.ac-turn').length === count", arg=count + 1)
    if wait:
        page.wait_for_selector(".axion-chat[data-state=idle]")


STOP_AND_ASK = """(question) => {
  if (!document.querySelector(".axion-chat[data-state=running] .ac-turn:last-child .av-col")) return false;
  const part = (name) => document.querySelector(`.axion-chat [data-part=${name}]`);
  part("stop").click();
  part("input").value = question;
  part("send").click();
  return true;
}"""
"""Once an answer is on its way: stops it, and asks something else in the same moment; nothing if it is empty."""


def test_a_conversation_and_a_question_right_after_stop(page, server):
    chat(page, "talkative")
    set_number_in_chat(page, "Maximum new tokens", 5)
    ask(page, "2 + 3")
    ask(page, "4 + 5")
    given = page.locator(".ac-turn:last-child .ac-given pre").text_content()
    assert given.startswith("<|user|>2 + 3<|end|><|assistant|>") and given.endswith("4 + 5<|end|><|assistant|>")
    assert page.locator(".ac-turn:last-child .av-col").count() == 5
    set_number_in_chat(page, "Maximum new tokens", 512)
    ask(page, "hello", wait=False)
    page.wait_for_function(STOP_AND_ASK, arg="1 + 1")
    page.wait_for_function("document.querySelectorAll('.axion-chat .ac-turn').length === 4")
    page.wait_for_function(STOP_AND_ASK, arg="")
    page.wait_for_selector(".axion-chat[data-state=idle]")
    for turn in (2, 3):
        assert page.locator(".ac-turn").nth(turn).locator(".ac-meta").text_content().endswith("stopped")
    assert_model_rests(server)
    set_number_in_chat(page, "Seed", -1)
    ask(page, "1 + 1")
    assert page.locator(".ac-turn:last-child .ac-text").text_content() == CHAT["en"]["refused"]


def test_compare_draws_both_sides_swaps_and_stops(page, server, releases):
    open_tab(page, "Compare")
    root = "#comparison .axion-compare"
    sides = page.locator(".ax-compare .ax-controls")

    def set_value(column: int, label: str, value: float) -> None:
        sides.nth(column).get_by_label(label).last.fill(str(value))
        sides.nth(column).get_by_label(label).last.press("Tab")

    prompt, seed = "# Pergunta:\nQuanto é 5 + 7?\n", random.randrange(10**6)
    page.locator("#compare-prompt textarea").fill(prompt)
    set_value(3, "Maximum new tokens", 24)
    set_value(3, "Seed", seed)
    set_value(2, "Temperature", 2)
    page.locator("#compare").click()
    page.wait_for_selector(f"{root}[data-state=done]")
    for side, temperature in (("a", 0), ("b", 2)):
        steps = expected_tokens(releases / "plain", prompt, temperature=temperature, seed=seed, max_new_tokens=24)
        shown = page.locator(f"#comparison [data-part=side-{side}] .av-tok").all_text_contents()
        assert shown == steps

    page.locator("#compare-model-b input").click()
    page.locator("#compare-model-b").get_by_role("option", name="endless", exact=True).click()
    page.locator("#swap").click()
    page.wait_for_function("document.querySelector('#compare-model-a input').value === 'endless'")
    assert page.locator("#compare-model-b input").input_value() == "plain"
    assert sides.nth(1).get_by_label("Temperature").last.input_value() == "2"
    set_value(3, "Maximum new tokens", 512)
    page.locator("#compare").click()
    page.wait_for_selector(f"{root}[data-state=running]")
    page.locator("#compare-stop").click()
    page.wait_for_selector(f"{root}[data-state=done]")
    assert "stopped" in page.locator("#comparison [data-part=side-a] .av-status").text_content()
    assert_model_rests(server)
    page.locator("#compare-prompt textarea").fill("")
    page.locator("#compare").click()
    page.wait_for_selector(f"{root}[data-state=empty]")


def test_experts_and_model_follow_the_chosen_model_and_language(page):
    choose_model(page, "measured")
    open_tab(page, "Experts")
    page.wait_for_function("document.querySelectorAll('#experts .ax-card').length === 8")
    open_tab(page, "Model & training")
    page.wait_for_selector("#about .ax-charts")
    plot = page.locator("#about .ax-plot").first
    plot.scroll_into_view_if_needed()
    plot.hover()
    page.wait_for_selector("#about .ax-reading")
    choose_language(page, "pt")
    page.wait_for_selector("#about h2:has-text('Resultados medidos')")
    assert "treino" in page.locator("#about .ax-charts").text_content()
    open_tab(page, PAGE["pt"]["tab_experts"])
    page.wait_for_selector("#experts h2:has-text('O que cada especialista prefere')")
    page.locator("#model input").click()
    page.get_by_role("option", name="broken", exact=True).click()
    page.wait_for_selector("#experts .ax-error:has-text('config.json')")
    open_tab(page, PAGE["pt"]["tab_model"])
    page.wait_for_selector("#about .ax-error:has-text('config.json')")


def test_text_of_a_hostile_release_is_escaped_on_every_tab(page):
    choose_model(page, "hostile")
    wait_for_status(page, "hostile")
    set_prompt(page, "".join(HOSTILE))
    set_raw(page)
    generate(page)
    wait_until(page, "done")
    assert page.locator(TEXT).text_content().startswith("".join(HOSTILE))
    chat(page, "hostile")
    ask(page, "".join(HOSTILE))
    open_tab(page, "Compare")
    page.locator("#compare-prompt textarea").fill("".join(HOSTILE))
    page.locator("#compare").click()
    page.wait_for_selector("#comparison .axion-compare[data-state=done]")
    open_tab(page, "Experts")
    page.wait_for_selector(".ax-chips q:text('window.hacked=2')")
    open_tab(page, "Model & training")
    for text in HOSTILE[:3]:
        assert page.locator(".ax-about", has_text=text).count() == 1
    choose_language(page, "pt")  # redraws everything
    page.wait_for_selector("#about h2:has-text('Resultados medidos')")
    page.wait_for_timeout(300)  # the error event of a broken image fires later
    assert page.evaluate("window.hacked") is None
    for root in (VIEW, ".axion-chat", ".axion-compare", ".ax-experts", "#about"):
        assert page.locator(root).locator("img, script").count() == 0


# --------------------------------------------------------------------------------------------------- language and theme


def test_language_and_theme_change_the_whole_page_and_persist(page, server):
    assert page.evaluate("document.documentElement.lang") == "en"
    generate(page)
    wait_until(page, "done")
    choose_language(page, "pt")
    page.wait_for_function("document.documentElement.lang === 'pt'")
    wait_for_words(page, "pt")
    page.get_by_role("button", name="Gerar", exact=True).wait_for()
    assert part(page, "status").text_content().startswith("plain · temperatura 0,8 · semente 3")
    assert page.title() == PAGE["pt"]["title"]
    shown = page.locator(".ax-tabs [role=tab]").all_text_contents()
    assert {PAGE["pt"][f"tab_{tab}"] for tab in ("playground", "chat", "compare")} <= {name.strip() for name in shown}
    open_tab(page, PAGE["pt"]["tab_compare"])
    page.wait_for_selector(f"#comparison [data-part=empty]:has-text('{COMPARE['pt']['empty'][:40]}')")
    choose_theme(page, "dark")
    background = page.evaluate("getComputedStyle(document.querySelector('#comparison .axion-view')).backgroundColor")
    channels = list(map(int, re.findall(r"\d+", background)))
    assert max(channels) < 60
    page.reload()
    page.wait_for_function("document.body.classList.contains('dark') && document.documentElement.lang === 'pt'")
    page.locator("[role=tab][aria-selected=true]", has_text=PAGE["pt"]["tab_compare"]).wait_for()
    page.goto(f"{server.address}/?lang=en")  # a link's language comes before the last choice
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.lang") == "en"


def test_tabs_and_chapters_have_addresses(page, server):
    selected = "[role=tab][aria-selected=true]"
    open_tab(page, PAGE["en"]["tab_chat"])
    assert page.url == f"{server.address}/#chat"
    open_tab(page, PAGE["en"]["tab_model"])
    page.go_back()
    page.locator(selected, has_text=PAGE["en"]["tab_chat"]).wait_for()
    page.go_back()
    page.locator(selected, has_text=PAGE["en"]["tab_playground"]).wait_for()
    page.goto(f"{server.address}/?lang=en#doc-experts")
    page.locator(selected, has_text=PAGE["en"]["tab_api"]).wait_for()
    page.wait_for_function("Math.abs(document.getElementById('doc-experts').getBoundingClientRect().top) < 200")
