"""The form of the problems in the training data, and the examples that the page offers."""

import re

from axion.data.format import Problem
from axion.data.format import prompt as problem
from playground.locales import Language

WORKED: dict[Language, Problem] = {
    "en": Problem(
        "Tom has 3 boxes with 6 pencils in each. He gives 4 pencils to Mia. How many pencils does Tom have left?",
        "14",
        "Tom has 3 * 6 = 18 pencils.\nHe has 18 - 4 = 14 pencils left.",
    ),
    "pt": Problem(
        "Ana tem 12 maçãs e compra mais 8. Depois dá metade a Pedro. Com quantas maçãs Ana fica?",
        "10",
        "Ana tem 12 + 8 = 20 maçãs.\nDá 20 / 2 = 10 maçãs a Pedro.",
    ),
}
"""A problem and its solution, in each language."""

BARE_SUM = "Quanto é {sum}?"

PRESETS = {
    "Quanto é 5 + 3?": problem("Quanto é 5 + 3?"),
    "What is 46 - 19?": problem("What is 46 - 19?"),
    "Problema, passo a passo": problem(WORKED["pt"].question, reasoning=True),
    "Word problem, step by step": problem(WORKED["en"].question, reasoning=True),
}
"""Button → prompt, in the exact form of the training data. The page shows all of them in every language."""

FIRST_PRESET = next(iter(PRESETS.values()))
STEP_BY_STEP = PRESETS["Problema, passo a passo"]

_SUM = re.compile(r"([0-9]+) *([-+]) *([0-9]+)")


def problem_prompt(question: str) -> str:
    """The question in the form of a problem. A bare sum becomes a question; a text that starts with `# ` stays."""
    asked = question.strip()
    if not asked or asked.startswith("# "):
        return question
    if match := _SUM.fullmatch(asked):
        asked = BARE_SUM.format(sum=" ".join(match.groups()))
    return problem(asked)
