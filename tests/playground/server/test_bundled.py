"""The page as `make demo` starts it: the bundled model, a real Chromium, and the command line beside it."""

import random
import subprocess
import sys

import pytest

from axion.release import RELEASES
from tests.playground.conftest import ROOT, served
from tests.playground.server.test_browser import TEXT, generate, set_prompt, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (RELEASES / "axion1-v0.1").is_dir(), reason="releases/axion1-v0.1 is not built"),
]


@pytest.fixture(scope="module")
def address():
    with served([]) as running:
        yield running.address


def test_it_opens_on_a_real_recorded_trace(browser, address):
    page = browser.new_page()
    page.goto(address)
    wait_until(page, "recorded")
    assert page.locator("[data-part=status]").text_content().startswith("Recorded example · axion1-v0.1")
    page.close()


def test_a_random_sum_is_answered_with_the_text_of_the_command_line(browser, address):
    a, b = random.randrange(10), random.randrange(10)
    prompt = f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n"
    page = browser.new_page()
    page.goto(address)
    wait_until(page, "recorded")
    set_prompt(page, prompt)
    generate(page)
    wait_until(page, "done")
    shown = page.locator(TEXT).text_content()
    page.close()
    command = [sys.executable, "-m", "axion", "generate", "axion1-v0.1", prompt]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown == prompt + said.removesuffix("\n")
    assert said.strip() == str(a + b)
