"""The chat view in a bare page."""

import json
import shutil
from dataclasses import asdict

import pytest

from axion.data.asking import problem_prompt
from axion.inference.sampling import Sampling
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.chat import answer_events, conversation_prompt, fit_conversation
from playground.generate.events import to_line
from playground.generate.presets import QUESTIONS
from playground.generate.request import LIMITS
from playground.locales import by_language
from playground.server.tabs.chat import model_text
from tests.playground.conftest import HOSTILE
from tests.playground.generate.test_chat import say
from tests.support.bare_page import View, to_text
from tests.support.measured import make_chatty

TEXT = by_language("trace", "chat")

pytestmark = pytest.mark.browser
WORDS = TEXT["en"]
LINK = "[click](javascript:window.hacked=3)"


OPENINGS = ["Once upon a time", "<b>The fox</b> said"]


@pytest.fixture(scope="module")
def models(tiny_release, tmp_path_factory) -> Catalogue:
    """`plain`, `chatty`, a chat model whose answers never end, and `tales`, a model of text."""
    root = tmp_path_factory.mktemp("chat-view")
    shutil.copytree(tiny_release, root / "plain")
    make_chatty(tiny_release, root / "chatty")
    generation = root / "chatty" / "generation_config.json"
    generation.write_text(
        json.dumps(json.loads(generation.read_text()) | {"eos_token_id": 10**6})
    )  # not a token, so the text never ends
    shutil.copytree(tiny_release, root / "tales")
    (root / "tales" / "release.json").write_text(json.dumps({"openings": OPENINGS}))
    return Catalogue([str(root / name) for name in ("plain", "chatty", "tales")])


@pytest.fixture(scope="module")
def plain(models) -> OpenModel:
    return models.open("plain")


@pytest.fixture(scope="module")
def chatty(models) -> OpenModel:
    return models.open("chatty")


def settings(**values: object) -> dict:
    chosen = {name: value for name, value in asdict(Sampling()).items() if name in LIMITS}
    return chosen | {"max_new_tokens": 10} | values


def ask(shown: View, model: OpenModel, question: str, by_key: bool = True, **values: object) -> list[dict]:
    """Ask in the view and respond as the server does; returns the events."""
    field = shown.page.locator(".ac-compose textarea")
    field.fill(question)
    if by_key:
        field.press("Enter")
    else:
        shown.page.get_by_role("button", name=WORDS["send"]).click()
    return answer(shown, model, **values)


def answer(shown: View, model: OpenModel, **values: object) -> list[dict]:
    events = list(answer_events(model, shown.asked()[-1], settings(**values)))
    shown.show(events)
    return events


def state(shown: View) -> str:
    return shown.page.locator(".axion-chat").get_attribute("data-state")


def last(shown: View, part: str) -> str:
    return shown.page.locator(f".ac-turn:last-child .ac-{part}").text_content()


def test_a_base_model_is_asked_each_question_alone(view, plain):
    shown = view("chat", value=model_text(plain))
    assert shown.page.locator(".ac-notice").text_content() == f"{WORDS['cannot_chat']} {WORDS['cannot_chat_note']}"
    assert shown.page.locator(".ac-starters button").count() == 4
    shown.page.get_by_role("button", name=WORDS["likely_3"]).click()
    assert state(shown) == "waiting" and last(shown, "text") == WORDS["waiting"]
    answer(shown, plain)
    events = ask(shown, plain, "1 + 2", by_key=False)
    assert shown.asked()[-1]["messages"] == say("1 + 2")
    assert last(shown, "given pre") == problem_prompt("1 + 2", language="en")
    wanted = "".join(event["t"] for event in events if event["kind"] == "step")
    assert last(shown, "text") == wanted or not wanted
    assert shown.page.locator(".ac-turn").count() == 2
    assert shown.page.locator(".ac-starters").is_hidden()


def test_a_model_of_text_is_given_openings(view, models):
    shown, tales = view("chat", value=model_text(models.open("tales"))), models.open("tales")
    assert shown.page.locator(".ac-notice").text_content() == f"{WORDS['cannot_chat']} {WORDS['text_note']}"
    assert shown.page.locator(".ac-starters button").all_text_contents() == OPENINGS
    assert shown.page.locator(".ac-compose textarea").get_attribute("placeholder") == OPENINGS[0]
    shown.page.get_by_role("button", name=OPENINGS[1]).click()
    answer(shown, tales)
    assert last(shown, "given pre") == OPENINGS[1]


