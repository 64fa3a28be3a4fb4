"""From what somebody typed to a prompt in the form that models of problems were taught."""

import re
from types import MappingProxyType

from axion.data.calculations import read_calculation
from axion.data.format import CANONICAL, in_taught_form, prompt

_BARE = re.compile(r"([0-9]+) *([-+*/x×÷:−]) *([0-9]+) *[=?]*")
_SIGNS = MappingProxyType({"x": "*", "×": "*", "÷": "/", ":": "/", "−": "-"})
_TAUGHT_TO_ALL = ("+", "-")
"""What a model that does not think was taught to work out, in the plain phrasing alone."""


def problem_prompt(question: str, chooses: bool = False, language: str = "pt") -> str:
    """What somebody typed, as a prompt. Its lines are joined, and a bare sum becomes a question.

    A text that starts with `# ` is in the form already and stays as it is, but for English headings.

    Args:
        question: the text.
        chooses: whether the model was taught to choose between answering at once and thinking first; it is then left
            to it. Other models know sums and differences in the plain phrasing alone, so theirs take it.
        language: that of the question about a bare sum, `pt` or `en`; a question with words keeps its own.
    """
    if not question.strip():
        return question
    if question.lstrip().startswith("# "):
        return in_taught_form(question)
    asked = " ".join(question.split())
    if found := _BARE.fullmatch(asked):
        left, sign, right = found.groups()
        sign = _SIGNS.get(sign, sign)
        if chooses or sign in _TAUGHT_TO_ALL:
            asked = CANONICAL[language].format(left, sign, right)
    elif not chooses and (calculation := read_calculation(asked)) and calculation.equation:
        equation = calculation.equation
        if equation.sign in _TAUGHT_TO_ALL:
            asked = CANONICAL[calculation.language or language].format(*equation)
    return prompt(asked, reasoning=None if chooses else False)
