"""Every text that a visitor reads, in en.json and pt.json: nested by the part of the page, with the same keys in both.

`{name}` in a text is replaced where the text is shown: on the server by `fill`, in a view by its script. A new language
takes a new file and a new line in LANGUAGES (languages.py). The parts `results` and `originals` have no English here:
they translate `axion.evaluation.results.TEXTS` and `axion.originals.NOTES`.
"""

import json
import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from axion.evaluation.results import TEXTS as RESULT_TEXTS
from axion.originals import NOTES
from playground.locales.languages import DEFAULT, LANGUAGES, Language, choose_language, known_language
from playground.locales.numbers import LocaleNumbers, format_bytes, format_number, format_percent, format_short

__all__ = [
    "DEFAULT",
    "LANGUAGES",
    "Language",
    "LocaleNumbers",
    "Texts",
    "by_language",
    "choose_language",
    "fill",
    "format_bytes",
    "format_number",
    "format_percent",
    "format_short",
    "known_language",
    "read_texts",
    "texts",
]

Texts = Mapping[str, str]
"""The texts of one part of the page in one language, by key."""


@cache
def read_texts(language: Language) -> dict[str, dict[str, str]]:
    """All texts of a language: part → key → text."""
    parts = json.loads(Path(__file__).with_name(f"{language}.json").read_text(encoding="utf-8"))
    return parts | {"results": dict(RESULT_TEXTS), "originals": dict(NOTES)} if language == DEFAULT else parts


def texts(part: str, language: Language) -> Texts:
    """The texts of one part of the page."""
    return read_texts(language)[part]


def by_language(*parts: str) -> dict[Language, Texts]:
    """The texts of some parts, in each language; of a key that several parts have, the last one's text."""
    return {
        language: {key: text for part in parts for key, text in texts(part, language).items()} for language in LANGUAGES
    }


def fill(text: str, language: Language, **values: object) -> str:
    """Replace each `{name}` in a text; numbers are written as the language writes them.

    `{name:plain}` writes a number without thousands separators, as for the limits of a setting.
    """
    return _Filler(language).format(text, **values)


class _Filler(string.Formatter):
    def __init__(self, language: Language) -> None:
        self._language: Language = language

    def format_field(self, value: object, format_spec: str) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return format_number(value, self._language, grouped=format_spec != "plain")
        return str(value)
