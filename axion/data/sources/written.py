"""Problems that people wrote, in files that give their numbers and equations, told again with other numbers.

A record has the fields of MAWPS's templates: the `question` with `number0`, `number1` … for its numbers, the `numbers`
themselves, the `equation` in prefix notation, such as `- number0 + number1 12.0`, and the `answer`.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from axion.data.format import Equation, Problem, write_steps
from axion.data.sources.files import Record
from axion.data.templates import Template
from axion.errors import AxionError, one_line

FIELDS = ("question", "numbers", "equation", "answer")
MOST_PLACES = 2
"""Of a decimal number. Longer ones were fractions such as 1/3 in the original text."""
TRIES = 200
SMALL = 12
TOLERANCE = Fraction(1, 100)
"""How far an answer may be from what its equation gives: some are rounded."""

_NUMBER = re.compile(r"number(\d+)")
_SLOT = re.compile(r"(\$?)number(\d+)")
_OPERATIONS = MappingProxyType(
    {
        "+": lambda left, right: left + right,
        "-": lambda left, right: left - right,
        "*": lambda left, right: left * right,
        "/": lambda left, right: left / right,
    }
)

Step = tuple[Fraction, str, Fraction]


@dataclass(frozen=True)
class Written:
    """A problem that somebody wrote."""

    template: Template
    numbers: tuple[Fraction, ...]
    equation: tuple[str, ...]
    """In prefix notation: signs, `number0` …, and constants."""

    def draw(self, rng: random.Random) -> Problem | None:
        """The problem with other numbers of the same size and kind, in the same order; None if none were found.

        Equal numbers stay equal. A small number that the equation doesn't use stays as it is: it may count what the
        story lists. Where all numbers are whole, so is the answer; it is always positive.
        """
        originals, used = sorted(set(self.numbers)), self.used()
        for _ in range(TRIES):
            drawn = [number if number not in used and number <= SMALL else _alike(number, rng) for number in originals]
            if drawn != sorted(set(drawn)):
                continue
            others = dict(zip(originals, drawn, strict=True))
            values = tuple(others[number] for number in self.numbers)
            if problem := self._told(values):
                return problem
        return None

    def used(self) -> set[Fraction]:
        """The numbers that the equation names."""
        return {self.numbers[int(match[1])] for token in self.equation if (match := _NUMBER.fullmatch(token))}

    def _told(self, values: tuple[Fraction, ...]) -> Problem | None:
        steps: list[Step] = []
        try:
            result = _evaluate(self.equation, values, steps)
        except ZeroDivisionError:
            return None
        are_whole = all(value.denominator == 1 for value in values)
        if result <= 0 or _places(result) > (0 if are_whole else MOST_PLACES):
            return None
        question = _SLOT.sub(
            lambda match: match[1] + _written(values[int(match[2])], is_price=bool(match[1])), self.template.text
        )
        equations = _whole_steps(steps)
        return Problem(
            question,
            _written(result),
            write_steps(equations) or None,
            language="en",
            steps=equations,
            template=self.template.text,
        )


def read_written(records: Iterable[Record]) -> list[Written]:
    """The problems of some records that other numbers can be drawn for.

    Left out are those whose equation doesn't give the answer, those with long decimals, and those whose equation has a
    number of its own that is the answer or stands for one of the story.

    Raises:
        AxionError: a record has other fields, or there is no such problem.
    """
    found: dict[str, Written] = {}
    for record in records:
        written, answer = _parse(record)
        if _is_usable(written, answer) and written.draw(random.Random(0)):
            found.setdefault(written.template.text, written)
    if not found:
        raise AxionError("no problem in the files of the stories source can be told with other numbers")
    return list(found.values())


def _parse(record: Record) -> tuple[Written, Fraction]:
    question = record.text("question", "the question").strip()
    equation = tuple(record.text("equation", "the equation").split())
    numbers, answer = record.fields.get("numbers"), record.fields.get("answer")
    try:
        values = tuple(_exact(number) for number in numbers)  # pyright: ignore[reportOptionalIterable]
        result = _exact(answer)
        _evaluate(equation, values, [])
        slots = {int(slot) for slot in _NUMBER.findall(question)}
    except ZeroDivisionError:
        slots, values, result = set(), (), Fraction(0)
    except (TypeError, ValueError, IndexError):
        shown = one_line(repr({name: record.fields.get(name) for name in FIELDS[1:]}), 160)
        raise AxionError(
            f"{record.where}: {shown} is not a problem; give numbers such as [8, 2], an equation such as "
            "'- number0 number1', and an answer such as 6"
        ) from None
    if slots and max(slots) >= len(values):
        raise AxionError(f"{record.where}: the question has number{max(slots)}, but there are {len(values)} numbers")
    return Written(Template(question, where=record.where), values, equation), result


def _is_usable(written: Written, answer: Fraction) -> bool:
    if not written.numbers or any(_places(number) > MOST_PLACES for number in written.numbers):
        return False
    result = _evaluate(written.equation, written.numbers, [])
    if abs(result - answer) > TOLERANCE:
        return False
    used = written.used()
    unused = set(written.numbers) - used
    constants = {_exact(token) for token in written.equation if token not in _OPERATIONS and "number" not in token}
    return bool(used) and constants.isdisjoint({result, *unused})


def _evaluate(equation: tuple[str, ...], values: tuple[Fraction, ...], steps: list[Step]) -> Fraction:
    """The value of an equation; `steps` takes the operations in their order.

    Raises:
        ValueError, IndexError: it is not one expression of the numbers.
        ZeroDivisionError: it divides by zero.
    """
    stack: list[Fraction] = []
    for token in reversed(equation):
        if token in _OPERATIONS:
            left, right = stack.pop(), stack.pop()
            stack.append(_OPERATIONS[token](left, right))
            steps.append((left, token, right))
        else:
            match = _NUMBER.fullmatch(token)
            stack.append(values[int(match[1])] if match else _exact(token))
    (result,) = stack
    return result


def _whole_steps(steps: list[Step]) -> tuple[Equation, ...]:
    """The steps as equations of whole numbers, or none where one of them isn't."""
    if any(_places(number) for left, sign, right in steps for number in (left, right, _OPERATIONS[sign](left, right))):
        return ()
    return tuple(Equation(int(left), sign, int(right)) for left, sign, right in steps)


def _alike(number: Fraction, rng: random.Random) -> Fraction:
    """A number with as many digits before and after the point. 0 and 1 stay, because of the words around them."""
    if number <= 1 and number.denominator == 1:
        return number
    places = _places(number)
    if places:
        whole_digits = len(str(int(number))) if number >= 1 else 0
        low = 10 ** (whole_digits - 1 + places) if whole_digits else 1
        return Fraction(rng.randrange(low, 10 ** (whole_digits + places)), 10**places)
    digits = len(str(number))
    return Fraction(rng.randrange(max(2, 10 ** (digits - 1)), 10**digits))


def _exact(number: object) -> Fraction:
    """A number of a file as it is written there: 0.1 is a tenth."""
    if isinstance(number, bool):
        raise TypeError("a truth value is no number")
    return Fraction(str(number))


def _places(number: Fraction) -> int:
    """Digits after the point, or 99 where the number has no end."""
    return next((places for places in range(7) if (number * 10**places).denominator == 1), 99)


def _written(number: Fraction, is_price: bool = False) -> str:
    """A number as people write it: 3, 0.5, and a price of 9.90."""
    places = _places(number)
    if not places:
        return str(int(number))
    return f"{float(number):.{max(places, 2 if is_price else 0)}f}"
