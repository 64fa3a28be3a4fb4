"""The tab about the model and its training: where the parameters are, what the cache holds, what was measured."""

import gradio as gr

from axion.errors import AxionError
from axion.results import Row, result_rows
from playground.house import House, Panel
from playground.markup import render
from playground.models import OpenModel
from playground.words import Language
from playground.words.model import TEXT


def build(house: House) -> list[Panel]:
    """Add the tab's components."""
    return [Panel(gr.HTML(apply_default_css=False, elem_id="about"), model_html)]


def model_html(model: OpenModel, language: Language) -> str:
    """What is known of `model`. Raises AxionError when its release.json is not what a release carries."""
    facts = model.facts
    return render(
        "model.html",
        facts=facts,
        components=sorted(facts.components.items(), key=lambda item: -item[1]),
        results=[(row.label, row.value, row.note) for row in _results(model)],
        text=TEXT[language],
    )


def _results(model: OpenModel) -> list[Row]:
    try:
        return result_rows(model.release.info.get("results", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AxionError(f"{model.name}: release.json is broken: its results lack {error}; build it again") from None
