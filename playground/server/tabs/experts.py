"""The Experts tab: the tokens that each expert favours, and how evenly the load is balanced."""

from functools import partial

import gradio as gr

from playground.content.experts import error_json, experts_json
from playground.content.properties import view_properties
from playground.locales import DEFAULT
from playground.server.context import PageContext, Panel
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
    return [Panel(view, lambda model, _: experts_json(model), lambda text, _: error_json(text), follows_language=False)]
