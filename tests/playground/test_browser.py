"""The page in a real Chromium."""

import random
import time
from pathlib import Path

import pytest

from axion.generation import Sampling, stream
from axion.release import open_release

from .conftest import HOSTILE, Server

pytestmark = pytest.mark.browser
TEXT = "[data-part=text]"
VIEW = ".axion-view"


def choose_model(page, name: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("name => document.querySelector('#model input').value === name", arg=name)


def set_number(page, label: str, value: float) -> None:
    page.get_by_label(label).last.fill(str(value))
    page.get_by_label(label).last.press("Tab")


def set_prompt(page, text: str) -> None:
    page.locator("#prompt textarea").fill(text)


def generate(page) -> None:
    page.locator("#generate").click()


def wait_until(page, state: str) -> None:
    page.wait_for_selector(f"{VIEW}[data-state={state}]")


def read_tokens(page) -> list[str]:
    return page.locator(".av-tok").evaluate_all("tokens => tokens.map(token => token.textContent)")


def expected_tokens(folder: Path, prompt: str, **sampling) -> list[str]:
    release = open_release(folder)
    return [step.text for step in stream(release.model, release.tokenizer, prompt, Sampling(**sampling))]


def test_first_view_is_the_recorded_example(page):
    assert page.locator(VIEW).get_attribute("data-state") == "recorded"
    assert page.locator("[data-part=status]").text_content() == "Recorded example · plain · temperature 0.8 · seed 3"
    assert page.locator("#prompt textarea").input_value() == "# Pergunta:\n"
    recorded = read_tokens(page)
    generate(page)  # the controls hold the example's own settings
    wait_until(page, "done")
    assert read_tokens(page) == recorded


def test_a_sum_gives_the_text_of_the_stream(page, releases):
    a, b, seed = random.randrange(100), random.randrange(100), random.randrange(10**6)
    prompt = f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n"
    set_prompt(page, prompt)
    set_number(page, "Seed", seed)
    set_number(page, "Maximum new tokens", 40)
    generate(page)
    wait_until(page, "done")
    expected = expected_tokens(releases / "plain", prompt, temperature=0.8, seed=seed, max_new_tokens=40)
    assert read_tokens(page) == expected
    assert page.locator(TEXT).text_content() == "".join(expected)
    assert page.locator(".av-col").count() == len(expected)
    assert page.locator("[data-part=stat-tokens]").text_content() == str(len(expected))
    assert int(page.locator("[data-part=stat-speed]").text_content()) > 0
    assert "fair share" in page.locator("[data-part=verdict]").text_content()
    assert page.locator("[data-part=live]").text_content().startswith(f"Finished: {len(expected)} tokens.")


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
    page.wait_for_function("document.querySelectorAll('.av-tok:not(.av-prompt)').length > 3")


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
    assert page.locator("[data-part=status]").text_content().endswith("· stopped")
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


def test_hostile_tokens_run_nothing(page):
    choose_model(page, "hostile")
    page.wait_for_function("document.querySelector('[data-part=status]').textContent.includes('hostile')")
    shown = read_tokens(page)
    assert shown == HOSTILE[: len(shown)] and len(shown) > 2
    page.locator("[data-part=columns]").focus()
    page.keyboard.press("End")  # the details of the last token quote more of it
    assert HOSTILE[0] in page.locator("[data-part=token]").text_content()
    set_prompt(page, "".join(HOSTILE))
    generate(page)
    wait_until(page, "done")
    assert page.locator(TEXT).text_content().startswith("".join(HOSTILE))
    assert page.evaluate("window.hacked") is None
    assert page.locator(f"{VIEW} img, {VIEW} script").count() == 0


def test_a_broken_release_shows_why_and_the_others_work(page):
    choose_model(page, "broken")
    page.wait_for_selector("[data-part=error]:visible")
    assert page.locator("[data-part=error]").text_content().startswith("broken: config.json cannot be read")
    assert "could not be opened" in page.locator("#facts").text_content()
    generate(page)
    page.wait_for_timeout(500)
    assert page.locator("[data-part=error]").is_visible()
    choose_model(page, "plain")
    wait_until(page, "recorded")
    assert not page.locator("[data-part=error]").is_visible()


def test_a_prompt_longer_than_the_context_is_refused(page):
    set_prompt(page, "1" * 500)
    generate(page)
    page.wait_for_selector("[data-part=error]:visible")
    assert "context" in page.locator("[data-part=error]").text_content()


def test_keyboard_walks_the_ribbon(page):
    page.locator("[data-part=columns]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".av-col.on").get_attribute("data-index") == "1"
    assert page.locator(".av-tok.on").get_attribute("data-index") == "1"
    assert page.locator("[data-part=columns]").get_attribute("aria-activedescendant") == "axion-token-1"
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("radio", name="layer 2").is_checked()
    page.keyboard.press("Escape")
    assert page.locator(".av-col.on").count() == 0


def test_narrow_screen(page):
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Model", "Playground"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(100)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert page.locator(VIEW).bounding_box()["y"] < page.locator("#prompt").bounding_box()["y"]


def test_model_tab_shows_the_counted_parameters(page, releases):
    from axion.params import count_parameters

    page.get_by_role("tab", name="Model").click()
    total = count_parameters(open_release(releases / "plain").config).total
    assert page.locator(".ax-about tfoot td").nth(1).text_content() == f"{total:,}"
