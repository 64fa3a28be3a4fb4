"""The shown trace taken along: links, JSON, CSV, and the replay."""

import csv
import io
import json
import random
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from playground.locales.trace import TEXT as WORDS
from tests.playground.conftest import HOSTILE, choose_language, new_visitor
from tests.support.steering import (
    PLAY,
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
    set_prompt,
    wait_for_status,
    wait_for_words,
    wait_until,
)

pytestmark = pytest.mark.browser
EN = WORDS["en"]


def copy_link(page, server) -> str:
    """Press Copy link; returns what then stands in the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.address)
    part(page, "copy").click()
    wait_for_words(page, "en", "copy", "copied")
    return page.evaluate("navigator.clipboard.readText()")


def visit(page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(f"{VIEW}:not([data-state=empty])")


def read_csv(page) -> tuple[str, list[dict[str, str]]]:
    with page.expect_download() as download:
        part(page, "csv").click()
    assert download.value.suggested_filename == "axion-trace.csv"
    text = Path(download.value.path()).read_bytes().decode()
    return text, list(csv.DictReader(io.StringIO(text, newline="")))


# ---------------------------------------------------------------------------------------------------------------- links


def test_a_link_reproduces_tokens_and_routing_in_a_fresh_page(page, browser, server, releases):
    choose_model(page, "endless")
    prompt, seed = f'# é\n5 + {random.randrange(100)}? & "x" = #1%', random.randrange(2**53)
    set_prompt(page, prompt)
    set_number(page, "Seed", seed)
    set_number(page, "Temperature", 1.2)
    set_number(page, "Maximum new tokens", 24)
    generate(page)
    wait_until(page, "done")
    set_prompt(page, "something else")  # the link is of what is shown, and not of the controls
    set_number(page, "Seed", 1)
    shown = read_trace(page)
    link = copy_link(page, server)
    query = parse_qs(urlsplit(link).query)
    assert query == {
        "model": ["endless"],
        "prompt": [prompt],
        "seed": [str(seed)],
        "temperature": ["1.2"],
        "max_new_tokens": ["24"],
        "lang": ["en"],
    }

    fresh = new_visitor(browser, locale="pt-PT")
    visit(fresh, link)
    wait_until(fresh, "done")
    assert read_tokens(fresh) == read_tokens(page)
    assert read_routing(fresh) == read_routing(page)
    again = read_trace(fresh)
    assert [step["g"] for step in again["steps"]] == [step["g"] for step in shown["steps"]]
    settings = {"temperature": 1.2, "seed": seed, "max_new_tokens": 24}
    assert_is(again, expected_steps(releases / "endless", prompt, **settings))

    assert fresh.locator("#model input").input_value() == "endless"
    assert fresh.locator("#prompt textarea").input_value() == prompt
    assert fresh.get_by_label("Seed").last.input_value() == str(seed)
    assert fresh.get_by_label("Temperature").last.input_value() == "1.2"
    assert fresh.locator("#trace h2").first.text_content().startswith(EN["ribbon"]), "the link says en"
    generate(fresh)  # the controls are as the link says
    wait_until(fresh, "waiting")
    wait_until(fresh, "done")
    assert read_tokens(fresh) == read_tokens(page)
    fresh.close()


def test_a_branch_s_link_says_what_was_forced(page, server):
    open_token(page, first_new(page) + 1).locator(".av-alt").last.click()
    wait_for_status(page, "branch")
    wait_until(page, "done")
    shown = read_trace(page)
    link = copy_link(page, server)
    assert parse_qs(urlsplit(link).query)["forced"] == [".".join(map(str, shown["start"]["forced"]))]
    visit(page, link)
    wait_until(page, "done")
    again = read_trace(page)
    assert [(step["id"], step["e"], step["g"]) for step in again["steps"]] == [
        (step["id"], step["e"], step["g"]) for step in shown["steps"]
    ]
    taken = first_new(page) + 2
    assert f"branch at token {taken}:" in part(page, "status").text_content()


def test_a_link_keeps_the_language(page, server):
    choose_language(page, "pt")
    wait_for_words(page, "pt", "copy", "copy")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.address)
    part(page, "copy").click()
    wait_for_words(page, "pt", "copy", "copied")
    visit(page, page.evaluate("navigator.clipboard.readText()"))
    wait_until(page, "done")
    wait_for_words(page, "pt", "copy", "copy")


def test_where_the_clipboard_is_refused_the_link_can_be_selected(page):
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    part(page, "copy").click()
    field = part(page, "link-field")
    field.wait_for()
    assert field.input_value().startswith(f"{page.url.rstrip('/')}/?model=plain&prompt=%23+Pergunta:%0A&seed=3&")
    assert field.evaluate("node => [node === document.activeElement, node.selectionEnd - node.selectionStart]") == [
        True,
        len(field.input_value()),
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("prompt=a&seed=1.5", "seed must be a whole number"),
        ("prompt=a&temperature=nan", "temperature must be a number"),
        ("prompt=a&model=nobody", "does not offer that model; it offers plain,"),
        ("prompt=a&model=broken", "config.json cannot be read"),
        ("prompt=a&forced=1.99999", "plain has no token 99999"),
        ("prompt=a&forced=x", "forced must be token ids"),
        ("prompt=&seed=1", "the prompt is empty"),
        ("prompt=" + "a" * 8001, "at most 8,000 are taken"),
        ("prompt=a&seed=<img src=x onerror=window.hacked=1>", "seed must be a whole number"),
    ],
    ids=lambda text: text[:36],
)
def test_a_bad_link_says_what_is_wrong_and_runs_nothing(page, server, query, said):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "queue/join" in request.url else None)
    page.goto(f"{server.address}/?{query}")
    page.wait_for_selector("#trace [data-part=error]:visible")
    text = part(page, "error").text_content()
    assert text.startswith(EN["bad_link"].format(message="")) and said in text
    assert not asked
    assert page.locator("#prompt textarea").input_value() == "# Pergunta:\n", "the controls are left alone"
    assert page.evaluate("window.hacked") is None
    generate(page)  # and the page works
    wait_until(page, "done")


def test_a_link_in_portuguese_is_refused_in_portuguese(page, server):
    page.goto(f"{server.address}/?prompt=a&seed=x&lang=pt")
    start = WORDS["pt"]["bad_link"].format(message="")
    page.wait_for_function(
        "start => document.querySelector('#trace [data-part=error]')?.textContent.startsWith(start)", arg=start
    )


def test_an_address_that_asks_for_nothing_shows_the_example(page, server):
    page.goto(f"{server.address}/?utm_source=x&seed=7")
    wait_until(page, "recorded")


def test_a_link_with_the_longest_prompt_opens(page, server):
    prompt = "é€" * 4000
    set_prompt(page, prompt)
    set_number(page, "Maximum new tokens", 3)
    generate(page)
    wait_until(page, "done")
    tokens = read_tokens(page)
    visit(page, copy_link(page, server))
    wait_until(page, "done")
    assert read_tokens(page) == tokens
    assert page.locator("#prompt textarea").input_value() == prompt


# ------------------------------------------------------------------------------------------------------- JSON and CSV


def test_json_and_csv_hold_what_is_on_the_page(page, releases):
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 16)
    generate(page)
    wait_until(page, "done")
    trace = read_trace(page)
    assert trace.keys() == {"start", "steps", "end"}
    assert trace["end"] == {"reason": "length"}
    assert trace["start"]["sampling"] == PLAY | {
        "max_new_tokens": 16,
        "min_new_tokens": 0,
        "top_k": 0,
        "top_p": 1,
        "min_p": 0,
        "repetition_penalty": 1,
    }
    assert [step["t"] for step in trace["steps"]] == read_tokens(page)
    assert_is(trace, expected_steps(releases / "endless", "# Pergunta:\n", **PLAY | {"max_new_tokens": 16}))

    _, rows = read_csv(page)
    steps, start = trace["steps"], trace["start"]
    assert len(rows) == len(steps) * start["layers"]
    for number, row in enumerate(rows):
        step, layer = steps[number // start["layers"]], number % start["layers"]
        assert (row["position"], row["id"], row["layer"]) == (str(step["i"] + 1), str(step["id"]), str(layer + 1))
        assert row["text"] == ("'" if re.match("[=+@\\t-]", step["t"]) else "") + step["t"]
        assert row["prompt"] == str(step["prompt"]).lower()
        assert float(row["probability"] or -1) == (-1 if step["p"] is None else step["p"])
        assert row["displaced"] == " ".join(str(expert + 1) for expert in step["d"][layer])
        for rank, expert in enumerate(step["e"][layer]):
            found = [float(row[f"{name}_{rank + 1}"]) for name in ("expert", "gate", "affinity", "bias")]
            assert found == [expert + 1, step["g"][layer][rank], step["a"][layer][rank], start["bias"][layer][expert]]
    assert any(row["displaced"] for row in rows)


def test_a_spreadsheet_takes_no_token_for_a_formula(page):
    texts = ["=1+1", "+1", "-1", "@x", "\tx", 'a "quoted", text\n', "plain", "'quoted", " = 2"]
    start = read_trace(page)["start"]
    show(page, start, texts)
    text, rows = read_csv(page)
    found = [row["text"] for row in rows[:: start["layers"]]]
    assert found == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", *texts[5:]]
    assert text.endswith("\r\n") and text.count("\r\n") == len(rows) + 1


def show(page, start: dict, texts: list[str]) -> None:
    """Let the server's next answer to Generate be a trace of these tokens."""
    step = {"kind": "step", "id": 40, "prompt": False, "p": 0.5, "alt": [[40, "x", 0.5]], "s": 0.1}
    routing = {"e": [[0, 1], [2, 3]], "g": [[0.6, 0.4], [0.7, 0.3]], "a": [[0.5, 0.4], [0.5, 0.4]], "d": [[], []]}
    steps = [step | routing | {"i": index, "t": text} for index, text in enumerate(texts)]
    events = [
        {"kind": "start", **start, "run": "shown", "recorded": False},
        *steps,
        {"kind": "end", "reason": "length"},
    ]
    value = "".join(json.dumps(event) + "\n" for event in events)

    def answer(route) -> None:
        body = route.fetch().text()
        lines = []
        for line in body.splitlines():
            if line.startswith("data:") and '"process_completed"' in line:
                message = json.loads(line[5:])
                message["output"]["data"] = [value]
                line = "data: " + json.dumps(message)
            lines.append(line)
        route.fulfill(body="\n".join(lines) + "\n\n", headers={"content-type": "text/event-stream"})

    page.route("**/queue/data*", answer)
    generate(page)
    page.wait_for_function("count => document.querySelectorAll('#trace .av-tok').length === count", arg=len(texts))


