"""The Experts tab: the tokens that each expert favours, and how evenly the load is balanced."""

from functools import partial

import gradio as gr

from axion.errors import AxionError
from playground.content.absences import absences_error, absences_json
from playground.content.experts import error_json, experts_json
from playground.content.properties import view_properties
from playground.generate.refusal import tell
from playground.locales import DEFAULT, known_language
from playground.server.context import QUEUE, PageContext, Panel
from playground.server.markup import script
from playground.views import template


def build(context: PageContext) -> list[Panel]:
    """Add the tab's only component. Its template is constant, since its value contains texts from a release."""
    properties = partial(view_properties, "experts")
    view = gr.HTML(
        html_template=template("experts"),
        js_on_load=script("experts"),
        apply_default_css=False,
        elem_id="experts",
        **properties(DEFAULT),
    )
    context.labels.add(view, properties)

    def measure(event: gr.EventData, language: str) -> object:
        chosen = known_language(language)
        try:
            return gr.update(absences=absences_json(context.catalogue.open((event._data or {}).get("model"))))
        except AxionError as error:
            return gr.update(absences=absences_error(tell(error, chosen)))

    view.measure(
        measure, context.language, view, show_progress="hidden", api_visibility="private", **QUEUE
    )  # its name stands in quotes in views/absences.js
    return [Panel(view, lambda model, _: experts_json(model), lambda text, _: error_json(text), follows_language=False)]
