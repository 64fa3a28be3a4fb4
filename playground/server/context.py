"""What the tabs share: the models, the choice of model and language in the page's header, and the rate limits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from axion.errors import AxionError
from playground.content.markup import render
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.rate_limits import GENERATIONS_AT_ONCE, RateLimiter
from playground.generate.refusal import tell
from playground.locales import Language
from playground.server.labels import Labels

QUEUE: dict[str, Any] = {"concurrency_limit": GENERATIONS_AT_ONCE, "concurrency_id": "generation"}
"""Arguments of every event that runs a model: page and tools share the places."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""Arguments of an event that only updates the page."""


@dataclass(frozen=True)
class PageContext:
    """Passed to every tab's `build`."""

    catalogue: Catalogue
    model: gr.Dropdown
    """The name of the chosen model in the catalogue."""
    language: gr.Radio
    """The chosen language, a key of `playground.locales.LANGUAGES`."""
    labels: Labels
    limiter: RateLimiter
    first: OpenModel | None
    """The model that the page opens with; None if its release is broken."""


def error_html(message: str, language: Language) -> str:
    """An error message in place of some content."""
    return render("error.html", language, message=message)


@dataclass(frozen=True)
class Panel:
    """A component whose content depends on the chosen model and the language, and is rebuilt when one changes."""

    component: Block
    content: Callable[[OpenModel, Language], object]
    """A value or a `gr.update`. May raise AxionError, whose message is then shown."""
    broken: Callable[[str, Language], object] = error_html
    """The content for a model that cannot be opened, given the error message."""
    follows_language: bool = True
    """Whether the content depends on the language."""

    def show(self, catalogue: Catalogue, name: str, language: Language) -> object:
        """The content for the model called `name`."""
        try:
            return self.content(catalogue.open(name), language)
        except AxionError as error:
            return self.broken(tell(error, language), language)
