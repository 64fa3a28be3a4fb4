"""The page as `make demo` starts it: the bundled model, a real Chromium, and the command line beside it."""

import random
import subprocess
import sys

import pytest

from axion.release import RELEASES
from tests.playground.conftest import ROOT, served
from tests.support.steering import TEXT, generate, part, set_prompt, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (RELEASES / "axion1-v0.1").is_dir(), reason="releases/axion1-v0.1 is not built"),
]


def test_a_random_sum_is_answered_with_the_text_of_the_command_line(browser):
    a, b = random.randrange(10), random.randrange(10)
    prompt = f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n"
    with served([]) as running:
        page = browser.new_page()
        page.set_default_timeout(180_000)  # the first generation may have to wait until the kernels are compiled
        page.goto(running.address)
        wait_until(page, "recorded")
        assert part(page, "status").text_content().startswith("Recorded example · axion1-v0.1")
        set_prompt(page, prompt)
        generate(page)
        wait_until(page, "done")
        shown = page.locator(TEXT).text_content()
        page.close()
    command = [sys.executable, "-m", "axion", "generate", "axion1-v0.1", prompt]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown == prompt + said.removesuffix("\n")
    assert said.strip() == str(a + b)
