"""The working of a calculation, in a form that a small model can write: every line rewrites what is left to do and the
result so far, so that a line can be read off the one before it.

    2637+7504             2637-1904             45*67                 1344/6            1344/42
    7+4=11;263+750;1      7=4+3;263-190;3       45*7+45*60            13=6*2+1;44;2     134-42=92;4;1
    3+0+1=4;26+75;41      3=0+3;26-19;33        5*7=35;4*7;5          14=6*2+2;4;22     92-42=50;4;2
    6+5=11;2+7;141        16=9+7;2-1;733        4*7+3=31;315          24=6*4+0;224      50-42=8;4;3
    2+7+1=10;10141        2=1+1+0;733           315+45*60                               84-42=42;31
                                                5*6=30;4*6;00                           42-42=0;32
                                                4*6+3=27;2700
                                                315+2700
                                                …

A sum goes by columns from the right. What follows the `=` of a column gives the digit of the result and the carry.

A difference is worked out by complementary addition, the method of Austrian and Portuguese schools: in `16=9+7`, 16 is
the upper digit with a ten before it, because 9 is to be subtracted, and 7 is the digit of the result. The ten is
carried to the next digit to subtract. So the columns need no pair such as `16-9`, of which some are held out for the
tests. A negative difference is that of the numbers swapped: `-(34-14)`, …, `-20`.

A product by one digit goes by columns with their carry; any other is a sum of such products. A quotient takes one digit
of the dividend after the other; by a divisor above nine, it counts how often that can be subtracted.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from axion.data.format import Equation
from axion.data.holdout import is_reserved

_PAIR = re.compile(r"([0-9]+)\n?[-+*/]\(?(?=([0-9]+))")


def is_small(equation: Equation) -> bool:
    """Whether both numbers have one digit, so that there is nothing to work out."""
    return equation.left < 10 and equation.right < 10


def working(equation: Equation) -> list[str]:
    """The lines from an equation of whole numbers, none of them negative, to its result; of a small one, one line."""
    left, sign, right = equation
    if is_small(equation):
        return [f"{left}{sign}{right}={equation.result}"]
    return [f"{left}{sign}{right}", *_WORKINGS[sign](left, right)]


def work_through(text: str, equation: Equation) -> str:
    """A sentence about a step with its working, where {=} stands for the equation.

    "Ana has {=} cards." becomes "Ana has 5+3=8 cards.", or with larger numbers "Ana has 25+3", the lines of the
    working, and "=28 cards.".
    """
    first, *others = working(equation)
    if not others:
        return text.replace("{=}", first)
    before, _, after = text.partition("{=}")
    return "\n".join([before + first, *others, f"={equation.result}{after}"])


def shows_reserved(text: str, fraction: float) -> bool:
    """Whether a text of workings has an operand pair that is held out for the tests, of any length.

    Args:
        text: with every operand beside its sign, as workings have them; a sign may begin the next line.
        fraction: the share of pairs that is held out.
    """
    return fraction > 0 and any(is_reserved(int(a), int(b), fraction) for a, b in _PAIR.findall(text))


def _add(left: int, right: int) -> list[str]:
    top, bottom = str(left), str(right)
    width = max(len(top), len(bottom))
    lines, done, carry = [], "", 0
    for upper, lower in _columns(top, bottom):
        total = int(upper) + int(lower) + carry
        column = f"{upper}+{lower}+1={total}" if carry else f"{upper}+{lower}={total}"
        carry = total // 10
        if len(lines) + 1 == width:
            return [*lines, f"{column};{total}{done}"]
        done = f"{total % 10}{done}"
        lines.append(f"{column};{_rest(top, len(done))}+{_rest(bottom, len(done))};{done}")
    raise AssertionError("numbers have at least one digit")


def _subtract(left: int, right: int) -> list[str]:
    if left < right:
        return [f"-({right}-{left})", *_subtract(right, left), f"{left - right}"]
    top, bottom = str(left), str(right)
    lines, done, carry = [], "", 0
    for upper, lower in _columns(top, bottom):
        digit = (int(upper) - int(lower) - carry) % 10
        total = int(lower) + carry + digit
        column = f"{total}={lower}+1+{digit}" if carry else f"{total}={lower}+{digit}"
        carry, done = total // 10, f"{digit}{done}"
        if len(done) == len(top):
            return [*lines, f"{column};{int(done)}"]
        lines.append(f"{column};{_rest(top, len(done))}-{_rest(bottom, len(done))};{done}")
    raise AssertionError("numbers have at least one digit")


def _columns(top: str, bottom: str) -> list[tuple[str, str]]:
    """The digits of two numbers, from the right; the shorter number has zeros before it."""
    width = max(len(top), len(bottom))
    return list(zip(reversed(top.zfill(width)), reversed(bottom.zfill(width)), strict=True))


def _rest(number: str, taken: int) -> str:
    """A number without its last digits."""
    return number[:-taken] or "0"


def _multiply(left: int, right: int) -> list[str]:
    lines = []
    if len(str(left)) < len(str(right)):
        left, right = right, left
        lines.append(f"{left}*{right}")
    parts = [int(digit) * 10**place for place, digit in enumerate(reversed(str(right))) if digit != "0"] or [0]
    products = [f"{left}*{part}" for part in parts]
    if len(parts) > 1:
        lines.append("+".join(products))
    total = 0
    for number, part in enumerate(parts):
        lines += _times(left, part)
        product, others = left * part, products[number + 1 :]
        if number:
            lines += ["+".join([f"{total}+{product}", *others]), *_add(total, product)]
        total += product
        if others:
            lines.append("+".join([str(total), *others]))
    return lines


def _times(number: int, part: int) -> list[str]:
    """The product with a number of one digit before zeros."""
    digits, by = str(number), int(str(part)[0])
    lines, carry, done = [], 0, str(part)[1:]
    for place in range(len(digits) - 1, -1, -1):
        value = int(digits[place]) * by + carry
        column = f"{digits[place]}*{by}+{carry}={value}" if carry else f"{digits[place]}*{by}={value}"
        carry = value // 10
        if place:
            done = f"{value % 10}{done}"
            lines.append(f"{column};{digits[:place]}*{by};{done}")
        else:
            lines.append(f"{column};{int(f'{value}{done}')}")
    return lines


def _divide(dividend: int, divisor: int) -> list[str]:
    """Of numbers that divide without a remainder."""
    digits, current, quotient = str(dividend), 0, ""
    lines: list[str] = []
    for place, digit in enumerate(digits, start=1):
        current, rest = current * 10 + int(digit), digits[place:]
        if current < divisor and not quotient and rest:
            continue  # the quotient begins with the first part that is large enough
        times, remainder = divmod(current, divisor)
        left = f"{rest};" if rest else ""
        if divisor < 10:
            lines.append(f"{current}={divisor}*{times}+{remainder};{left}{quotient}{times}")
        elif not times:
            lines.append(f"{current}<{divisor};{left}{quotient}0")
        for count in range(1, times + 1) if divisor > 9 else ():
            lines.append(f"{current}-{divisor}={current - divisor};{left}{quotient}{count}")
            current -= divisor
        current, quotient = remainder, f"{quotient}{times}"
    return lines


_WORKINGS: Mapping[str, Callable[[int, int], list[str]]] = MappingProxyType(
    {"+": _add, "-": _subtract, "*": _multiply, "/": _divide}
)
