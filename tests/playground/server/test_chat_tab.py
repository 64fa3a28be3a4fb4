"""The conversation in a real Chromium: a model with a chat template, one without, and hostile text from all sides."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from axion.release import open_release
from playground.generate.chat import conversation_prompt, fit_conversation, problem_prompt
from playground.locales.chat import TEXT
from playground.server.controls import AS_PROBLEM
from tests.playground.conftest import HOSTILE, SLOW_APP, Server, served
from tests.playground.generate.test_chat import make_chatty, open_model, say

pytestmark = pytest.mark.browser

LINK = "[click](javascript:window.hacked=3)"
IDLE = ".axion-chat[data-state=idle]"
WORDS = TEXT["en"]


@pytest.fixture(scope="module")
def folders(tiny_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`untaught`, `chatty`, `talkative` and `endless` (whose answers never end), `hostile` (its letters are markup)."""
    root = tmp_path_factory.mktemp("chat-tab")
    shutil.copytree(tiny_release, root / "untaught")
    make_chatty(tiny_release, root / "chatty")
    for name in ("talkative", "endless"):
        make_chatty(tiny_release, root / name)
        _edit(root / name / "generation_config.json", eos_token_id=10**6)  # no such token
    _edit(root / "endless" / "config.json", max_position_embeddings=4096)
    shutil.copytree(root / "endless", root / "hostile")
    (root / "hostile" / "chat_template.jinja").unlink()
    attack = {"type": "Replace", "pattern": {"Regex": "[A-Za-z0-9]"}, "content": "".join([*HOSTILE, LINK])}
    decoder = json.loads((tiny_release / "tokenizer.json").read_text(encoding="utf-8"))["decoder"]
    _edit(root / "hostile" / "tokenizer.json", decoder={"type": "Sequence", "decoders": [decoder, attack]})
    return root


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.fixture(scope="module")
def chat_server(folders: Path) -> Iterator[Server]:
    with served(
        [str(folders / name) for name in ("untaught", "chatty", "talkative", "endless", "hostile")], app=SLOW_APP
    ) as running:
        yield running


