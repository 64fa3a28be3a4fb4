"""The view of a trace: tokens underlined by expert, the layer × token ribbon, the experts' load, and the figures.

One `gr.HTML` whose template never changes. Its value is the growing text of `playground.session`; the script reads what
was added and draws it, at most once a frame. Text from a model becomes part of the page through `textContent` alone:
Gradio would run scripts hidden in a value that reaches a template.
"""

import gradio as gr

from playground.markup import ASSETS
from playground.texts import VIEW


# A function and no subclass: Gradio writes a .pyi file beside the module of every class that derives from its own.
def build_trace_view(text: str = "", elem_id: str | None = None) -> gr.HTML:
    """Add a view of the NDJSON `text` to the open page; as an output it takes such text."""
    return gr.HTML(
        text,
        html_template=(ASSETS / "trace_view.html").read_text(encoding="utf-8"),
        js_on_load=(ASSETS / "trace_view.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        texts=VIEW,
        elem_id=elem_id,
    )