def test_hostile_tokens_stay_text_in_link_json_and_csv(page, server):
    choose_model(page, "hostile")
    wait_for_status(page, "hostile")
    shown = read_tokens(page)
    assert [step["t"] for step in read_trace(page)["steps"]] == shown
    _, rows = read_csv(page)
    assert [row["text"] for row in rows[::2]] == shown

    prompt = "".join(HOSTILE)
    set_prompt(page, prompt)
    generate(page)
    wait_until(page, "done")
    link = copy_link(page, server)
    assert not set("<>{}\"' ") & set(link)
    visit(page, link)
    wait_until(page, "done")
    assert page.locator(TEXT).text_content().startswith(prompt)
    assert page.evaluate("window.hacked") is None
    assert page.locator(f"{VIEW} img, {VIEW} script").count() == 0


# --------------------------------------------------------------------------------------------------------------- replay


def view_of(page) -> dict:
    """All that the view shows."""
    names = ("status", "text", "verdict", "load", "stat-tokens", "stat-speed", "stat-first", "stat-cache")
    return {name: part(page, name).text_content() for name in names} | {"ribbon": read_routing(page)}


@pytest.mark.parametrize("model", ["plain", "endless"])
def test_a_replay_ends_with_the_same_content(page, model):
    """`plain` is the recorded example."""
    if model != "plain":
        choose_model(page, model)
        set_number(page, "Maximum new tokens", 60)
        generate(page)
        wait_until(page, "done")
    before, trace, state = view_of(page), read_trace(page), page.locator(VIEW).get_attribute("data-state")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    part(page, "replay").click()
    wait_until(page, "replaying")
    if model != "plain":  # whose few tokens may all be back before one has looked
        assert len(read_tokens(page)) < len(trace["steps"])
    wait_until(page, state)
    assert view_of(page) == before
    assert read_trace(page) == trace
    assert not [url for url in asked if "queue" in url or "/run" in url]