@pytest.fixture
def chat(browser, chat_server: Server):
    """The tab as a visitor sees it first; the test fails if the page raised a script error."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(20_000)
    page.goto(f"{chat_server.address}/?lang=en")
    page.get_by_role("tab", name="Chat").click()
    page.wait_for_selector(".ac-starters button")
    yield page
    page.close()
    assert not errors


def choose_model(page, name: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_selector(f".axion-chat[data-model={name}]")


def ask(page, question: str, wait: bool = True) -> None:
    count = page.locator(".ac-turn").count()
    page.locator(".ac-compose textarea").fill(question)
    page.locator(".ac-compose textarea").press("Enter")
    page.wait_for_function("count => document.querySelectorAll('.ac-turn').length === count", arg=count + 1)
    if wait:
        page.wait_for_selector(IDLE)


def set_number(page, label: str, value: str) -> None:
    field = page.get_by_label(label).locator("visible=true").last
    field.fill(value)
    field.press("Tab")


def last(page, part: str) -> str:
    return page.locator(f".ac-turn:last-child .ac-{part}").text_content()


def given(page) -> str:
    """The prompt that the model was given for the last answer."""
    return last(page, "given pre")


def answer(folder: Path, prompt: str, **sampling: object) -> str:
    release = open_release(folder)
    steps = stream(release.model, release.tokenizer, prompt, Sampling(**sampling))
    return "".join(step.text for step in steps if not step.is_prompt)


def test_an_untaught_model_is_asked_each_question_alone(chat, folders):
    assert chat.locator(".ac-notice").text_content() == f"{WORDS['untaught']} {WORDS['untaught_note']}"
    assert chat.locator(".ac-starters button").count() == 4
    chat.get_by_role("button", name=WORDS["likely_3"]).click()
    chat.wait_for_selector(f"{IDLE} .ac-turn")
    ask(chat, "1 + 2")
    assert given(chat) == problem_prompt("1 + 2")
    wanted = answer(folders / "untaught", problem_prompt("1 + 2"), max_new_tokens=200)
    assert last(chat, "text") == wanted or not wanted
    assert chat.locator(".ac-turn").count() == 2
    assert chat.locator(".ac-starters").is_hidden()


def test_a_taught_model_reads_the_whole_conversation(chat, folders):
    choose_model(chat, "chatty")
    set_number(chat, "Maximum new tokens", "10")
    ask(chat, "2 + 3")
    first = last(chat, "text")
    ask(chat, "4 + 5")
    assert given(chat) == conversation_prompt(open_model(folders / "chatty"), say("2 + 3", first, "4 + 5"))


def test_what_no_longer_fits_is_left_out_and_told(chat, folders):
    choose_model(chat, "talkative")
    set_number(chat, "Temperature", "1")  # at 0 it repeats one token that has no text
    set_number(chat, "Maximum new tokens", "10")
    past: list[str] = []
    note = chat.locator(".ac-turn:last-child .ac-note")
    for index in range(6):
        question = f"{index} + 1111111111"
        ask(chat, question)
        prompt, left_out = fit_conversation(open_model(folders / "talkative"), say(*past, question), 10)
        assert given(chat) == prompt
        assert note.is_visible() == (left_out > 0)
        past += [question, last(chat, "text")]
    assert left_out > 1
    assert note.text_content() == WORDS["left_out_many"].format(count=left_out)


def test_each_answer_shows_its_experts(chat, folders):
    choose_model(chat, "endless")
    set_number(chat, "Maximum new tokens", "20")
    ask(chat, "hello")
    assert WORDS["length"] in last(chat, "meta")
    release = open_release(folders / "endless")
    steps = [
        step
        for step in stream(release.model, release.tokenizer, given(chat), Sampling(max_new_tokens=20))
        if not step.is_prompt
    ]
    assert chat.locator(".ac-turn .av-col").count() == len(steps) == 20
    reads = [expert for step in steps for experts in step.experts for expert in experts]
    shares = [f"E{expert + 1} {int(100 * reads.count(expert) / len(reads) + 0.5)}%" for expert in range(4)]
    assert chat.locator(".ac-chip").all_text_contents() == shares
    chat.locator(".ac-columns").focus()
    chat.keyboard.press("ArrowRight")
    chat.keyboard.press("ArrowRight")
    assert chat.locator(".av-col.on").get_attribute("data-index") == "1"
    assert chat.locator(".ac-text .on").text_content() == steps[1].text
    heaviest = [f"E{experts[0] + 1}" for experts in steps[1].experts]
    assert [chip.split()[0] for chip in chat.locator(".ac-chip").all_text_contents()][::2] == heaviest


def test_stop_frees_the_model_and_the_next_question_is_answered(chat, chat_server):
    choose_model(chat, "endless")
    ask_endlessly(chat)
    chat.wait_for_function(f"() => {RUNNING} && !document.querySelector('.axion-chat [data-part=stop]').click()")
    chat.wait_for_selector(IDLE)
    assert last(chat, "meta").endswith("stopped")
    count = chat.locator(".ac-turn .av-col").count()
    assert_model_rests(chat_server)
    assert chat.locator(".ac-turn .av-col").count() == count < 512
    choose_model(chat, "chatty")
    ask(chat, "1 + 1")
    assert "chatty" in last(chat, "meta")


def test_a_question_right_behind_stop_is_answered(chat):
    choose_model(chat, "endless")
    ask_endlessly(chat)
    chat.wait_for_function(f"() => {RUNNING}")
    set_number(chat, "Maximum new tokens", "3")
    chat.locator(".axion-chat [data-part=input]").fill("1 + 1")
    chat.evaluate("""() => {
      for (const name of ["stop", "send"]) document.querySelector(`.axion-chat [data-part=${name}]`).click();
    }""")
    chat.wait_for_function("document.querySelectorAll('.axion-chat .ac-turn').length === 2")
    chat.wait_for_selector(IDLE)
    assert chat.locator(".ac-turn").last.locator(".av-col").count() == 3, chat.locator(".ac-turn").last.inner_text()


RUNNING = "document.querySelectorAll('.axion-chat[data-state=running] .av-col').length > 3"


def ask_endlessly(page) -> None:
    set_number(page, "Maximum new tokens", "512")
    ask(page, "hello", wait=False)


def assert_model_rests(server: Server) -> None:
    """Within a few seconds the server stops computing: it uses under a fifth of one core."""
    deadline = time.monotonic() + 10
    while True:
        before = server.cpu_seconds()
        time.sleep(0.5)
        if server.cpu_seconds() - before < 0.1:
            return
        assert time.monotonic() < deadline, "the model still works"


def test_a_closed_tab_frees_the_model(chat, chat_server):
    choose_model(chat, "endless")
    ask_endlessly(chat)
    chat.wait_for_function(RUNNING)
    chat.close()
    assert_model_rests(chat_server)


def test_retry_takes_the_next_seed_and_clear_forgets(chat):
    set_number(chat, "Temperature", "1")
    ask(chat, "1 + 1")
    assert "seed 0" in last(chat, "meta")
    chat.get_by_role("button", name="Retry").click()
    chat.wait_for_function(
        "document.querySelector('.axion-chat[data-state=idle] .ac-meta')?.textContent.includes('seed 1')"
    )
    assert chat.locator(".ac-turn").count() == 1
    chat.get_by_role("button", name="Clear").click()
    assert chat.locator(".ac-turn").count() == 0
    assert chat.locator(".ac-starters").is_visible()


def test_hostile_text_runs_nothing(chat):
    choose_model(chat, "hostile")
    question = "".join([*HOSTILE, LINK])
    ask(chat, question)
    assert chat.locator(".ac-question").text_content() == question
    assert all(text in last(chat, "text") for text in [*HOSTILE, LINK])
    assert given(chat) == problem_prompt(question)
    chat.locator(".ac-columns").focus()
    chat.keyboard.press("ArrowRight")
    ask(chat, "and again")  # the whole of it goes to the server and back
    chat.locator("#language label").nth(1).click()  # and is drawn anew in other words
    chat.wait_for_function(
        "wanted => document.querySelector('[data-part=retry]').textContent === wanted", arg=TEXT["pt"]["retry"]
    )
    assert chat.evaluate("window.hacked") is None
    assert chat.locator(".axion-chat").locator("img, script, a").count() == 0


def test_a_conversation_from_elsewhere_is_refused(chat):
    """What the browser says is not believed: the view shows the server's own words."""
    chat.evaluate("() => { document.querySelector('.ac-compose textarea').maxLength = 100000; }")
    ask(chat, "7" * 9000)
    assert "message 1 has 9,000 characters" in last(chat, "text")
    assert chat.locator(".ac-failed").is_visible()
    ask(chat, "1 + 1")  # which leaves the refused one out
    assert given(chat) == problem_prompt("1 + 1")


def test_a_setting_out_of_range_is_not_asked(chat):
    set_number(chat, "Seed", "-1")
    ask(chat, "1 + 1")
    assert last(chat, "text") == WORDS["refused"]


def test_narrow_screen_and_portuguese(chat):
    chat.set_viewport_size({"width": 390, "height": 844})
    chat.locator("#language label").nth(1).click()
    chat.wait_for_function(
        "wanted => document.querySelector('[data-part=notice-title]').textContent === wanted",
        arg=TEXT["pt"]["untaught"],
    )
    ask(chat, "1 + 1")
    assert chat.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert chat.locator(".ac-compose").bounding_box()["y"] < chat.get_by_label("Temperatura").last.bounding_box()["y"]


@pytest.mark.parametrize("typed", [" 47+38 ", "9 -  2", "What is $& - {x}?", "# Pergunta:\nx", "1 + 2 + 3", "-3 + 4"])
def test_the_server_forms_a_question_as_the_browser_does(chat, typed):
    assert chat.evaluate(f"text => ({AS_PROBLEM})(text)", typed) == problem_prompt(typed)
