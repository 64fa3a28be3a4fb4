"""What is called right or wrong, and what is not."""

import pytest

from axion.data.format import Equation, prompt
from axion.data.working import working
from playground.generate.presets import ANSWERS
from playground.generate.verdicts import check_written

SUM = prompt("What is 26 + 17?")
CHOSEN = prompt("What is 26 + 17?", reasoning=None)
WORKING = "\n".join(working(Equation(26, "+", 17)))


@pytest.mark.parametrize(
    ("asked", "written", "check"),
    [
        (SUM, "43", {"right": True, "answer": "43", "expected": "43"}),
        (SUM, "44", {"right": False, "answer": "44", "expected": "43"}),
        (SUM, "43 apples.", {"right": True, "answer": "43", "expected": "43"}),
        (CHOSEN, "# Resposta:\n43", {"right": True, "answer": "43", "expected": "43"}),
        (prompt("Quanto é 3 menos 5"), "-2", {"right": True, "answer": "-2", "expected": "-2"}),
        (prompt("What is 1000 + 200?"), "$1,200.", {"right": True, "answer": "1200", "expected": "1200"}),
        (
            CHOSEN,
            f"# Raciocínio:\n{WORKING}\n--\n# Resposta:\n43",
            {"right": True, "answer": "43", "expected": "43", "line": None},
        ),
        (
            prompt("What is 26 + 17?", reasoning=True),
            f"{WORKING.replace('6+7=13', '6+7=12')}\n--\n# Resposta:\n42",
            {"right": False, "answer": "42", "expected": "43", "line": 2},
        ),
    ],
)
def test_what_is_known_is_checked(asked, written, check):
    assert check_written(asked, written) == {"check": check}


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (SUM, ""),
        (SUM, "forty-three"),
        (SUM, "43 or 44"),
        (SUM, "1.043"),
        (CHOSEN, "43"),
        (CHOSEN, f"# Raciocínio:\n{WORKING}"),
        ("26 + 17 =", "43"),
        (prompt("Ann has 26 pens and buys 17. How many?"), "43"),
        (prompt("What is 7 / 2?"), "3"),
    ],
)
def test_nothing_is_claimed_of_what_is_not_known(asked, written):
    assert check_written(asked, written) == {}


@pytest.mark.parametrize("question", ANSWERS)
def test_presets_know_their_answer(question):
    assert check_written(prompt(question), ANSWERS[question])["check"]["right"]
