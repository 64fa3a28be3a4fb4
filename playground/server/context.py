"""What the tabs share: the models, the choice of model and language in the page's head, the limits of visitors."""

from collections.abc import Callable
from dataclasses import dataclass, field

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from axion.errors import AxionError
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.rate_limits import Visitors
from playground.locales import Labels, Language
from playground.server.markup import render

GENERATION = "generation"
"""The queue's name for all that lets a model work: page and tools share its places."""


@dataclass(frozen=True)
class House:
    """Handed to every tab's `build`."""

    catalogue: Catalogue
    model: gr.Dropdown
    """The chosen model's name, as the catalogue knows it."""
    language: gr.Radio
    """The chosen language, a key of `playground.locales.LANGUAGES`."""
    labels: Labels
    visitors: Visitors
    first: OpenModel | None
    """The model that the page opens on; None where it is broken."""
    controls: dict[str, Component] = field(default_factory=dict)
    """The first tab's `prompt` and settings, by name, for the tabs that come after it."""


def error_html(message: str) -> str:
    """A message in the place of what could not be shown."""
    return render("error.html", message=message)


@dataclass(frozen=True)
class Panel:
    """A component whose content depends on the chosen model and the language, and is made anew when one changes."""

    component: Block
    content: Callable[[OpenModel, Language], object]
    """A value or a `gr.update`. May raise AxionError, whose message is shown instead."""
    broken: Callable[[str], object] = error_html
    """What is shown in place of a model that cannot be opened, given the message."""
    follows_language: bool = True
    """Whether another language changes the content."""

    def show(self, catalogue: Catalogue, name: str, language: Language) -> object:
        """The content for the model called `name`."""
        try:
            return self.content(catalogue.open(name), language)
        except AxionError as error:
            return self.broken(str(error))
