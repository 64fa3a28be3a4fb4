"""Questions as people type them: without capitals, accents, question marks and blanks, and with slips of the finger."""

import random
import re
import unicodedata
from collections.abc import Callable

from axion.data.templates.numbers import NUMBER_WORDS

SHARE_OF_HABIT = 0.5
SHARE_OF_SLIPS = 0.4

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[^\W\d_]{4,}")
_BLANKS_AT_SIGN = re.compile(r"(?<=\d) ?([-+*/x×÷:=−]) ?(?=\d|$)")
_KEPT = NUMBER_WORDS | {"duas", "gave", "have", "tinha", "tenha"}
"""Words without slips: one in a number, as from "duas" to "dias", or from "gave" to "have", could change the answer."""


def type_carelessly(text: str, rng: random.Random) -> str:
    """The text with some of the habits of people who type fast. Numbers stay as they are."""
    for habit in _HABITS:
        if rng.random() < SHARE_OF_HABIT:
            text = habit(text)
    return slip(text, rng) if rng.random() < SHARE_OF_SLIPS else text


def slip(text: str, rng: random.Random) -> str:
    """The text with one slip of the finger in a word: a neighbouring key, or a letter doubled, left out, or swapped."""
    words = [word for word in _WORD.finditer(text) if word[0].lower() not in _KEPT]
    if not words:
        return text
    word = rng.choice(words)
    typed = rng.choice(_SLIPS)(word[0], rng.randrange(1, len(word[0]) - 1), rng)
    return text[: word.start()] + typed + text[word.end() :]


def without_accents(text: str) -> str:
    """The text without accents and cedillas."""
    letters = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(each for each in letters if not unicodedata.combining(each)))


def _without_last_mark(text: str) -> str:
    return re.sub(r"(?<=\w)[?.!]$", "", text)


def _without_blanks(text: str) -> str:
    return _BLANKS_AT_SIGN.sub(r"\1", text)


def _without_apostrophes_and_hyphens(text: str) -> str:
    return re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.replace("'", ""))


_HABITS: tuple[Callable[[str], str], ...] = (
    str.lower,
    _without_last_mark,
    without_accents,
    _without_blanks,
    _without_apostrophes_and_hyphens,
)


def _neighbour(word: str, place: int, rng: random.Random) -> str:
    letter = without_accents(word[place]).lower()
    row, column = next(((row, row.index(letter)) for row in _KEYBOARD if letter in row), (letter, 0))
    beside = row[max(column - 1, 0) : column] + row[column + 1 : column + 2]
    return word[:place] + (rng.choice(beside) if beside else letter) + word[place + 1 :]


def _doubled(word: str, place: int, rng: random.Random) -> str:
    return word[:place] + word[place] + word[place:]


def _left_out(word: str, place: int, rng: random.Random) -> str:
    return word[:place] + word[place + 1 :]


def _swapped(word: str, place: int, rng: random.Random) -> str:
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


_SLIPS = (_neighbour, _doubled, _left_out, _swapped)
