"""The plain-text format: writing and parsing."""

import pytest

from axion.data.format import (
    Equation,
    Problem,
    in_english_form,
    in_taught_form,
    parse_answer,
    problem_from_gsm8k,
    prompt,
    question_in,
    write_steps,
)

FULL = "# Pergunta:\nWhat is 5 + 3?\n--\n# Raciocínio:\nFive and three make 5 + 3 = 8.\n--\n# Resposta:\n8"
DIRECT = "# Pergunta:\nWhat is 5 + 3?\n--\n# Resposta:\n8"


def test_document_has_the_published_form():
    problem = Problem("What is 5 + 3?", "8", "Five and three make 5 + 3 = 8.")
    assert problem.document() == FULL
    assert problem.document(direct=True) == DIRECT
    assert Problem("What is 5 + 3?", "8").document() == DIRECT


def test_steps_are_written_one_a_line():
    steps = [Equation(34, "-", 40), Equation(6, "*", 7), Equation(42, "/", 3)]
    assert write_steps(steps) == "34 - 40 = -6\n6 * 7 = 42\n42 / 3 = 14"


def test_prompts_are_where_documents_begin():
    assert prompt("Quanto é 5 + 3?") == "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"
    assert FULL.startswith(prompt("What is 5 + 3?", reasoning=True))
    assert DIRECT.startswith(prompt("What is 5 + 3?"))


def test_gsm8k_annotations_are_removed():
    answer = "She has 48/2 = <<48/2=24>>24 clips.\nThat is $<<24*50=1200>>1,200.\n#### 1,200"
    problem = problem_from_gsm8k(" How many?\n", answer)
    assert problem == Problem("How many?", "1,200", "She has 48/2 = 24 clips.\nThat is $1,200.")
    assert problem.calculations == "48/2=24\n24*50=1200"


def test_a_bare_answer_has_no_reasoning():
    assert problem_from_gsm8k("How many?", "12") == Problem("How many?", "12")


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        ("8", "8"),
        ("8\nmore", "8"),
        ("It is 12 - 4 = 8.\n--\n# Resposta:\n8", "8"),
        (FULL, "8"),
        ("$1,200.", "1200"),
        ("-2", "-2"),
        ("", ""),
        ("1, 2", "1, 2"),
    ],
)
def test_parse_answer(generated, answer):
    assert parse_answer(generated) == answer


def test_the_model_may_choose_how_it_answers():
    asked = prompt("What is 5 + 3?", reasoning=None)
    assert asked == "# Pergunta:\nWhat is 5 + 3?\n--\n" and FULL.startswith(asked) and DIRECT.startswith(asked)
    assert parse_answer("# Resposta:\n8") == "8"
    assert parse_answer("# Raciocínio:\n12+7\n2+7=9;1+0;9\n1+0=1;19\n--\n# Resposta:\n19") == "19"


def test_headings_and_questions_are_found():
    english = in_english_form(FULL)
    assert english.startswith("# Question:\nWhat is 5 + 3?\n--\n# Reasoning:\n") and in_taught_form(english) == FULL
    assert question_in(FULL) == question_in(DIRECT) == question_in(prompt("What is 5 + 3?", reasoning=None))
    assert question_in(DIRECT) == "What is 5 + 3?" and question_in("5 + 3") is question_in("# Pergunta:\nx") is None
    assert in_taught_form("a # Answer: in a sentence") == "a # Answer: in a sentence"
