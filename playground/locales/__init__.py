"""Every string that a visitor reads, one module per part of the page, each with the same words in every language.

A module's `TEXT` maps a language to its table; `{name}` in a text is filled in where it is shown. Another language is
one more table in each module and one more line in LANGUAGES.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import gradio as gr
from gradio.blocks import Block

Language = Literal["en", "pt"]
LANGUAGES: dict[Language, str] = {"en": "English", "pt": "Português"}
DEFAULT: Language = "en"

Table = Mapping[Language, Mapping[str, str]]
B = TypeVar("B", bound=Block)


def choose_language(asked: object, accepted: object = None) -> Language:
    """The language that a link asks for, else the first known one of an Accept-Language header, else English."""
    wishes = [asked, *(str(accepted or "").split(","))]
    for wish in wishes:
        code = str(wish or "").strip()[:2].lower()
        if code in LANGUAGES:
            return code
    return DEFAULT


class Labels:
    """Remembers which words of which component depend on the language, so that one event can change them all."""

    def __init__(self) -> None:
        self._words: list[tuple[Block, Callable[[Language], dict[str, object]]]] = []

    def add(self, component: B, words: Callable[[Language], dict[str, object]]) -> B:
        """Note that `words(language)` are the component's properties that change with the language."""
        self._words.append((component, words))
        return component

    def make(self, kind: Callable[..., B], text: Table, words: Mapping[str, str], **fixed: object) -> B:
        """Add a component to the open page, whose property p is `text[language][words[p]]`; `fixed` never changes."""

        def read(language: Language) -> dict[str, object]:
            return {name: text[language][key] for name, key in words.items()}

        return self.add(kind(**read(DEFAULT), **fixed), read)

    @property
    def components(self) -> list[Block]:
        """The outputs of the event that changes the language."""
        return [component for component, _ in self._words]

    def updates(self, language: Language) -> list[dict]:
        """What that event sets them to."""
        return [gr.update(**words(language)) for _, words in self._words]
