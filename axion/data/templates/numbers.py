"""Small numbers as words: `twenty-one`, `vinte e um`."""

from types import MappingProxyType

LARGEST = 100

_UNITS = MappingProxyType(
    {
        "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen",
        "pt": "zero um dois três quatro cinco seis sete oito nove dez onze doze treze quatorze quinze dezesseis "
        "dezessete dezoito dezenove",
    }
)
_TENS = MappingProxyType(
    {
        "en": "twenty thirty forty fifty sixty seventy eighty ninety",
        "pt": "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
    }
)
_JOINT = MappingProxyType({"en": "-", "pt": " e "})
_HUNDRED = MappingProxyType({"en": "one hundred", "pt": "cem"})


def number_word(number: int, language: str) -> str:
    """A whole number from 0 to 100 as words, masculine in Portuguese. Raises ValueError for other numbers."""
    if not 0 <= number <= LARGEST:
        raise ValueError(f"{number} is not from 0 to {LARGEST}")
    units, tens = _UNITS[language].split(), _TENS[language].split()
    if number < len(units):
        return units[number]
    if number == LARGEST:
        return _HUNDRED[language]
    ten, unit = divmod(number, 10)
    return tens[ten - 2] + (_JOINT[language] + units[unit] if unit else "")


NUMBER_WORDS = frozenset(
    word
    for language in _UNITS
    for number in range(LARGEST + 1)
    for word in number_word(number, language).replace("-", " ").split()
)
"""All words that numbers are written with, in any language."""
