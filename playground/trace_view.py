"""The view of a trace: tokens underlined by expert, the layer × token ribbon, the experts' load, and the figures.

One `gr.HTML` whose template never changes. Its value is the growing text of `playground.session`; the script reads what
was added and draws it, at most once a frame. Text from a model becomes part of the page through `textContent` alone:
Gradio would run scripts hidden in a value that reaches a template.
"""

from dataclasses import asdict

import gradio as gr

from axion.generation import Sampling
from playground.markup import ASSETS, script
from playground.words import DEFAULT, Labels, Language
from playground.words.trace import TEXT

SCRIPTS = ("shared", "figures", "walk", "token", "share", "replay", "trace")
"""Files of assets/view; the last one starts."""


# A function and no subclass: Gradio writes a .pyi file beside the module of every class that derives from its own.
def build_trace_view(labels: Labels, text: str = "", elem_id: str | None = None) -> gr.HTML:
    """Add a view of the NDJSON `text` to the open page; as an output it takes such text.

    Its event `submit` asks for a generation, with {"model", "prompt", "sampling", "forced"} as data, and its event
    `stop` for the end of the one that runs.
    """

    def words(language: Language) -> dict[str, object]:
        return {"texts": TEXT[language], "language": language}

    view = gr.HTML(
        text,
        html_template=(ASSETS / "view" / "trace.html").read_text(encoding="utf-8"),
        js_on_load=script(*SCRIPTS),
        apply_default_css=False,
        elem_id=elem_id,
        defaults=asdict(Sampling()),
        **words(DEFAULT),
    )
    return labels.add(view, words)
