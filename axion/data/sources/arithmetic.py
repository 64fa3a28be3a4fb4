"""Sums and differences of one to three digits, in Portuguese and English, from a seed.

The set starts with every problem of one and two digits that is not held out, in each language and in the plain
phrasing that the tests use, and continues with random ones. A tiny model learns to add only if it sees nearly all of
that space.
"""

import random
import re
from collections.abc import Callable, Iterator
from itertools import islice, product
from types import MappingProxyType
from typing import ClassVar, Literal

from axion.data.format import Problem
from axion.data.holdout import LARGEST_TESTED, is_held_out, shows_held_out
from axion.data.sources.base import Document, Source, plain
from axion.data.split import Side, Split
from axion.data.templates import LANGUAGES
from axion.errors import AxionError
from axion.settings import Positive

# The first phrasing of a sign is the canonical one, which the tests use.
PHRASINGS = MappingProxyType(
    {
        ("pt", "+"): (
            "Quanto é {a} + {b}?",
            "Quanto é {a} mais {b}?",
            "Quanto dá {a} + {b}?",
            "Calcule {a} + {b}.",
            "Qual é o resultado de {a} + {b}?",
            "Qual é a soma de {a} e {b}?",
            "Some {a} e {b}.",
        ),
        ("pt", "-"): (
            "Quanto é {a} - {b}?",
            "Quanto é {a} menos {b}?",
            "Quanto dá {a} - {b}?",
            "Calcule {a} - {b}.",
            "Qual é o resultado de {a} - {b}?",
            "Subtraia {b} de {a}.",
            "Tire {b} de {a}. Quanto resta?",
        ),
        ("en", "+"): (
            "What is {a} + {b}?",
            "What is {a} plus {b}?",
            "How much is {a} + {b}?",
            "Calculate {a} + {b}.",
            "What is the result of {a} + {b}?",
            "What is the sum of {a} and {b}?",
            "Add {a} and {b}.",
        ),
        ("en", "-"): (
            "What is {a} - {b}?",
            "What is {a} minus {b}?",
            "How much is {a} - {b}?",
            "Calculate {a} - {b}.",
            "What is the result of {a} - {b}?",
            "Subtract {b} from {a}.",
            "Take {b} away from {a}. What is left?",
        ),
    }
)

# The number of digits in each pass over all canonical problems. One-digit problems are repeated because they are few: a
# model that saw each of them once could add 47 and 38 but failed at 9 - 0.
CANONICAL_PASSES = (1, 2, *[1] * 9)

# The random part of the set: the number of digits of the operands, and how the problem is phrased.
DIGITS_SHARE = MappingProxyType({1: 0.2, 2: 0.4, 3: 0.4})
OTHER_PHRASING_SHARE = 0.1
REASONING_SHARE = 0.05
NEGATIVE_SHARE = 0.03


class Arithmetic(Source):
    """Synthetic sums and differences."""

    kind: Literal["arithmetic"] = "arithmetic"
    version: ClassVar[int] = 1
    """Increase it when the problems of the same count and seed, their order, text or split change."""
    label: ClassVar[str] = "synthetic sums and differences, Portuguese and English"
    form = "problem"
    is_real: ClassVar[bool] = False

    count: Positive = 36_000
    """Number of problems."""

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """One-digit problems all train: there are too few to hold any out."""
        for problem in arithmetic(self.count, seed, split.holdout_fraction):
            text = problem.document()
            one_digit = not re.search(r"\d\d", problem.question)
            held_out = not one_digit and split.is_validation(text)
            yield plain(text, self.kind, Side.VALIDATION if held_out else Side.TRAIN, problem.language)


def arithmetic(count: int, seed: int, holdout: float) -> Iterator[Problem]:
    """`count` training problems, none with a pair that `is_held_out(…, holdout)` keeps for the tests.

    The passes over all canonical problems of one and two digits come first, then random draws. About 3% of the drawn
    differences are negative, and a few problems have the column-by-column working as their reasoning.
    """
    rng = random.Random(f"arithmetic {seed}")
    return islice(_endless_arithmetic(rng, holdout), count)


