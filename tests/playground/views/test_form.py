"""A problem's question, reasoning and answer in the trace and in Chat: as parts, and as the model reads them."""

import re

import pytest

from axion.data.format import CHOICE, Equation, prompt
from axion.data.working import working
from playground.generate.verdicts import check_written
from playground.locales import by_language
from tests.playground.conftest import answer
from tests.support.bare_page import to_text
from tests.support.steering import PLAY, VIEW, part

pytestmark = pytest.mark.browser
WORDS = by_language("trace")
ASKED = prompt("What is 2637 + 7504?", reasoning=None)
LINES = working(Equation(2637, "+", 7504))
TOKEN = re.compile(r"--\n|# |Pergunta|Raciocínio|Resposta|:\n|[0-9]|\n| ?\w+|[^\w]")


def events(catalogue, asked: str, written: str, **start: object) -> list[dict]:
    """A recorded generation with these texts."""
    base = answer(catalogue, {"model": "plain", "prompt": "a", "sampling": PLAY})
    tokens = [(text, True) for text in TOKEN.findall(asked)] + [(text, False) for text in TOKEN.findall(written)]
    steps = [
        {**base[1], "i": place, "t": text, "prompt": is_prompt, "p": None if is_prompt else 0.5, "s": place / 1000}
        for place, (text, is_prompt) in enumerate(tokens)
    ]
    return [
        {**base[0], "prompt": asked, **start},
        *steps,
        {"kind": "end", "reason": "eos", **check_written(asked, written)},
    ]


@pytest.fixture(scope="module")
def thought(catalogue):
    reasoning = "\n".join(LINES)
    return events(catalogue, ASKED, f"# Raciocínio:\n{reasoning}\n--\n# Resposta:\n10141", question="2637+7504")


def names(page) -> list[str]:
    return page.locator(".av-part-name").evaluate_all("all => all.map((name) => name.dataset.name)")


def seen(page, selector: str) -> list[str]:
    return page.locator(selector).evaluate_all("all => all.map((node) => node.innerText.trim())")


def test_the_parts_have_headings_in_the_readers_language(view, thought):
    shown = view("trace")
    shown.change("waiting")
    shown.change("running", value=to_text(thought[:-8]))  # the answer's heading is not complete
    shown.change("running", value=to_text(thought))
    shown.change("idle")
    page = shown.page
    assert names(page) == ["Question", "Thinking", "Answer"]
    assert seen(page, ".av-part-body")[0] == "What is 2637 + 7504?" and seen(page, ".av-part-body")[2] == "10141"
    whole = "".join(step["t"] for step in thought if step["kind"] == "step")
    assert part(page, "text").text_content() == whole, "nothing is added to the model's own text"
    assert "# " not in part(page, "text").inner_text()
    shown.set_language("pt")
    assert names(page) == ["Pergunta", "Raciocínio", "Resposta"]
    part(page, "raw").click()
    raw = part(page, "text").inner_text().replace("\u200b", "")
    assert raw.strip().split() == whole.strip().split() and part(page, "raw").get_attribute("aria-pressed") == "true"


def test_lines_of_working_stand_in_columns(view, thought):
    shown = view("trace")
    shown.show(thought)
    lines = shown.page.locator(".av-line")
    assert lines.count() == len(LINES)
    for number, line in enumerate(LINES):
        cells = seen(shown.page, f".av-line >> nth={number} >> .av-cell-of-line")
        assert cells == line.split(";")
    done = shown.page.locator(".av-line .av-done")
    assert [text.strip() for text in done.all_inner_texts()] == [line.split(";")[-1] for line in LINES[1:]]
    left = done.evaluate_all("all => all.map((cell) => Math.round(cell.getBoundingClientRect().left))")
    assert len(set(left)) == 1, "the result so far is always in the last column"


def test_right_and_wrong_are_said_where_they_are_known(view, catalogue, thought):
    shown = view("trace")
    shown.show(thought)
    text = part(shown.page, "answer").text_content()
    assert text == "Right: 10141. The model gave this answer a probability of 3%."  # one half, five times
    wrong = "\n".join(LINES).replace(";141", ";140")
    shown.show(events(catalogue, ASKED, f"# Raciocínio:\n{wrong}\n--\n# Resposta:\n10140", run="2"))
    text = part(shown.page, "answer").text_content()
    assert text.startswith("Wrong: the right answer is 10141, the model wrote 10140. Line ")
    assert shown.page.locator(".av-wrong-line").count() == 1
    shown.show(events(catalogue, prompt("Who are you?"), "me", run="3"))
    assert part(shown.page, "answer").text_content() == "The model gave this answer a probability of 50%."
    shown.show(events(catalogue, "Once upon", " a time", run="4"))
    assert part(shown.page, "answer").is_hidden() and part(shown.page, "raw").is_hidden()


def test_a_hidden_heading_is_reached_by_keys_and_tokens_can_be_shaded(view, thought):
    shown = view("trace")
    shown.show(thought)
    page = shown.page
    part(page, "columns").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.locator("#trace [data-part=popover]").is_visible()
    page.keyboard.press("Escape")
    page.locator(f"{VIEW} .av-layers label", has_text=WORDS["en"]["sureness"]).click()
    colours = page.locator(".av-tok:visible").evaluate_all("all => all.map((x) => getComputedStyle(x).backgroundColor)")
    assert len(set(colours)) == 2, "new tokens are shaded, those of the prompt are not"


def test_chat_shows_the_thinking_apart_from_the_answer(view, thought):
    shown = view("chat")
    model = {"kind": "model", "model": "plain", "chat": False, "context": 512, "starters": {"en": [], "pt": []}}
    shown.change(value=to_text([model]))
    shown.page.locator("[data-part=input]").fill("2637+7504")
    shown.page.locator("[data-part=send]").click()
    turn = {"kind": "turn", "turn": shown.asked()[-1]["turn"], "left_out": 0}
    written = [event for event in thought[1:] if not event.get("prompt")]
    shown.change("running", value=to_text([turn, thought[0], *written]))
    shown.change("idle")
    assert ASKED.endswith(CHOICE) and names(shown.page)[-2:] == ["Thinking", "Answer"]
    assert seen(shown.page, ".ac-text .av-part-body")[-1] == "10141"
    assert shown.page.locator(".ac-answer .av-answer").text_content().startswith("Right: 10141.")
    assert part_of_chat(shown.page, "live") == "Answer: 10141"


def part_of_chat(page, name: str) -> str:
    return page.locator(f"#chat [data-part={name}]").text_content()
