"""Sums, differences, products and quotients, asked as people ask them, in Portuguese and English, from a seed.

A question is composed of a way of asking and a way of writing the expression: "Do you know {e}?" and "{a} plus {b}".
Both are templates, `axion/data/templates/phrasings_en.txt`. A third of the ways of asking is held out.

With `thinking`, the sums of one-digit numbers are answered at once, and the others worked out line by line first, as
`axion.data.working` does it. A model learns from them to choose between the two by itself.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from axion.data.format import CANONICAL, Equation, Problem
from axion.data.holdout import is_held_out, is_reserved, shows_held_out
from axion.data.sources.base import Document, Source, on_demand, plain
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES, Template, on_side, read_templates
from axion.data.templates.careless import type_carelessly
from axion.data.templates.numbers import LARGEST, number_word
from axion.data.working import is_small, shows_reserved, working
from axion.errors import AxionError
from axion.settings import Portion, Positive

OPERATIONS = ("+", "-", "*", "/")
MOST_DIGITS = 10
TRIES = 10_000
"""So many draws without a question that may be used mean that there is none."""

_GROUPS = ("ask", *(f"{group} {sign}" for group in ("ask", "write") for sign in OPERATIONS))

EXPRESSION = "{e}"
SHARE_OF_CLOSE = 0.1
"""The share of differences of numbers that begin alike, as in 1003-998, so that the result has fewer digits."""
SHARE_OF_EQUAL_LENGTH = 0.5
SHARE_OF_TRIVIAL_QUOTIENTS = 0.15
SHARE_OF_SMALL_THOUGHT = 0.1
"""With `thinking`, how many problems of one digit show what to write when the reasoning is asked for."""

_FEMININE = MappingProxyType({"um": "uma", "dois": "duas"})
_BEFORE_FEMININE = re.compile(r"\b(um|dois)(?= (?:vezes|caixas|fileiras|cadeiras|partes|balas|crianças)\b)")
"""Numbers as words are masculine, but of all Portuguese numbers up to 100, these two agree with what they count."""
_ONCE = re.compile(r"(?<!e )\buma vezes\b")
"""Singular, unlike "vinte e uma vezes"."""


def _ordered(digits: tuple[int, int]) -> tuple[int, int]:
    if digits[0] > digits[1]:
        raise ValueError(f"the smallest number of digits comes first: [{digits[1]}, {digits[0]}]")
    return digits


Digits = Annotated[int, Field(ge=1, le=MOST_DIGITS)]
DigitRange = Annotated[tuple[Digits, Digits], AfterValidator(_ordered)]
Operations = Annotated[tuple[Literal["+", "-", "*", "/"], ...], Field(min_length=1)]


class Phrasings(Source):
    """Synthetic arithmetic in many phrasings."""

    kind: Literal["phrasings"] = "phrasings"
    version: ClassVar[int] = 4
    """Increase it when the problems of the same settings and seed, their order, text or split change."""
    label: ClassVar[str] = "synthetic arithmetic as people ask it, Portuguese and English"
    form = "problem"
    is_real: ClassVar[bool] = False

    count: Positive = 50_000
    """Number of problems."""
    operations: Operations = OPERATIONS
    """Which of `+`, `-`, `*` and `/`."""
    digits: DigitRange = (1, 3)
    """The fewest and the most digits of the longer operand; of a quotient, those of the dividend."""
    negative: Portion = 0.1
    """Share of the differences whose result is negative, where the question allows it."""
    words: Portion = 0.1
    """Share of the problems with numbers up to 100 that are written as words."""
    careless: Portion = 0.3
    """Share of the questions that are typed carelessly."""
    thinking: bool = False
    """Whether numbers above nine are worked out before the answer. Pairs of longer numbers are then held out too."""
    reasoning: Portion = 1.0
    """With `thinking`, the share of the problems above nine that are worked out. The others are answered at once, after
    a heading that carries no loss: a model learns to obey it, but not to choose it."""
    canonical: Portion = 0.0
    """Share of the questions that are asked in the plain way, "What is 46 - 19?"."""

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """One-digit problems all train: there are too few to hold any out."""
        rng = random.Random(f"reasoning of phrasings {seed}")
        for problem in self.problems(seed, split.holdout_fraction):
            text = problem.document()
            has_many_digits = not is_small(problem.steps[0])
            side = Side.VALIDATION if has_many_digits and split.is_validation(text) else Side.TRAIN
            if problem.reasoning is not None and rng.random() >= self.reasoning:
                yield on_demand(problem, self.kind, side)
            elif self.thinking and problem.reasoning is None and rng.random() < SHARE_OF_SMALL_THOUGHT:
                yield on_demand(problem, self.kind, side, "\n".join(working(problem.steps[0])))
            else:
                yield plain(text, self.kind, side, problem.language)

    def problems(self, seed: int, holdout: float) -> Iterator[Problem]:
        """`count` problems for training, none in a held-out way of asking or with a held-out pair.

        Args:
            seed: of all draws.
            holdout: the share of operand pairs that `is_held_out`.
        """
        rng = random.Random(f"phrasings {seed}")

        def endless() -> Iterator[Problem]:
            while True:
                language, sign = rng.choice(LANGUAGES), rng.choice(self.operations)
                pair = _draw_pair(rng, sign, self.digits, self.negative)
                if is_held_out(*pair, holdout):
                    continue
                equation = Equation(pair[0], sign, pair[1])
                if self.thinking:
                    problem = self._think(rng, equation, language, holdout)
                else:
                    problem = self.ask(rng, equation, language, held_out=False)
                    problem = problem if problem and not shows_held_out(problem.document(), holdout) else None
                if problem:
                    yield problem

        return islice(endless(), self.count)

    def _think(self, rng: random.Random, equation: Equation, language: str, holdout: float) -> Problem | None:
        """The question with its working; None if that shows a held-out pair, or the question does not suit."""
        lines = None if is_small(equation) else "\n".join(working(equation))
        if lines and shows_reserved(lines, holdout):
            return None
        if rng.random() < self.canonical:
            left, sign, right = equation
            question = CANONICAL[language].format(left, sign, right)
            return Problem(question, str(equation.result), lines, language=language, steps=(equation,))
        problem = self.ask(rng, equation, language, held_out=False)
        return problem and replace(problem, reasoning=lines)

    def ask(self, rng: random.Random, equation: Equation, language: str, held_out: bool) -> Problem | None:
        """The question for an equation, or None if the way of asking that was drawn does not suit its numbers."""
        asking = rng.choice(_ways(language, equation.sign, held_out))
        if not asking.suits({"a": equation.left, "b": equation.right}):
            return None
        are_words = rng.random() < self.words and max(equation.left, equation.right) <= LARGEST
        text = asking.text
        if EXPRESSION in text:
            written = _ways_of_writing(language, equation.sign, are_words)
            text = text.replace(EXPRESSION, rng.choice(written).text)
        question = text.format(
            **{
                slot: number_word(number, language) if are_words else number
                for slot, number in (("a", equation.left), ("b", equation.right))
            }
        )
        if language == "pt" and are_words:
            question = _BEFORE_FEMININE.sub(lambda match: _FEMININE[match[1]], question)
            question = _ONCE.sub("uma vez", question)
        if rng.random() < self.careless:
            question = type_carelessly(question, rng)
        return Problem(question, str(equation.result), language=language, steps=(equation,), template=asking.text)


def phrasings_tests(
    language: str,
    operation: str,
    digits: int,
    count: int,
    seed: int,
    holdout: float = 0.05,
    careless: float = 0.0,
    words: float = 0.0,
) -> list[Problem]:
    """Up to `count` different problems for testing, all in held-out ways of asking.

    Above nine, all pairs are held out; those of longer numbers, from training that works them out. Pairs of one digit
    are too few to hold any out.

    Args:
        language: `pt` or `en`.
        operation: one of `+`, `-`, `*` and `/`.
        digits: of the longer operand; of a quotient, those of the dividend.
        count: the result is shorter if there are no more.
        seed: of all draws.
        holdout: the share of operand pairs that `is_held_out`.
        careless: the share of questions that are typed carelessly.
        words: the share of problems with numbers up to 100 that are written as words.

    Raises:
        AxionError: another language, operation or number of digits, or a `holdout` of 0.
    """
    if language not in LANGUAGES or operation not in OPERATIONS or not 1 <= digits <= MOST_DIGITS:
        raise AxionError(
            f"there are no phrasings for {digits} digits, {operation!r} and {language!r}; the languages are pt and en, "
            f"the operations {' '.join(OPERATIONS)}, the digits 1 to {MOST_DIGITS}"
        )
    if not holdout:
        raise AxionError(f"data.holdout_fraction is {holdout}: it holds no pair out; 0.05 is a good value")
    rng = random.Random(f"phrasings tests {language} {operation} {digits} {seed}")
    source = Phrasings(careless=careless, words=words, negative=0.1)
    found: dict[str, Problem] = {}
    for _ in range(TRIES + 400 * count):
        if len(found) == count:
            break
        left, right = _draw_pair(rng, operation, (digits, digits), source.negative)
        if max(left, right) > 9 and not is_reserved(left, right, holdout):
            continue
        if problem := source.ask(rng, Equation(left, operation, right), language, held_out=True):
            found.setdefault(problem.question, problem)
    return list(found.values())


def _draw_pair(rng: random.Random, sign: str, digits: tuple[int, int], negative: float) -> tuple[int, int]:
    """Two operands, the longer with so many digits; a quotient is exact, and its divisor not 0."""
    length = rng.randint(*digits)
    long = rng.randrange(10 ** (length - 1) if length > 1 else 0, 10**length)
    if sign == "/":
        return _divisible(rng, length)
    short = rng.randrange(10 ** (length if rng.random() < SHARE_OF_EQUAL_LENGTH else rng.randint(1, length)))
    if sign == "-":
        if length > 1 and rng.random() < SHARE_OF_CLOSE:
            short = max(long - rng.randrange(10 ** rng.randint(1, length - 1)), 0)
        low, high = sorted((long, short))
        return (low, high) if rng.random() < negative else (high, low)
    return (long, short) if rng.random() < 0.5 else (short, long)


def _divisible(rng: random.Random, length: int) -> tuple[int, int]:
    """A dividend of so many digits and a divisor of it; either of divisor and quotient may be the shorter one."""
    low, high = (10 ** (length - 1) if length > 1 else 0), 10**length - 1
    # numbers divided by 1 or by themselves stay rare, although they are many of the short quotients
    fewest = 0 if rng.random() < SHARE_OF_TRIVIAL_QUOTIENTS else 2
    factor = rng.randint(max(fewest, 1), min(10 ** rng.randint(1, (length + 1) // 2) - 1, high // max(fewest, 1)))
    other = rng.randint(max(-(-low // factor), fewest), high // factor)
    return factor * other, rng.choice((factor, other or factor))


@cache
def _ways(language: str, sign: str, held_out: bool) -> tuple[Template, ...]:
    """The ways of asking for this operation on one side."""
    return on_side((each for each in _templates(language) if each.group in ("ask", f"ask {sign}")), held_out)


@cache
def _ways_of_writing(language: str, sign: str, are_words: bool) -> tuple[Template, ...]:
    """The ways of writing the expression; for numbers as words, those with blanks around them."""
    found = [each for each in _templates(language) if each.group == f"write {sign}"]
    return tuple(each for each in found if not are_words or ("{a} " in each.text and " {b}" in each.text))


def _templates(language: str) -> tuple[Template, ...]:
    templates = read_templates("phrasings", language)
    for template in templates:
        if template.group not in _GROUPS:
            raise AxionError(f"{template.where}: [{template.group}] is none of the groups {', '.join(_GROUPS)}")
    return templates