def arithmetic_tests(digits: int, language: str, count: int, seed: int, holdout: float = 0.05) -> list[Problem]:
    """Up to `count` different problems for testing, canonically phrased, differences never negative.

    `digits=1`: both operands from 0 to 9, 155 problems in total. Training has seen these, because there are too few to
    hold any out. `digits=2`: operands from 0 to 99, at least one of two digits, held-out pairs only. The result has
    fewer than `count` problems if there are no more.

    Raises:
        AxionError: other digits or languages, or a `holdout` of 0.
    """
    if digits not in (1, 2) or language not in LANGUAGES:
        raise AxionError(f"arithmetic tests are for 1 or 2 digits in pt or en, not for {digits} digits in {language!r}")
    problems = [_canonical(*task, language) for task in _tasks(digits, lambda a, b: is_held_out(a, b, holdout))]
    if not problems:
        raise AxionError(f"data.holdout_fraction is {holdout}: it holds no pair out; 0.05 is a good value")
    random.Random(f"arithmetic tests {seed}").shuffle(problems)
    return problems[:count]


def _tasks(digits: int, wanted: Callable[[int, int], bool]) -> list[tuple[int, str, int]]:
    """Every (a, sign, b) of one or two digits with a non-negative result; two digits only where `wanted(a, b)`."""
    operands = range(10) if digits == 1 else range(LARGEST_TESTED + 1)
    pairs = [(a, b) for a, b in product(operands, repeat=2) if digits == 1 or (max(a, b) > 9 and wanted(a, b))]
    return [(a, "+", b) for a, b in pairs] + [(a, "-", b) for a, b in pairs if a >= b]


def _canonical(a: int, sign: str, b: int, language: str) -> Problem:
    return _phrase(a, sign, b, PHRASINGS[language, sign][0], language)


def _phrase(a: int, sign: str, b: int, phrasing: str, language: str, reasoning: str | None = None) -> Problem:
    answer = str(a + b if sign == "+" else a - b)
    return Problem(phrasing.format(a=a, b=b), answer, reasoning, language=language)


def _endless_arithmetic(rng: random.Random, holdout: float) -> Iterator[Problem]:
    for digits in CANONICAL_PASSES:
        tasks = list(product(_tasks(digits, lambda a, b: not is_held_out(a, b, holdout)), LANGUAGES))
        rng.shuffle(tasks)
        yield from (_canonical(*task, language) for task, language in tasks)
    while True:
        problem = _draw(rng, holdout)
        if problem:
            yield problem


def _draw(rng: random.Random, holdout: float) -> Problem | None:
    """One random problem, or None if the draw contains a held-out pair."""
    digits = rng.choices(list(DIGITS_SHARE), list(DIGITS_SHARE.values()))[0]
    a, b = rng.randrange(10**digits), rng.randrange(10**digits)
    sign, language = rng.choice("+-"), rng.choice(LANGUAGES)
    if is_held_out(a, b, holdout):
        return None
    if sign == "-" and a < b and rng.random() > 2 * NEGATIVE_SHARE:
        a, b = b, a
    canonical, *others = PHRASINGS[language, sign]
    form = rng.random()
    if form < OTHER_PHRASING_SHARE:
        return _phrase(a, sign, b, rng.choice(others), language)
    if form < OTHER_PHRASING_SHARE + REASONING_SHARE and a >= b > 0:
        reasoning = _columns(a, sign, b, language)
        return None if shows_held_out(reasoning, holdout) else _phrase(a, sign, b, canonical, language, reasoning)
    return _phrase(a, sign, b, canonical, language)


def _columns(a: int, sign: str, b: int, language: str) -> str:
    """The working by columns, units first: "7 + 8 = 15, leva 1", then "4 + 3 + 1 = 8", then the whole equation."""
    carried, borrowed = {"pt": ("leva 1", "empresta 1"), "en": ("carry 1", "borrow 1")}[language]
    lines, carry = [], 0
    for top, bottom in zip(reversed(str(a)), reversed(str(b).zfill(len(str(a)))), strict=True):
        top, bottom = int(top), int(bottom)
        tail = f" {sign} 1" if carry else ""
        if sign == "+":
            value = top + bottom + carry
            carry = value // 10
            lines.append(f"{top} + {bottom}{tail} = {value}" + (f", {carried}" if carry else ""))
        else:
            value = top - bottom - carry
            carry = int(value < 0)
            note = f", {borrowed}" if carry else ""
            lines.append(f"{top + 10 * carry} - {bottom}{tail} = {value + 10 * carry}{note}")
    total = a + b if sign == "+" else a - b
    return "\n".join([*lines, f"{a} {sign} {b} = {total}"])
