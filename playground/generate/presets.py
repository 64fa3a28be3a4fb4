"""The form in which the models were taught problems, and the examples that the page offers."""

import re

from axion.data.format import prompt as problem

BARE_SUM = "Quanto é {sum}?"

PRESETS = {
    "Quanto é 5 + 3?": problem("Quanto é 5 + 3?"),
    "What is 46 - 19?": problem("What is 46 - 19?"),
    "Problema, passo a passo": problem(
        "Ana tem 12 maçãs e compra mais 8. Depois dá metade a Pedro. Com quantas maçãs Ana fica?", reasoning=True
    ),
    "Word problem, step by step": problem(
        "Tom has 3 boxes with 6 pencils in each. He gives 4 pencils to Mia. How many pencils does Tom have left?",
        reasoning=True,
    ),
}
"""Button → prompt, in the exact form of the training data; each button is shown in every language."""

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