def test_the_button_ends_a_replay_at_once(page):
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 200)
    generate(page)
    wait_until(page, "done")
    before = view_of(page)
    part(page, "replay").click()
    page.wait_for_function("document.querySelectorAll('#trace .av-tok:not(.av-prompt)').length > 2")
    assert part(page, "replay").text_content() == EN["replay_stop"]
    part(page, "replay").click()
    wait_until(page, "done")
    assert view_of(page) == before
    assert part(page, "replay").text_content() == EN["replay"]


def test_generate_during_a_replay_shows_the_new_run(page):
    choose_model(page, "endless")
    set_number(page, "Maximum new tokens", 100)
    generate(page)
    wait_until(page, "done")
    part(page, "replay").click()
    wait_until(page, "replaying")
    set_number(page, "Seed", 77)
    generate(page)
    wait_for_status(page, "seed 77")
    wait_until(page, "done")
    assert len(read_trace(page)["steps"]) == first_new(page) + 100


def test_with_little_motion_a_replay_goes_in_few_steps(browser, server):
    counts = {}
    for motion in ("no-preference", "reduce"):
        page = new_visitor(browser, reduced_motion=motion)
        visit(page, server.address)
        choose_model(page, "endless")
        set_number(page, "Maximum new tokens", 120)
        generate(page)
        wait_until(page, "done")
        page.evaluate(
            """() => {
              window.changes = 0;
              const columns = document.querySelector("#trace [data-part=columns]");
              new MutationObserver(() => window.changes++).observe(columns, { childList: true });
            }"""
        )
        part(page, "replay").click()
        wait_until(page, "replaying")
        wait_until(page, "done")
        seconds = read_trace(page)["steps"][-1]["s"]
        counts[motion] = page.evaluate("window.changes")
        page.close()
    assert counts["reduce"] <= 4 * seconds + 3 < counts["no-preference"]
