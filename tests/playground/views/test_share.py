"""Sharing the shown trace: links, JSON and CSV, in a bare page."""

import csv
import io
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from playground.generate.links import read_link
from playground.locales import by_language
from tests.playground.conftest import HOSTILE, answer
from tests.support.bare_page import ADDRESS
from tests.support.steering import (
    PLAY,
    assert_is,
    expected_steps,
    part,
    read_tokens,
    read_trace,
    wait_for_words,
)

WORDS = by_language("trace")

pytestmark = pytest.mark.browser
EN = WORDS["en"]


def request(prompt: str = "# Pergunta:\n", model: str = "endless", forced: tuple[int, ...] = (), **sampling) -> dict:
    return {"model": model, "prompt": prompt, "sampling": PLAY | sampling, "forced": list(forced)}


@pytest.fixture(scope="module")
def long(catalogue):
    return answer(catalogue, request(max_new_tokens=60))


def copy_link(page, language: str = "en") -> str:
    """Press Copy link; returns the content of the clipboard."""
    part(page, "copy").click()
    wait_for_words(page, language, "copy", "copied")
    return page.evaluate("navigator.clipboard.readText()")


def read_csv(page) -> tuple[str, list[dict[str, str]]]:
    with page.expect_download() as download:
        part(page, "csv").click()
    assert download.value.suggested_filename == "axion-trace.csv"
    text = Path(download.value.path()).read_bytes().decode()
    return text, list(csv.DictReader(io.StringIO(text, newline="")))


# ---------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize(
    "asked",
    [
        request('# é\n5 + 3? & "x" = #1%', temperature=1.2, seed=2**53 - 1, max_new_tokens=24),
        request("é€" * 4000, model="plain", max_new_tokens=3),
        request("".join(HOSTILE), forced=(5, 7), max_new_tokens=4),
    ],
    ids=["signs", "longest prompt", "hostile"],
)
def test_a_link_contains_only_what_differs_from_the_defaults(view, catalogue, asked):
    shown = view("trace")
    shown.show(answer(catalogue, asked))
    link = copy_link(shown.page)
    assert link.startswith(f"{ADDRESS}?") and not set("<>{}\"' ") & set(link)
    query = {name: value for name, [value] in parse_qs(urlsplit(link).query).items()}
    sampling = {name: str(value) for name, value in asked["sampling"].items()}
    if sampling["temperature"] == "0":
        del sampling["temperature"]
    forced = {"forced": ".".join(map(str, asked["forced"]))} if asked["forced"] else {}
    assert query.pop("release") == catalogue.open(asked["model"]).fingerprint
    assert query == {"model": asked["model"], "prompt": asked["prompt"], "lang": "en", **sampling, **forced}
    read = read_link(catalogue, query)
    assert (read.prompt, read.forced) == (asked["prompt"], tuple(asked["forced"]))
    assert {name: getattr(read.sampling, name) for name in asked["sampling"]} == asked["sampling"]


def test_a_link_keeps_the_language(view, long):
    shown = view("trace", language="pt")
    shown.show(long)
    assert parse_qs(urlsplit(copy_link(shown.page, "pt")).query)["lang"] == ["pt"]


def test_without_clipboard_access_the_link_can_be_selected(view, long):
    shown = view("trace")
    shown.show(long)
    shown.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    part(shown.page, "copy").click()
    field = part(shown.page, "link-field")
    field.wait_for()
    assert field.input_value().startswith(f"{ADDRESS}?model=endless&prompt=%23+Pergunta:%0A&seed=3&")
    assert field.evaluate("node => [node === document.activeElement, node.selectionEnd - node.selectionStart]") == [
        True,
        len(field.input_value()),
    ]


# --------------------------------------------------------------------------------------------------------- JSON and CSV


def test_json_and_csv_match_the_page(view, catalogue, releases):
    shown = view("trace", language="pt")  # numbers have decimal commas on the page, but not in files
    asked = request(max_new_tokens=16)
    shown.show(answer(catalogue, asked))
    page = shown.page
    trace = read_trace(page)
    assert trace.keys() == {"start", "steps", "end"}
    assert trace["end"] == {"reason": "length"}
    assert trace["start"]["sampling"].items() >= asked["sampling"].items()
    assert [step["t"] for step in trace["steps"]] == read_tokens(page)
    assert_is(trace, expected_steps(releases / "endless", "# Pergunta:\n", **asked["sampling"]))

    _, rows = read_csv(page)
    steps, start = trace["steps"], trace["start"]
    assert len(rows) == len(steps) * start["layers"]
    for number, row in enumerate(rows):
        step, layer = steps[number // start["layers"]], number % start["layers"]
        assert (row["position"], row["id"], row["layer"]) == (str(step["i"] + 1), str(step["id"]), str(layer + 1))
        assert row["text"] == step["t"]
        assert row["prompt"] == str(step["prompt"]).lower()
        assert float(row["probability"] or -1) == (-1 if step["p"] is None else step["p"])
        assert row["displaced"] == " ".join(str(expert + 1) for expert in step["d"][layer])
        for rank, expert in enumerate(step["e"][layer]):
            found = [float(row[f"{name}_{rank + 1}"]) for name in ("expert", "gate", "affinity", "bias")]
            assert found == [expert + 1, step["g"][layer][rank], step["a"][layer][rank], start["bias"][layer][expert]]
    assert any(row["displaced"] for row in rows)


def test_spreadsheets_do_not_read_tokens_as_formulas(view, long):
    formulas = ["=1+1", "+a", "-1+2", "@x", "\t=x", "--x", "=-1"]
    texts = ["--", "-", "==", "+1", "-1.5", "\tx", 'a "quoted", text\n', "plain", "'quoted", " = 2", *HOSTILE]
    shown = view("trace")
    steps = [{**long[1], "i": index, "t": text} for index, text in enumerate([*formulas, *texts])]
    shown.show([long[0], *steps, long[-1]])
    text, rows = read_csv(shown.page)
    assert [row["text"] for row in rows[::2]] == [*(f"'{formula}" for formula in formulas), *texts]
    assert text.endswith("\r\n") and text.count("\r\n") == len(rows) + 1
    assert [step["t"] for step in read_trace(shown.page)["steps"]] == [*formulas, *texts]