def test_a_chat_model_reads_the_whole_conversation(view, chatty):
    shown = view("chat", value=model_text(chatty))
    title, note = WORDS["can_chat"], WORDS["can_chat_note"].format(context=chatty.facts.context)
    assert shown.page.locator(".ac-notice").text_content() == f"{title} {note}"
    ask(shown, chatty, "2 + 3")
    first = last(shown, "text")
    ask(shown, chatty, "4 + 5")
    assert shown.asked()[-1]["messages"] == say("2 + 3", first, "4 + 5")
    assert last(shown, "given pre") == conversation_prompt(chatty, say("2 + 3", first, "4 + 5"))


def test_a_long_answer_fits_a_narrow_screen(view, chatty):
    shown = view("chat", value=model_text(chatty))
    shown.page.set_viewport_size({"width": 390, "height": 844})
    ask(shown, chatty, "2 + 3", temperature=1, max_new_tokens=60)
    widths = shown.page.eval_on_selector_all(
        ".ac-log, .ac-turn, .ac-answer, .ac-text", "all => all.map(e => e.clientWidth)"
    )
    assert min(widths) > 0 and max(widths) <= 390
    assert shown.page.locator(".ac-starters button").all_text_contents() == list(QUESTIONS["en"])


def test_messages_that_no_longer_fit_are_dropped_with_a_notice(view, chatty):
    shown = view("chat", value=model_text(chatty))
    past: list[str] = []
    note = shown.page.locator(".ac-turn:last-child .ac-note")
    for index in range(5):
        question = f"{index} + 1111111111"
        ask(shown, chatty, question, temperature=1)  # at temperature 0 it repeats a token without text
        prompt, left_out = fit_conversation(chatty, say(*past, question), 10)
        assert last(shown, "given pre") == prompt
        assert note.is_visible() == (left_out > 0)
        past += [question, last(shown, "text")]
    assert left_out > 1
    assert note.text_content() == WORDS["left_out_many"].format(count=left_out)


def test_each_answer_shows_its_experts(view, chatty):
    shown = view("chat", value=model_text(chatty))
    page = shown.page
    steps = [event for event in ask(shown, chatty, "hello", max_new_tokens=20) if event["kind"] == "step"]
    assert WORDS["length"] in last(shown, "meta")
    assert page.locator(".ac-turn .av-col").count() == len(steps) == 20
    assert last(shown, "routing") == WORDS["point"]
    page.locator(".ac-columns").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".av-col.on").get_attribute("data-index") == "1"
    assert page.locator(".ac-text .on").text_content() == steps[1]["t"]
    heaviest = [f"L{layer}.E{experts[0] + 1}" for layer, experts in enumerate(steps[1]["e"], 1)]
    assert [chip.split()[0] for chip in page.locator(".ac-chip").all_text_contents()][::2] == heaviest


def test_stop_ends_the_answer_and_the_next_question_follows(view, chatty):
    shown = view("chat", value=model_text(chatty))
    page = shown.page
    events = ask(shown, chatty, "hello", max_new_tokens=30)
    page.locator(".ac-compose textarea").fill("again")
    page.locator(".ac-compose textarea").press("Enter")
    turn = shown.asked()[-1]["turn"]
    events = [events[0] | {"turn": turn}, *events[1:]]
    shown.change("waiting")
    shown.change("running", value=to_text(events[:9]))
    assert state(shown) == "running"
    page.get_by_role("button", name=WORDS["stop"]).click()
    assert (state(shown), len(shown.asked("stop"))) == ("idle", 1)
    assert last(shown, "meta").endswith("stopped")
    shown.change(value=to_text(events))  # an update already in flight
    assert page.locator(".ac-turn:last-child .av-col").count() == 7
    ask(shown, chatty, "1 + 1", max_new_tokens=3)
    assert page.locator(".ac-turn:last-child .av-col").count() == 3


