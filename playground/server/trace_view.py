"""The view of a trace on the Gradio page: one `gr.HTML`, whose value is the text of `playground.generate.events`.

The template is a constant, and text from a model reaches the page only through `textContent`: Gradio would run a script
that is hidden in a value which a template shows.
"""

from collections.abc import Callable
from functools import partial

import gradio as gr

from axion.errors import AxionError
from playground.content.properties import view_properties
from playground.locales import DEFAULT
from playground.server.labels import Labels
from playground.server.markup import script
from playground.views import template


# A function and no subclass: Gradio writes a .pyi file beside the module of every class that derives from its own.
def build_trace_view(
    labels: Labels, text: str = "", elem_id: str | None = None, inspect: Callable[[object], dict] | None = None
) -> gr.HTML:
    """Add a view of the NDJSON `text` to the open page; as an output it takes such text.

    Args:
        inspect: what the view is told of one token; see `playground.generate.inspection.inspect_token`.

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
        server_functions=inspect and [_named(inspect)],
        **properties(DEFAULT),
    )
    return labels.add(view, properties)


def _named(inspect: Callable[[object], dict]) -> Callable[[object], dict]:
    """A function with the name that gradio_host.js calls; an error is answered in one line."""

    def inspect_(asked: object) -> dict:
        try:
            return inspect(asked)
        except AxionError as error:
            return {"error": str(error)}

    inspect_.__name__ = "inspect"
    return inspect_
