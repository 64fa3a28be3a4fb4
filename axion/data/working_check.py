"""Reads a working (`axion.data.working`) line by line, and says whether each line follows from what stands before it.

It knows nothing but the lines: what is left to do and the result so far are read from the last one, as a model reads
them. So what it accepts can be written by looking at one line at a time.
"""

import re
from collections.abc import Callable, Sequence
from types import MappingProxyType

from axion.data.format import Equation
from axion.errors import AxionError

_EXPRESSION = re.compile(r"([0-9]+)([-+*/])([0-9]+)")
_AT_ONCE = re.compile(r"([0-9])([-+*/])([0-9])=(-?[0-9]+)")
_SUM = re.compile(r"([0-9])\+([0-9])(\+1)?=([0-9]+);(?:([0-9]+)\+([0-9]+);)?([0-9]+)")
_DIFFERENCE = re.compile(r"([0-9]+)=([0-9])(\+1)?\+([0-9]);(?:([0-9]+)-([0-9]+);)?([0-9]+)")
_PRODUCT = re.compile(r"([0-9])\*([0-9])(?:\+([0-9]))?=([0-9]+);(?:([0-9]+)\*([0-9]);)?([0-9]+)")
_BY_DIGIT = re.compile(r"([0-9]+)=([0-9])\*([0-9])\+([0-9]);(?:([0-9]+);)?([0-9]+)")
_SUBTRACTION = re.compile(r"([0-9]+)-([0-9]+)=([0-9]+);(?:([0-9]+);)?([0-9]+)")
_TOO_SMALL = re.compile(r"([0-9]+)<([0-9]+);(?:([0-9]+);)?([0-9]+)")
_STEP = re.compile(r"([^;]*?)(?<![0-9])([0-9]+)([-+*/])([0-9]+)(?:=(-?[0-9]+)(?![0-9]).*)?")
_REST_OF_SENTENCE = re.compile(r"=(-?[0-9]+)(?![0-9]).*")


def check_reasoning(text: str) -> list[Equation]:
    """The equations of a reasoning, each of which is worked out: in a sentence, after a sentence, or without one.

    Raises:
        AxionError: a line does not follow from what stands before it; it says which.
    """
    reader = _Reader(text.split("\n"))
    equations = []
    while reader.place < len(reader.lines):
        before, left, sign, right, at_once = reader.next(_STEP).groups()
        equation = Equation(int(left), sign, int(right))
        if at_once:
            reader.must(len(left) == len(right) == 1 and _is_right(equation, at_once))
        else:
            result = _READERS[sign](reader, left, right)
            goes_on = reader.place < len(reader.lines) and reader.lines[reader.place].startswith("=")
            if before or goes_on:  # the rest of the sentence
                reader.must(reader.next(_REST_OF_SENTENCE)[1] == str(result))
        equations.append(equation)
    return equations


def check_working(lines: Sequence[str]) -> int:
    """The result of a working.

    Raises:
        AxionError: a line does not follow from what stands before it; it says which.
    """
    reader = _Reader(lines)
    if lines and (at_once := _AT_ONCE.fullmatch(lines[0])):
        reader.place = 1
        result = int(at_once[4])
        reader.must(_is_right(Equation(int(at_once[1]), at_once[2], int(at_once[3])), at_once[4]))
    else:
        left, sign, right = reader.next(_EXPRESSION).groups()
        result = _READERS[sign](reader, left, right)
    if reader.place != len(lines):
        raise AxionError(f"line {reader.place + 1}, {lines[reader.place]!r}: the result was already there")
    return result


def _is_right(equation: Equation, result: str) -> bool:
    """Whether a result that is written at once is that of the equation; a quotient has to be whole."""
    if equation.sign == "/" and (equation.right == 0 or equation.left % equation.right):
        return False
    return int(result) == equation.result


class _Reader:
    """The lines, one after the other."""

    def __init__(self, lines: Sequence[str]):
        self.lines, self.place = lines, 0

    def next(self, pattern: re.Pattern[str]) -> re.Match[str]:
        line = self.lines[self.place] if self.place < len(self.lines) else ""
        self.place += 1
        match = pattern.fullmatch(line)
        self.must(match is not None)
        assert match
        return match

    def must(self, follows: bool) -> None:
        """Refuses the line that was read last unless it follows from the others."""
        if not follows:
            line = repr(self.lines[self.place - 1]) if self.place <= len(self.lines) else "which is missing"
            raise AxionError(f"line {self.place}, {line}, does not follow from what stands before it")


def _read_sum(reader: _Reader, top: str, bottom: str) -> int:
    carry, done = 0, ""
    while True:
        upper, lower, carried, total, *rests, result = reader.next(_SUM).groups()
        reader.must((upper, lower, bool(carried)) == (top[-1], bottom[-1], bool(carry)))
        reader.must(int(total) == int(upper) + int(lower) + carry)
        top, bottom, carry = top[:-1], bottom[:-1], len(total) - 1
        done = total[-1] + done
        if not top and not bottom:
            reader.must(rests == [None, None] and result == total[:-1] + done)
            return int(result)
        top, bottom = top or "0", bottom or "0"
        reader.must([*rests, result] == [top, bottom, done])


