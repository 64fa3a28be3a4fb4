"""Which operand pairs training must never see, and how to find them in a text.

The arithmetic tests ask for pairs that the model cannot have memorised. An unordered pair is therefore held out of
everything: sums and differences, both languages, all phrasings, word problems, and real text.
"""

import hashlib
import re
from functools import cache

LARGEST_TESTED = 99

MOST_DIGITS = 9
"""Longer numbers are never held out, and Python refuses to convert those of more than 4,300 digits."""

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:[.,]\d+)?|\.\d+"
_A, _B = (rf"(?:R?\$)?\s?(?P<{name}>{_NUMBER})%?" for name in "ab")
_ALONE = r"(?<!\d)(?<!\d[.,])"  # not in the middle of a number
_OPERATOR = (
    r"(?:[-+–−*×/÷·∙⋅•]|x(?![^\W\d_])|\b(?:plus|minus|times|divided by|multiplied by|added to|subtracted from"
    r"|mais|menos|vezes|dividido por|multiplicado por)\b)"
)
# A unit of one or two words may follow a number: "5 apples + 13 apples", "8s + 13".
_UNIT = r"[^\W\d_]*?(?:\s+[^\W\d_]+){0,2}?"


def _forms(*patterns: str) -> tuple[re.Pattern[str], ...]:
    # The second number is in a lookahead, because in "9 - 4 - 2" it is also the first number of the next pair.
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


_FORMS = _forms(
    rf"{_ALONE}(?P<a>{_NUMBER})%?{_UNIT}\s*{_OPERATOR}(?=[\s(-]*{_B})",
    rf"\b(?:sum|difference|product|quotient|soma|diferença|produto|quociente) (?:of|between|de|entre)\s+{_A}{_UNIT}"
    rf"\s+(?:and|e)\s+(?={_B})",
    rf"\b(?:add|subtract|take|multiply|divide)\s+{_A}{_UNIT}\s+(?:and|to|from|by|away from)\s+(?={_B})",
    rf"\b(?:some|subtraia|tire|multiplique|divida)\s+{_A}{_UNIT}\s+(?:e|a|de|por)\s+(?={_B})",
)
_FORMS_WITH_PARENTHESES = _forms(
    rf"(?<![\d)])\(\s*{_A}\s*\)\s*{_OPERATOR}(?=[\s(-]*{_B})",  # (12) + 5, but not 2(12) + 5
    # products without a sign: 11(4), (11)(4), (11)4
    rf"{_ALONE}(?P<a>{_NUMBER})\((?=\s*{_B}\s*\))",
    rf"\(\s*{_A}\s*\)\s?\((?=\s*{_B}\s*\))",
    rf"(?<![\d)])\(\s*{_A}\s*\)(?=(?P<b>{_NUMBER}))",
)


_TWO_NUMBERS = re.compile(r"\d\D+\d")
_SENTENCE_END = re.compile(r"(?<=[.,;:!?\"'])(?![\d.,])")
"""No form goes past such a sign: in a number, a digit follows it."""


@cache
def is_held_out(a: int, b: int, fraction: float) -> bool:
    """Whether the unordered pair belongs to the `fraction` of pairs that only the tests use.

    A hash decides, the same on every machine and for every operation. Pairs of two one-digit numbers are never held
    out, because there are too few of them, and neither are numbers above 99, which no test asks for.
    """
    return max(a, b) <= LARGEST_TESTED and _is_chosen(a, b, fraction)


def is_reserved(a: int, b: int, fraction: float) -> bool:
    """`is_held_out` for numbers of any length: the same hash holds out that share of the longer ones too.

    It goes for generated sums that are worked out, where tests ask for numbers of up to ten digits.
    """
    return is_held_out(a, b, fraction) if max(a, b) <= LARGEST_TESTED else _is_chosen(a, b, fraction)


def _is_chosen(a: int, b: int, fraction: float) -> bool:
    low, high = sorted((a, b))
    if low < 0 or high < 10:
        return False
    digest = hashlib.sha256(f"axion pair {low} {high}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def operand_pairs(text: str) -> list[tuple[int, int]]:
    """All pairs of whole numbers that `text` joins with an operator sign or word, in reading order.

    Products without a sign, "11(4)", and phrases such as "the sum of 11 and 4" count as joined. Currency signs, percent
    signs, thousands separators and a unit after the first number are ignored. A number with a fractional part, or with
    more than `MOST_DIGITS` digits, forms no pair; "5.00" counts as 5.
    """
    if not _TWO_NUMBERS.search(text):
        return []
    parts = filter(_TWO_NUMBERS.search, _SENTENCE_END.split(text))  # the forms are slow, and most parts have no numbers
    return [pair for part in parts for pair in _pairs(part)]


def _pairs(text: str) -> list[tuple[int, int]]:
    forms = _FORMS + _FORMS_WITH_PARENTHESES if "(" in text else _FORMS
    matches = sorted((match.start("a"), match["a"], match["b"]) for form in forms for match in form.finditer(text))
    found = [(_whole(a), _whole(b)) for _, a, b in matches]
    return [(a, b) for a, b in found if a is not None and b is not None]


def shows_held_out(text: str, fraction: float) -> bool:
    """Whether any operand pair of `text` is held out."""
    return fraction > 0 and any(is_held_out(a, b, fraction) for a, b in operand_pairs(text))


def _whole(number: str) -> int | None:
    """The value of a matched number, None where it has a fractional part or more than `MOST_DIGITS` digits."""
    plain = re.sub(r",(?=\d{3}(?!\d))", "", number).replace(",", ".")
    whole, _, fractional = plain.partition(".")
    if fractional.strip("0") or len(whole.lstrip("0")) > MOST_DIGITS:
        return None
    return int(whole.lstrip("0") or 0)
