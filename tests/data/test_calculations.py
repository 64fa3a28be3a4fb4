"""Which calculation a question asks for."""

import pytest

from axion.data.calculations import read_calculation
from axion.data.sources.phrasings import phrasings_tests


@pytest.mark.parametrize(
    ("question", "result", "language"),
    [
        ("5+3", 8, None),
        ("5 + 3 = ?", 8, None),
        ("5 x\n3", 15, None),
        ("1 + 2 * 3 - 10", -3, None),
        ("Quanto é 12 mais 30", 42, "pt"),
        ("quanto e 12 x 30 ?", 360, "pt"),
        ("What’s 46 − 19?", 27, "en"),
        ("What is 1 + 2 + 3?", 6, "en"),
        ("take 5 away from 12", 7, "en"),
        ("How many times does 4 go into 12?", 3, "en"),
        ("What is the difference between 9 and 5?", 4, "en"),
    ],
)
def test_a_question_is_worked_out(question, result, language):
    found = read_calculation(question)
    assert found is not None and (found.result, found.language) == (result, language)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "5+",
        "5 5",
        "-5+3",
        "2.5 + 1",
        "1,200 + 3",
        "12/5",
        "0/0",
        "# + 3 and 4",
        "What is the difference between 5 and 9?",
        "what is 5+3 or 7?",
        "Tom has 12 apples and buys 15 more. How many has he?",
        "9" * 61 + "+1",
        "1+" * 20 + "1",
    ],
)
def test_what_is_not_certain_has_no_result(question):
    assert read_calculation(question) is None


@pytest.mark.parametrize("language", ["en", "pt"])
@pytest.mark.parametrize("operation", "+-*/")
def test_every_way_of_asking_is_known(language, operation):
    for problem in phrasings_tests(language, operation, 2, 40, seed=1):
        found = read_calculation(problem.question)
        assert found is not None and str(found.result) == problem.answer, problem.question
