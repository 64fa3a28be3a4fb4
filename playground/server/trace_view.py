"""The view of a trace on the Gradio page: one `gr.HTML`, whose value is the text of `playground.generate.events`.

The template is a constant, and text from a model reaches the page only through `textContent`: Gradio would run a script
that is hidden in a value which a template shows.
"""

from dataclasses import asdict
from typing import Any

import gradio as gr

from axion.inference.sampling import Sampling
from playground.locales import DEFAULT, Language, texts
from playground.locales.terms import term_properties
from playground.server.labels import Labels
from playground.server.markup import VIEWS, script


# A function and no subclass: Gradio writes a .pyi file beside the module of every class that derives from its own.
def build_trace_view(labels: Labels, text: str = "", elem_id: str | None = None) -> gr.HTML:
    """Add a view of the NDJSON `text` to the open page; as an output it takes such text.

    Its event `submit` asks for a generation, with {"model", "prompt", "sampling", "forced"} as data, and its event
    `stop` for the end of the one that runs.
    """

    def properties(language: Language) -> dict[str, Any]:
        return {"texts": texts("trace", language), "language": language, **term_properties(language)}

    view = gr.HTML(
        text,
        html_template=(VIEWS / "trace.html").read_text(encoding="utf-8"),
        js_on_load=script("trace"),
        apply_default_css=False,
        elem_id=elem_id,
        defaults=asdict(Sampling()),
        **properties(DEFAULT),
    )
    return labels.add(view, properties)
