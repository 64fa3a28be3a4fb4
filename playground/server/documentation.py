"""The documentation on the page: a table of contents, and one card for each chapter."""

from collections.abc import Callable

import gradio as gr

from playground.api.requests import PARAMETER_NAMES
from playground.content.documentation import chapter_markdown, contents_html, read_page
from playground.generate.catalogue import OpenModel
from playground.locales import DEFAULT, Language
from playground.server.context import PageContext, Panel
from playground.server.markup import SERVER, script

FORMULAS = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]


def build_documentation(context: PageContext) -> list[Panel]:
    """Add the documentation to the open page; its chapters follow the model."""
    panels = []
    with gr.Row(elem_classes="ax-doc"):
        with gr.Column(scale=0, min_width=200, elem_classes="ax-doc-contents"):
            contents = gr.HTML(
                contents_html(DEFAULT),
                js_on_load=script("contents", SERVER),
                apply_default_css=False,
                elem_id="doc-contents",
            )
            context.labels.add(contents, lambda language: {"value": contents_html(language)})
        with gr.Column(scale=1, min_width=300, elem_classes="ax-doc-chapters"):
            for index, chapter in enumerate(read_page(DEFAULT)):
                card = gr.Markdown(
                    latex_delimiters=FORMULAS, elem_id=f"doc-{chapter.anchor}", elem_classes="ax-doc-card"
                )
                panels.append(Panel(card, _chapter(index), broken=lambda *_: gr.update(value="", visible=False)))
    return panels


def _chapter(index: int) -> Callable[[OpenModel, Language], object]:
    def fill(model: OpenModel, language: Language) -> object:
        markdown = chapter_markdown(read_page(language)[index], model, language, PARAMETER_NAMES)
        return gr.update(value=markdown, visible=True)

    return fill
