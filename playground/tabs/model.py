"""The model tab: where the parameters are, what the cache holds, and what was measured."""

import gradio as gr

from axion.errors import AxionError
from axion.results import Row, result_rows
from playground.markup import render
from playground.models import OpenModel
from playground.texts import MODEL


def build(html: str) -> gr.HTML:
    """Add the tab's one component, showing `html`."""
    return gr.HTML(html, apply_default_css=False, elem_id="about")


def model_html(model: OpenModel) -> str:
    """The tab's content for `model`. Raises AxionError when its release.json is not what a release carries."""
    facts = model.facts
    return render(
        "model.html",
        facts=facts,
        components=sorted(facts.components.items(), key=lambda item: -item[1]),
        results=[(row.label, row.value, row.note) for row in _results(model)],
        text=MODEL,
    )


def error_html(message: str) -> str:
    """The tab's content for a model that could not be opened."""
    return render("error.html", message=message)


def _results(model: OpenModel) -> list[Row]:
    try:
        return result_rows(model.release.info.get("results", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AxionError(f"{model.name}: release.json is broken: its results lack {error}; build it again") from None