def test_retry_uses_the_next_seed_and_clear_empties_the_conversation(view, chatty):
    shown = view("chat", value=model_text(chatty))
    page = shown.page
    ask(shown, chatty, "1 + 1", temperature=0.5)
    assert "temperature 0.5 · seed 0" in last(shown, "meta")
    page.get_by_role("button", name="Retry").click()
    answer(shown, chatty, temperature=0.5)
    assert "seed 1" in last(shown, "meta")
    assert page.locator(".ac-turn").count() == 1
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".ac-turn").count() == 0
    assert page.locator(".ac-starters").is_visible()


def test_a_refusal_is_shown_and_left_out_of_the_next_request(view, chatty):
    shown = view("chat", value=model_text(chatty))
    for end in ("refused", "idle"):  # refused before it was queued, or the model could not be opened
        shown.page.locator(".ac-compose textarea").fill("1 + 1")
        shown.page.locator(".ac-compose textarea").press("Enter")
        shown.change("waiting")
        shown.change(end)
        assert last(shown, "text") == WORDS["refused"] and state(shown) == "idle"
    shown.page.evaluate("() => { document.querySelector('.ac-compose textarea').maxLength = 100000; }")
    ask(shown, chatty, "7" * 9000)
    assert "message 1 has 9,000 characters" in last(shown, "text")  # the server's own message
    assert shown.page.locator(".ac-turn:last-child .ac-failed").is_visible()
    ask(shown, chatty, "1 + 1")
    assert shown.asked()[-1]["messages"] == say("1 + 1")


def test_hostile_text_runs_nothing(view, plain):
    shown = view("chat", value=model_text(plain))
    page = shown.page
    question, attack = "".join(HOSTILE[:2]), "".join([*HOSTILE, LINK])
    events = ask(shown, plain, question)
    assert last(shown, "question") == question
    assert last(shown, "given pre") == problem_prompt(question)
    page.get_by_role("button", name="Retry").click()
    step = {"kind": "step", "i": 9, "t": attack, "p": 0.5, "e": [[0, 1]] * 2, "g": [[0.6, 0.4]] * 2, "s": 0.1}
    start = [events[0] | {"turn": shown.asked()[-1]["turn"]}, events[1] | {"run": "another"}]
    shown.show([*start, step, {"kind": "end", "reason": "eos"}])
    assert last(shown, "text") == attack
    page.locator(".ac-columns").focus()
    page.keyboard.press("ArrowRight")
    shown.change(value=to_line({"kind": "error", "message": attack}))
    assert page.locator("[data-part=error]").text_content() == attack
    shown.set_language("pt")  # redraws it
    assert page.locator("[data-part=retry]").text_content() == TEXT["pt"]["retry"]
    page.wait_for_timeout(100)  # the error event of a broken image fires later
    assert page.evaluate("window.hacked") is None
    assert page.locator(".axion-chat").locator("img, script, a").count() == 0


def test_narrow_screen_and_portuguese(view, chatty):
    shown = view("chat", language="pt", value=model_text(chatty), context={"viewport": {"width": 390, "height": 844}})
    shown.page.locator(".ac-compose textarea").fill("1 + 1")
    shown.page.locator(".ac-compose textarea").press("Enter")
    answer(shown, chatty, temperature=0.5, max_new_tokens=60)
    assert last(shown, "meta").startswith("chatty · temperatura 0,5 · semente 0")
    assert shown.page.evaluate("document.scrollingElement.scrollWidth") <= 390


def test_a_reload_keeps_the_conversation(view, chatty):
    shown = view("chat", value=model_text(chatty))
    page = shown.page
    ask(shown, chatty, "2 + 3")
    ask(shown, chatty, "4 + 5")
    texts = [page.locator(".ac-turn").nth(turn).text_content() for turn in (0, 1)]
    page.reload()
    assert [page.locator(".ac-turn").nth(turn).text_content() for turn in (0, 1)] == texts
    assert page.locator("[data-part=live]").text_content() == "", "what was read out is not read again"
    ask(shown, chatty, "6 + 7")
    sent = shown.asked()[-1]["messages"]
    assert [message["content"] for message in sent[::2]] == ["2 + 3", "4 + 5", "6 + 7"]
    page.get_by_role("button", name=WORDS["clear"]).click()
    page.reload()
    assert page.locator(".ac-turn").count() == 0
