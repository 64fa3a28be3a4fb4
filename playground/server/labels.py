"""The properties of Gradio components that change with the language."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block

from playground.locales import DEFAULT, Language, texts

B = TypeVar("B", bound=Block)


class Labels:
    """Remembers which properties of which component depend on the language, so that one event can set them all."""

    def __init__(self) -> None:
        self._properties: list[tuple[Block, Callable[[Language], dict[str, Any]]]] = []
        self._opening: list[tuple[Block, Callable[[Language], dict[str, Any]]]] = []

    def add(self, component: B, properties: Callable[[Language], dict[str, Any]]) -> B:
        """Note that `properties(language)` are the component's properties that change with the language."""
        self._properties.append((component, properties))
        return component

    def make(self, kind: Callable[..., B], part: str, keys: Mapping[str, str], **fixed: Any) -> B:
        """Add a component to the open page.

        Args:
            kind: the component's class.
            part: the part of the locale files that holds its texts.
            keys: property → key of its text.
            fixed: properties that never change.
        """

        def properties(language: Language) -> dict[str, Any]:
            return {name: texts(part, language)[key] for name, key in keys.items()}

        return self.add(kind(**properties(DEFAULT), **fixed), properties)

    def add_opening(self, component: Block, properties: Callable[[Language], dict[str, Any]]) -> None:
        """Note with what properties the component opens in a language; later changes of language leave them alone."""
        self._opening.append((component, properties))

    def opening(self, language: Language) -> list[tuple[Block, dict[str, Any]]]:
        """The components of `add_opening`, and their properties in this language."""
        return [(component, properties(language)) for component, properties in self._opening]

    @property
    def components(self) -> list[Block]:
        """The outputs of the event that changes the language."""
        return [component for component, _ in self._properties]

    def properties(self, language: Language) -> list[tuple[Block, dict[str, Any]]]:
        """Every component, and its properties in this language."""
        return [(component, properties(language)) for component, properties in self._properties]

    def updates(self, language: Language) -> list[dict[str, Any]]:
        """What that event sets them to."""
        return [gr.update(**properties) for _, properties in self.properties(language)]
