"""The Chat tab: questions, answers as they are generated, and below each answer its experts.

Not Gradio's Chatbot: it lets a browser name any component for the server to build, it has no place for routing, and it
streams half as fast as one HTML component that receives lines of NDJSON.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from axion.errors import AxionError
from playground.content.properties import view_properties
from playground.generate.chat import answer_events, model_text
from playground.generate.events import error_text, growing_text
from playground.generate.presets import first_settings
from playground.generate.refusal import tell
from playground.locales import DEFAULT, known_language
from playground.server.admission import count_starts, find_problems, validation
from playground.server.context import QUEUE, PageContext, Panel
from playground.server.controls import build_settings, loops_panel
from playground.server.kept import keep_values
from playground.server.labels import Labels
from playground.server.markup import script, tell_host
from playground.views import template


def build(context: PageContext) -> list[Panel]:
    """Add the tab's components."""
    with gr.Row(elem_classes="ax-columns"):
        with gr.Column(scale=0, min_width=320, elem_classes="ax-controls"):
            settings = build_settings(context.labels, first_settings(context.first and context.first.release))
        with gr.Column(scale=1, min_width=320, elem_classes="ax-output"):
            view = build_chat_view(context.labels)
    _connect(context, settings, view)
    keep_values("chat-settings", settings)
    return [
        Panel(view, lambda model, _: model_text(model), lambda text, _: error_text(text), follows_language=False),
        loops_panel(settings["num_loops"]),
    ]


def build_chat_view(labels: Labels) -> gr.HTML:
    """Add the view of a conversation to the open page. As an output, it takes the text of an answer's events.

    Its event `submit` requests an answer, with the argument of `answer_events` as data, and its event `stop` cancels
    it. The template is constant; what visitors and models write becomes text nodes alone.
    """

    # All properties every time: in a tab that was never opened, an update replaces all of them.
    properties = partial(view_properties, "chat")
    view = gr.HTML(
        html_template=template("chat"),
        js_on_load=script("chat"),
        apply_default_css=False,
        elem_id="chat",
        **properties(DEFAULT),
    )
    return labels.add(view, properties)


def _connect(context: PageContext, settings: Mapping[str, Component], view: Any) -> None:
    names = tuple(settings)

    def run(event: gr.EventData, language: str, model_name: str, *values: object) -> Iterator[str]:
        chosen = known_language(language)
        try:
            model = context.catalogue.open(model_name)
        except AxionError as error:
            yield error_text(tell(error, chosen))
            return
        asked = dict(zip(names, values, strict=True))
        yield from growing_text(answer_events(model, event._data, asked, chosen))

    def check(visitor: gr.Request, language: str, model_name: str, *values: object) -> list[dict]:
        # The messages have no control that could show a problem; the view shows it.
        asked = dict(zip(names, values, strict=True))
        problems = find_problems(context, language, model_name, asked)
        problems = problems or count_starts(context.limiter, visitor, language)
        return validation(problems, ("language", "model", *names))

    answer = view.submit(
        run,
        inputs=[context.language, context.model, *settings.values()],
        outputs=view,
        validator=check,
        show_progress="minimal",  # gradio_host.js sees from it whether the question waits
        api_visibility="private",
        **QUEUE,
    )
    answer.then(None, js=tell_host("chat", "end"), api_visibility="private")
    view.stop(None, cancels=answer, api_visibility="private")
    context.model.change(None, js=tell_host("chat", "stop"), cancels=answer, api_visibility="private")
