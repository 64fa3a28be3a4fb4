"""The view of a trace on the Gradio page: one `gr.HTML`, whose value is the text of `playground.generate.events`.

The template is a constant, and text from a model reaches the page only through `textContent`: Gradio would run a script
that is hidden in a value which a template shows.
"""

from functools import partial

import gradio as gr

from playground.content.properties import view_properties
from playground.locales import DEFAULT
from playground.server.labels import Labels
from playground.server.markup import script
from playground.views import template


# A function and no subclass: Gradio writes a .pyi file beside the module of every class that derives from its own.
def build_trace_view(labels: Labels, text: str = "", elem_id: str | None = None) -> gr.HTML:
    """Add a view of the NDJSON `text` to the open page; as an output it takes such text.

    Its event `submit` asks for a generation, with {"model", "prompt", "sampling", "forced"} as data, its event `stop`
    for the end of the one that runs, and its event `tamper`, with {"tampering"} besides, for that of a changed model,
    whose events become the prop `tampered`.
    """

    properties = partial(view_properties, "trace")
    view = gr.HTML(
        text,
        html_template=template("trace"),
        js_on_load=script("trace"),
        apply_default_css=False,
        elem_id=elem_id,
        **properties(DEFAULT),
    )
    return labels.add(view, properties)
