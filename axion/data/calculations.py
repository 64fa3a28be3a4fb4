"""Which calculation a question asks for, if it is one: `5+3`, `What is 12 plus 30?`, `quanto e 7 x 8`.

A question is read by the templates that questions are made from (`templates/phrasings_en.txt`), both as carelessly as
people type: without accents, capitals and marks. What none of them fits is no calculation here, so that an answer is
never called right or wrong by a guess.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from axion.data.format import Equation
from axion.data.templates import LANGUAGES, Template, read_templates
from axion.data.templates.careless import without_accents

MOST_DIGITS = 60
MOST_OPERANDS = 20

_NUMBER = re.compile(r"[0-9]+")
_GROUPED = re.compile(r"[0-9][.,][0-9]")
"""A decimal number, or thousands that are grouped: which of the two depends on the language."""
_EXPRESSION = re.compile(r"#(?:[-+*/]#)*")
_NO_WORD = re.compile(r"[^a-z]")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "’": "'", "\u00a0": " "})


class Calculation(NamedTuple):
    """What a question asks to work out."""

    result: int
    equation: Equation | None
    """None where there are more than two numbers."""
    language: str | None
    """`pt` or `en`; None where the question has no words."""


class _Way(NamedTuple):
    """A way to ask for one operation."""

    language: str
    sign: str
    is_swapped: bool
    """Whether the second operand comes first."""
    template: Template


def read_calculation(question: str) -> Calculation | None:
    """The calculation that a question asks for; None where it is none, or its result is not one whole number."""
    if "#" in question or _GROUPED.search(question) or len(question) > MOST_DIGITS * MOST_OPERANDS:
        return None
    numbers = _NUMBER.findall(question)
    if not 2 <= len(numbers) <= MOST_OPERANDS or max(map(len, numbers)) > MOST_DIGITS:
        return None
    asked = _plain(_NUMBER.sub("#", question))
    operands = [int(number) for number in numbers]
    if _EXPRESSION.fullmatch(asked):
        return _work_out(operands, asked.replace("#", ""), None)
    if len(operands) == 2:
        return _by_template(asked, operands)
    for language in LANGUAGES:  # "What is 1 + 2 + 3?"
        for before, after in _frames(language):
            expression = asked.removeprefix(before).removesuffix(after)
            if asked == before + expression + after and _EXPRESSION.fullmatch(expression):
                return _work_out(operands, expression.replace("#", ""), language)
    return None


def _by_template(asked: str, operands: list[int]) -> Calculation | None:
    found = {}
    for way in _ways().get(asked, ()):
        left, right = reversed(operands) if way.is_swapped else operands
        if way.template.suits({"a": left, "b": right}):
            found[left, way.sign, right] = way.language
    if len(found) != 1:
        return None
    (((left, sign, right), language),) = found.items()
    return _work_out([left, right], sign, language)


def _work_out(operands: list[int], signs: str, language: str | None) -> Calculation | None:
    """The calculation in the usual order: products and quotients before sums and differences."""
    terms = [Fraction(operands[0])]
    for sign, operand in zip(signs, operands[1:], strict=True):
        if sign == "/" and not operand:
            return None
        if sign in "+-":
            terms.append(Fraction(operand if sign == "+" else -operand))
        else:
            terms[-1] = terms[-1] * operand if sign == "*" else terms[-1] / operand
    total = sum(terms)
    if total.denominator != 1:
        return None
    equation = Equation(operands[0], signs, operands[1]) if len(operands) == 2 else None
    return Calculation(int(total), equation, language)


def _plain(text: str) -> str:
    """A text as it is compared, `#` for each number."""
    text = " ".join(without_accents(text.translate(_SIGNS)).lower().replace("'", "").split())
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    text = re.sub(r"(?<=#) *x *(?=#)", "*", text)
    text = re.sub(r"(?<=#) *: *(?=#)", "/", text)
    text = re.sub(r" *([-+*/=]) *", r"\1", text)
    return re.sub(r"[ ?.!=:,]+$", "", text)


@cache
def _ways() -> MappingProxyType[str, tuple[_Way, ...]]:
    """Question as it is compared → the ways to ask that it fits."""
    ways: dict[str, list[_Way]] = {}
    for language in LANGUAGES:
        for sign, template, text in _questions(language):
            way = _Way(language, sign, text.index("{b}") < text.index("{a}"), template)
            ways.setdefault(_plain(text.replace("{a}", "#").replace("{b}", "#")), []).append(way)
    return MappingProxyType({asked: tuple(found) for asked, found in ways.items()})


def _questions(language: str) -> Iterator[tuple[str, Template, str]]:
    """Sign, template and text of every way to ask; {a} and {b} stand for the numbers."""
    templates = read_templates("phrasings", language)
    asking = [each for each in templates if each.group.startswith("ask")]
    writing = [each for each in templates if each.group.startswith("write ")]
    for asked, written in product(asking, writing):
        sign = written.group[-1]
        if "{e}" in asked.text and asked.group in ("ask", f"ask {sign}"):
            yield sign, asked, asked.text.replace("{e}", written.text)
    yield from ((each.group[-1], each, each.text) for each in asking if "{e}" not in each.text)


@cache
def _frames(language: str) -> tuple[tuple[str, str], ...]:
    """What stands before and after an expression, as it is compared."""
    asking = (each.text for each in read_templates("phrasings", language) if each.group == "ask")
    parts = [_plain(text.replace("{e}", "#")).partition("#") for text in asking]
    return tuple((before, after) for before, _, after in parts if _NO_WORD.sub("", before + after))
