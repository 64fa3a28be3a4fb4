"""The Model & training tab; see `playground.content.model`."""

import gradio as gr

from playground.content.model import model_html
from playground.generate.catalogue import OpenModel
from playground.locales import DEFAULT, Language
from playground.server.context import PageContext, Panel
from playground.server.markup import script


def build(context: PageContext) -> list[Panel]:
    """Add the tab's only component."""
    view = gr.HTML(js_on_load=script("charts"), apply_default_css=False, language=DEFAULT, elem_id="about")

    def content(model: OpenModel, language: Language) -> dict:
        return gr.update(value=model_html(model, language, context.catalogue.describe_others()), language=language)

    return [Panel(view, content)]
