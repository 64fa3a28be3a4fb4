"""Characters of several tokens, and texts from right to left, in a bare page."""

import csv
import io
from pathlib import Path

import pytest

from playground.locales import by_language
from tests.playground.conftest import answer
from tests.support.bare_page import to_text
from tests.support.steering import PLAY, RIBBON, TEXT, open_token, part, read_tokens

EN = by_language("trace")["en"]
PROMPT = "maçãs€\nسلام\n# Pergunta:\n"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def steps(catalogue):
    asked = {"model": "endless", "prompt": PROMPT, "sampling": PLAY | {"max_new_tokens": 2}}
    return answer(catalogue, asked)


def test_byte_tokens_join_into_text_and_can_each_be_chosen(view, steps):
    page = view("trace", value=to_text(steps)).page
    texts = [step["t"] for step in steps[1:-1]]
    assert read_tokens(page) == texts and page.locator(TEXT).text_content() == "".join(texts)
    last = next(at for at, text in enumerate(texts) if text == "€")
    assert texts[last - 2 : last] == ["", ""], "the tokenizer of this test writes it as three bytes"
    boxes = [page.locator(f"{TEXT} [data-index='{at}']").bounding_box() for at in range(last - 2, last + 1)]
    whole = boxes[-1]
    assert [round((box["x"] - whole["x"]) / whole["width"], 1) for box in boxes] == [0, 0.3, 0]
    for at, part_of in enumerate(boxes[:2]):
        assert part_of["width"] == pytest.approx(whole["width"] / 3, abs=0.5)
        page.mouse.click(part_of["x"] + part_of["width"] / 2, part_of["y"] + 5)
        title = page.locator("[data-part=popover] .av-token-title q")
        assert title.text_content() == EN["piece"].format(text="€", at=at + 1, of=3)
    before = texts.index("", 1) - 1  # after the token that begins the text
    after = page.locator(f"{TEXT} [data-index='{before}']").bounding_box()
    following = page.locator(f"{TEXT} .av-char").first.bounding_box()
    assert following["x"] == pytest.approx(after["x"] + after["width"], abs=0.1), "there is no gap in a word"
    columns = page.locator(f"{RIBBON} .av-col")
    joined = [columns.nth(at).get_attribute("class").split() for at in range(last - 2, last + 1)]
    assert ["av-opens" in names for names in joined] == [True, True, False]
    assert ["av-joined" in names for names in joined] == [False, True, True]
    with page.expect_download() as download:
        part(page, "csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"), newline="")))
    assert "".join(row["text"] for row in rows[::2]) == "".join(texts)


def test_each_line_of_a_text_has_its_own_direction(view, steps):
    prompt = "سلام\n5 + 3\n"
    spans = [{**steps[1], "i": at, "t": text} for at, text in enumerate(["سلام", "\n", "5 + 3"])]
    page = view("trace", value=to_text([{**steps[0], "prompt": prompt}, *spans, steps[-1]])).page
    box = page.locator(TEXT).bounding_box()
    first, _, last = (page.locator(f"{TEXT} .av-tok").nth(at).bounding_box() for at in range(3))
    assert first["x"] + first["width"] > box["x"] + box["width"] - 20, "a line of Arabic begins at the right"
    assert last["x"] < box["x"] + 20
    assert open_token(page, 0).locator("q").first.text_content() == "سلام"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ({"reason": "length"}, "cut after 2 new tokens, the maximum"),
        ({"reason": "context"}, "cut: the context of 1,234 tokens is full"),
        ({"reason": "eos"}, "end of text"),
    ],
    ids=["length", "context", "eos"],
)
def test_a_text_says_where_and_why_it_was_cut(view, steps, reason, told):
    shown = view("trace")
    shown.show([{**steps[0], "context": 1234, "dropped": 7}, *steps[1:-1], {"kind": "end", **reason}])
    text = shown.page.locator(TEXT)
    assert (text.get_attribute("data-end"), text.get_attribute("data-start")) == (told, "7 tokens cut")
    shown.show(steps)
    assert text.get_attribute("data-start") is None


def test_a_link_of_another_build_says_so(view, steps):
    served = steps[0]["release"]
    for release, told in (("0123456789ab", True), (served, False), ("", False)):
        opened = {"kind": "open", "model": "endless", "prompt": PROMPT, "sampling": PLAY, "forced": []}
        shown = view("trace", value=to_text([{**opened, "release": release}]))
        shown.show(steps)
        note = EN["other_release"].format(model="endless", linked=release, served=served)
        assert part(shown.page, "note").text_content() == (note if told else "")
