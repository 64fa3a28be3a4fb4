"""Drives the page in Chromium and reads the view of a trace, for tests and pictures.

Views in a bare page (`tests.support.bare_page`) have the same ids as on the Gradio page, so functions that read a view
work on both. Functions that use the page's controls need the Gradio page.
"""

from __future__ import annotations

import json
from pathlib import Path

from axion.inference.sampling import Sampling
from axion.inference.stream import Step, stream
from axion.release import open_release
from playground.locales import by_language

TABLE = by_language("trace")

READY = ".axion-view:not([data-state=empty])"
"""Present once the page has drawn its first trace."""

VIEW = "#trace .axion-view"
TEXT = "#trace [data-part=text]"
RIBBON = "#trace [data-part=columns]"
POPOVER = "#trace [data-part=popover]"

PLAY = {"temperature": 0.8, "seed": 3, "max_new_tokens": 4}
"""The settings of the recorded example, which the controls have at first."""


def part(page, name: str):
    """The part of the view with this `data-part`."""
    return page.locator(f"#trace [data-part={name}]")


def choose_model(page, name: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("name => document.querySelector('#model input').value === name", arg=name)


def set_number(page, label: str, value: float) -> None:
    page.get_by_label(label).last.fill(str(value))
    page.get_by_label(label).last.press("Tab")


def set_prompt(page, text: str) -> None:
    page.locator("#prompt textarea").fill(text)


def set_raw(page, prefix: str = "") -> None:
    """Have the model read exactly what is typed."""
    page.locator(f"#{prefix}raw input").check()


def generate(page) -> None:
    page.locator("#generate").click()


def wait_until(page, state: str) -> None:
    page.wait_for_selector(f"{VIEW}[data-state={state}]")


def record_states(page) -> None:
    """Collect the view's states in `window.states`, since polling could miss a short one."""
    page.evaluate(
        "selector => { const view = document.querySelector(selector); window.states = [];"
        " new MutationObserver(() => window.states.push(view.dataset.state))"
        ".observe(view, { attributes: true, attributeFilter: ['data-state'] }); }",
        VIEW,
    )


def replay(page) -> None:
    """Click Replay and wait until it ends."""
    record_states(page)
    part(page, "replay").click()
    page.wait_for_function("() => window.states.includes('replaying') && window.states.at(-1) !== 'replaying'")


def wait_for_status(page, text: str) -> str:
    """Wait until the view's status line contains `text`; returns the line."""
    page.wait_for_function(
        "text => document.querySelector('#trace [data-part=status]').textContent.includes(text)", arg=text
    )
    return part(page, "status").text_content()


def read_tokens(page) -> list[str]:
    return page.locator(f"{TEXT} .av-tok").evaluate_all("tokens => tokens.map(token => token.textContent)")


def read_routing(page) -> list[list[str]]:
    """The colours and strengths of the cells in each column of the ribbon."""
    return page.locator(f"{RIBBON} .av-col").evaluate_all(
        "columns => columns.map(column => [...column.querySelectorAll('i')].map(cell => cell.getAttribute('style')))"
    )


def read_trace(page) -> dict:
    """Download the trace with the JSON button."""
    with page.expect_download() as download:
        part(page, "json").click()
    assert download.value.suggested_filename == "axion-trace.json"
    return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))


def expected_steps(folder: Path, prompt: str, forced: tuple[int, ...] = (), **sampling) -> list[Step]:
    release = open_release(folder)
    return list(stream(release.model, release.tokenizer, prompt, Sampling(**sampling), forced=forced))


def expected_tokens(folder: Path, prompt: str, **sampling) -> list[str]:
    return [step.text for step in expected_steps(folder, prompt, **sampling)]


def assert_is(trace: dict, steps: list[Step]) -> None:
    """Assert that the shown trace has exactly these steps, routing included."""
    records = [{name: value for name, value in step.items() if name != "s"} for step in trace["steps"]]
    assert records == [step.to_record() for step in steps]


def wait_for_words(page, language: str, name: str = "copy", word: str = "copy") -> None:
    """Wait until the part `name` shows the text `word` in this language."""
    page.wait_for_function(
        "([name, text]) => document.querySelector(`#trace [data-part=${name}]`).textContent === text",
        arg=[name, TABLE[language][word]],
    )


def show_token(page, index: int):
    """A token of the text; one of a heading is seen where the text is shown as the model reads it."""
    token = page.locator(f"{TEXT} .av-tok").nth(index)
    if not token.is_visible():
        part(page, "raw").click()
    return token


def open_token(page, index: int):
    """Click a token of the text; returns its popover."""
    show_token(page, index).click()
    page.wait_for_selector(f"{POPOVER}:not([hidden])")
    return page.locator(POPOVER)


def first_new(page) -> int:
    """The index of the first token after the prompt."""
    return page.locator(f"{TEXT} .av-tok.av-prompt").count()


def open_tab(page, name: str) -> None:
    """Open a tab, also if a narrow page has moved it into the overflow menu."""
    strip = page.locator(".ax-tabs > .tab-wrapper")
    strip.locator(".visually-hidden button", has_text=name).wait_for(state="attached")
    tab = strip.get_by_role("tab", name=name, exact=True)
    if not tab.count():
        strip.locator(".overflow-menu > button").click()
        tab = strip.locator(".overflow-dropdown button", has_text=name)
    tab.click()
    strip.locator("[role=tab][aria-selected=true]", has_text=name).wait_for()


def choose_language(page, code: str) -> None:
    """Click EN or PT in the page's header."""
    page.locator("#language label", has_text=code.upper()).click()


def choose_theme(page, scheme: str) -> None:
    """Switch the page to light or dark with its button."""
    if page.evaluate("document.body.classList.contains('dark')") != (scheme == "dark"):
        page.locator("#theme").click()
    page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
    page.wait_for_function("document.getAnimations().every((animation) => !(animation instanceof CSSTransition))")