def _read_difference(reader: _Reader, top: str, bottom: str) -> int:
    if int(top) < int(bottom):
        reader.must(reader.next(re.compile(r"-\(([0-9]+)-([0-9]+)\)")).groups() == (bottom, top))
        result = -_read_difference(reader, bottom, top)
        reader.must(reader.next(re.compile(r"-[0-9]+"))[0] == str(result))
        return result
    carry, done = 0, ""
    while True:
        total, lower, carried, digit, *rests, result = reader.next(_DIFFERENCE).groups()
        reader.must((lower, bool(carried)) == (bottom[-1], bool(carry)) and total[-1] == top[-1])
        reader.must(int(total) == int(lower) + carry + int(digit))
        top, bottom, carry = top[:-1], bottom[:-1], len(total) - 1
        done = digit + done
        if not top:
            reader.must(rests == [None, None] and result == (done.lstrip("0") or "0") and not carry)
            return int(result)
        bottom = bottom or "0"
        reader.must([*rests, result] == [top, bottom, done])


def _read_product(reader: _Reader, left: str, right: str) -> int:
    if len(left) < len(right):
        left, right = right, left
        reader.must(reader.next(_EXPRESSION)[0] == f"{left}*{right}")
    if len(right.strip("0")) < 2:
        return _read_columns(reader, left, right)
    terms = reader.next(re.compile(r"[0-9]+\*[0-9]+(?:\+[0-9]+\*[0-9]+)+"))[0].split("+")
    factors = [term.split("*") for term in terms]
    reader.must(all(factor == left and re.fullmatch("[1-9]0*", part) for factor, part in factors))
    reader.must(sum(int(part) for _, part in factors) == int(right) and len({len(part) for _, part in factors}) > 1)
    total = _read_columns(reader, *factors[0])
    for number, (factor, part) in enumerate(factors[1:], start=2):
        rest = terms[number:]
        reader.must(_plain(reader) == "+".join([str(total), *terms[number - 1 :]]))
        product = _read_columns(reader, factor, part)
        reader.must(_plain(reader) == "+".join([str(total), str(product), *rest]))
        total = _read_sum(reader, str(total), str(product))
    return total


def _plain(reader: _Reader) -> str:
    """The next line, a sum of numbers and products."""
    return reader.next(re.compile(r"[0-9+*]+"))[0]


def _read_columns(reader: _Reader, number: str, part: str) -> int:
    """The product with a digit before zeros."""
    by, done, carry = part[0], part[1:], 0
    while True:
        digit, factor, carried, value, *rests, result = reader.next(_PRODUCT).groups()
        reader.must((digit, factor, int(carried or 0)) == (number[-1], by, carry))
        reader.must(int(value) == int(digit) * int(by) + carry)
        number, carry = number[:-1], int(value) // 10
        if not number:
            reader.must(rests == [None, None] and result == str(int(value + done)))
            return int(result)
        done = value[-1] + done
        reader.must([*rests, result] == [number, by, done])


def _read_quotient(reader: _Reader, dividend: str, divisor: str) -> int:
    size = next((end for end in range(1, len(dividend)) if int(dividend[:end]) >= int(divisor)), len(dividend))
    current, rest, quotient = int(dividend[:size]), dividend[size:], ""
    while True:
        if len(divisor) == 1:
            total, by, times, remainder, left, result = reader.next(_BY_DIGIT).groups()
            reader.must((total, by, left or "") == (str(current), divisor, rest) and int(remainder) < int(divisor))
            reader.must(current == int(by) * int(times) + int(remainder) and result == quotient + times)
            current = int(remainder)
        else:
            current, result = _read_subtractions(reader, current, divisor, rest, quotient)
        quotient = result
        if not rest:
            reader.must(current == 0)
            return int(quotient)
        current, rest = current * 10 + int(rest[0]), rest[1:]


def _read_subtractions(reader: _Reader, current: int, divisor: str, rest: str, quotient: str) -> tuple[int, str]:
    """What is left of the dividend's part, and the quotient with one more digit: how often the divisor was in it."""
    if current < int(divisor):
        part, by, left, result = reader.next(_TOO_SMALL).groups()
        reader.must((part, by, left or "", result) == (str(current), divisor, rest, f"{quotient}0"))
        return current, result
    count = 0
    while current >= int(divisor):
        count += 1
        part, by, difference, left, result = reader.next(_SUBTRACTION).groups()
        reader.must((part, by, left or "", result) == (str(current), divisor, rest, f"{quotient}{count}"))
        reader.must(int(difference) == current - int(divisor))
        current = int(difference)
    return current, f"{quotient}{count}"


_READERS: MappingProxyType[str, Callable[[_Reader, str, str], int]] = MappingProxyType(
    {"+": _read_sum, "-": _read_difference, "*": _read_product, "/": _read_quotient}
)
