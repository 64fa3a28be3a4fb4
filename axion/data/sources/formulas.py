"""What a template's sentence does to the quantities of its story, as a line of formulas.

    N = N - a ; M = M + a
    w = k * b "The boxes hold {=} {things}." ; N = N + w

Each formula computes one step from two quantities, or names a value (`N = a`). The text in quotes is what the reasoning
says of the step; {=} in it stands for the equation, as in "12 - 5 = 7".
"""

import re
from dataclasses import dataclass

from axion.data.format import Equation
from axion.errors import AxionError

_FORMULA = re.compile(
    r"(?P<target>[A-Za-z]) = (?P<left>[A-Za-z]|\d+)(?: (?P<sign>[-+*/]) (?P<right>[A-Za-z]|\d+))?"
    r'(?: "(?P<text>[^"]+)")?'
)


@dataclass(frozen=True)
class Formula:
    """`target = left sign right`, or `target = left` where `sign` is empty."""

    target: str
    left: str
    sign: str = ""
    right: str = ""
    text: str = ""
    """What the reasoning says of the step."""

    @property
    def asks(self) -> bool:
        """Whether it only asks for a quantity."""
        return self.target == self.left and not self.sign

    @property
    def operands(self) -> tuple[str, ...]:
        """The letters that the formula reads."""
        return tuple(operand for operand in (self.left, self.right) if operand.isalpha())


@dataclass(frozen=True)
class Step:
    """An equation and the sentence about it, in which {=} stands for the equation."""

    equation: Equation
    text: str


def reasoning(steps: tuple[Step, ...]) -> str:
    """The text after `# Raciocínio:`, one line a step."""
    return "\n".join(step.text.replace("{=}", str(step.equation)) for step in steps)


def parse_formulas(line: str, where: str) -> tuple[Formula, ...]:
    """The formulas of a line. A last one that is a letter alone says which quantity is asked for.

    Raises:
        AxionError: one of them is not a formula; `where` says in which line.
    """
    return tuple(_parse(part.strip(), where) for part in line.split(";") if part.strip())


def _parse(part: str, where: str) -> Formula:
    if re.fullmatch(r"[A-Za-z]", part):
        return Formula(part, part)
    if not (match := _FORMULA.fullmatch(part)):
        raise AxionError(f"{where}: {part!r} is no formula; one looks like N = N - a")
    return Formula(**{name: value or "" for name, value in match.groupdict().items()})


def work_out(left: int, sign: str, right: int) -> Equation | None:
    """The equation, or None where its result is not whole."""
    if sign == "/" and (right == 0 or left % right):
        return None
    return Equation(left, sign, right)
