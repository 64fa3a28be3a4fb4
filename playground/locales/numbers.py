"""Numbers as each language writes them: 344,224 and 97.6% in English, 344.224 and 97,6% in Portuguese."""

import math
from dataclasses import dataclass

from babel.numbers import format_decimal
from babel.numbers import format_percent as babel_percent

from playground.locales.languages import Language


def format_number(
    value: float, language: Language, decimals: int | None = None, grouped: bool = True, signed: bool = False
) -> str:
    """A number with the language's separators.

    Args:
        decimals: how many; without it, as many as the number has.
        grouped: whether thousands are separated.
        signed: whether zero and above has a sign too.
    """
    if abs(value) >= 10**18 or not math.isfinite(value):  # more digits than babel can format
        return str(value)
    fixed = decimals is not None
    pattern = "#,##0" + ("." + "0" * decimals if decimals else "") if fixed else None
    text = format_decimal(value, format=pattern, locale=language, decimal_quantization=fixed, group_separator=grouped)
    return f"+{text}" if signed and value >= 0 else text


def format_percent(share: float, language: Language, decimals: int | None = None) -> str:
    """A share of 1 in per cent; without `decimals`, with one where it is not a whole number."""
    pattern = "#,##0.#%" if decimals is None else "#,##0" + ("." + "0" * decimals if decimals else "") + "%"
    return babel_percent(share, format=pattern, locale=language)


@dataclass(frozen=True)
class LocaleNumbers:
    """The numbers of measured results in a language, for `axion.evaluation.results.result_rows`."""

    language: Language

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with this many decimals."""
        return format_number(value, self.language, decimals)

    def percent(self, share: float, decimals: int = 0) -> str:
        """A share of 1 in per cent, with this many decimals."""
        return format_percent(share, self.language, decimals)


def format_short(count: float, language: Language) -> str:
    """A count in three digits at most: 344 k, 1.5 M, 40 M."""
    for unit, size in (("", 1), (" k", 1e3), (" M", 1e6), (" G", 1e9)):
        if abs(count) < 999.5 * size or unit == " G":
            decimals = 0 if abs(count) >= 99.5 * size else 1
            return format_number(round(count / size, decimals), language) + unit
    raise AssertionError("the last unit has no upper bound")


def format_bytes(count: float, language: Language) -> str:
    """A number of bytes in powers of 1,000: 192 B, 10.8 kB, 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{format_number(count, language, 0 if unit == 'B' else 1)} {unit}"
        count /= 1000
    raise AssertionError("the last unit has no upper bound")
