"""From what somebody typed to a prompt."""

import pytest

from axion.data.asking import problem_prompt
from axion.data.format import in_english_form, prompt


@pytest.mark.parametrize(
    ("typed", "language", "question"),
    [
        ("5+3", "pt", "Quanto é 5 + 3?"),
        ("12 x 4 =", "en", "What is 12 * 4?"),
        ("84÷7?", "en", "What is 84 / 7?"),
        ("how much is 5+3", "en", "how much is 5+3"),
        ("Tom has 5 apples.\n  He eats 2.\r\nHow many?", "pt", "Tom has 5 apples. He eats 2. How many?"),
    ],
)
def test_a_bare_sum_becomes_a_question(typed, language, question):
    assert problem_prompt(typed, chooses=True, language=language) == prompt(question, reasoning=None)


def test_a_model_that_does_not_choose_is_asked_for_the_answer():
    assert problem_prompt("5+3") == prompt("Quanto é 5 + 3?")
    assert problem_prompt("5+3", language="en") == prompt("What is 5 + 3?")
    assert problem_prompt("quanto e 12 mais 30", language="en") == prompt("Quanto é 12 + 30?")
    assert problem_prompt("Subtract 5 from 12.") == prompt("What is 12 - 5?")
    assert problem_prompt("5 * 3") == prompt("5 * 3"), "it was not taught products"
    assert problem_prompt("# Pergunta:\n…", chooses=True) == "# Pergunta:\n…" and problem_prompt(" ") == " "


def test_english_headings_are_read_as_the_taught_ones():
    asked = prompt("Tom has 5 apples.", reasoning=True)
    assert problem_prompt(in_english_form(asked)) == problem_prompt(asked, chooses=True) == asked
