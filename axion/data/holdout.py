"""Which operand pairs training must never see, and where a text shows one.

The arithmetic tests ask for pairs that the model cannot have memorised. An unordered pair is therefore held out of
everything: sums and differences, both languages, all phrasings, word problems, and real text.
"""

import hashlib
import re
from functools import cache

LARGEST_TESTED = 99

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:[.,]\d+)?"
_OPERATOR = r"(?:[-+–−*×/÷]|[xX](?![^\W\d_])|\b(?:plus|minus|times|divided by|mais|menos|vezes|dividido por)\b)"
# A unit of one or two words may follow the first number: "5 apples + 13 apples", "8s + 13". The second number is in a
# lookahead, because in "9 - 4 - 2" it is also the first number of the next pair.
_EXPRESSION = re.compile(
    rf"(?<!\d)(?<!\d[.,])(?P<a>{_NUMBER}|\.\d+)%?[^\W\d_]*?(?:\s+[^\W\d_]+){{0,2}}?\s*{_OPERATOR}"
    rf"(?=[\s(-]*(?:R?\$)?\s*(?P<b>{_NUMBER}|\.\d+))"
)


@cache
def is_held_out(a: int, b: int, fraction: float) -> bool:
    """Whether the unordered pair belongs to the `fraction` of pairs that only the tests use.

    A hash decides, the same on every machine and for every operation. Pairs of two one-digit numbers are never held
    out, because there are too few of them, and neither are numbers above 99, which no test asks for.
    """
    low, high = sorted((a, b))
    if low < 0 or not 10 <= high <= LARGEST_TESTED:
        return False
    digest = hashlib.sha256(f"axion pair {low} {high}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def operand_pairs(text: str) -> list[tuple[int, int]]:
    """All pairs of whole numbers that `text` joins with an operator sign or word, in reading order.

    Currency signs, percent signs, thousands separators and a unit after the first number are ignored. A number with a
    fractional part forms no pair; "5.00" counts as 5.
    """
    found = [(_whole(match["a"]), _whole(match["b"])) for match in _EXPRESSION.finditer(text)]
    return [(a, b) for a, b in found if a is not None and b is not None]


def shows_held_out(text: str, fraction: float) -> bool:
    """Whether any operand pair of `text` is held out."""
    return fraction > 0 and any(is_held_out(a, b, fraction) for a, b in operand_pairs(text))


def _whole(number: str) -> int | None:
    """The value of a matched number, None where it has a fractional part."""
    plain = re.sub(r",(?=\d{3}(?!\d))", "", number).replace(",", ".")
    whole, _, fractional = plain.partition(".")
    return None if fractional.strip("0") else int(whole or 0)
