"""The tab of the conversation: questions, answers as they come, and under each answer the experts that read it.

Gradio's own Chatbot is not used: what it takes from a browser may name any component for the server to build, it has no
place for routing, and it streams half as fast as one HTML component that is fed lines.
"""

from collections.abc import Iterator, Mapping

import gradio as gr

from axion.errors import AxionError
from playground import GENERATIONS_AT_ONCE
from playground.generate.catalogue import OpenModel
from playground.generate.chat import MAX_MESSAGES, answer_events, can_chat
from playground.generate.events import error_text, growing_text, to_line
from playground.generate.request import MAX_PROMPT_CHARACTERS, starting_values
from playground.locales import DEFAULT, Labels, Language
from playground.locales.chat import TEXT
from playground.server import admission as checks
from playground.server.context import GENERATION, House, Panel
from playground.server.controls import build_settings
from playground.server.markup import VIEWS, script, tell_host


def build(house: House) -> list[Panel]:
    """Add the tab's components."""
    with gr.Row(elem_classes="ax-columns"):
        with gr.Column(scale=0, min_width=320, elem_classes="ax-controls"):
            settings = build_settings(house.labels, starting_values(None))
        with gr.Column(scale=1, min_width=320, elem_classes="ax-output"):
            view = build_chat_view(house.labels)
    _connect(house, settings, view)
    return [Panel(view, lambda model, _: model_text(model), broken=error_text, follows_language=False)]


def build_chat_view(labels: Labels) -> gr.HTML:
    """Add the view of a conversation to the open page; as an output it takes the text of an answer's events.

    Its event `submit` asks for an answer, with what `answer_events` takes as data, and its event `stop` for the end of
    the one that runs. The template is constant, and words of visitors and models become text alone.
    """

    def words(language: Language) -> dict[str, object]:
        # All of them every time: in a tab that was not opened yet, an update takes the place of all properties.
        return {
            "texts": TEXT[language],
            "language": language,
            "most": MAX_PROMPT_CHARACTERS,
            "mostMessages": MAX_MESSAGES,
        }

    view = gr.HTML(
        html_template=(VIEWS / "chat.html").read_text(encoding="utf-8"),
        js_on_load=script("chat"),
        apply_default_css=False,
        elem_id="chat",
        **words(DEFAULT),
    )
    return labels.add(view, words)


def model_text(model: OpenModel) -> str:
    """The view's text for a model that was just chosen: what it can do. The conversation stays."""
    return to_line({"kind": "model", "model": model.name, "chat": can_chat(model), "context": model.facts.context})


def _connect(house: House, settings: Mapping[str, gr.components.Component], view: gr.HTML) -> None:
    names = tuple(settings)

    def run(event: gr.EventData, language: str, model_name: str, *values: object) -> Iterator[str]:
        try:
            model = house.catalogue.open(model_name)
        except AxionError as error:
            yield error_text(str(error))
            return
        asked = dict(zip(names, values, strict=True))
        yield from growing_text(answer_events(model, event._data, asked, checks.known_language(language)))

    def check(visitor: gr.Request, language: str, model_name: str, *values: object) -> list[dict]:
        # The messages have no control of their own that could show a problem; the view shows it.
        asked = dict(zip(names, values, strict=True))
        problems = checks.check_wish(house, language, model_name, checks.NO_PROMPT, asked)
        problems = problems or checks.count_starts(house, visitor, language)
        return checks.answer(problems, ("language", "model", *names))

    answer = view.submit(
        run,
        inputs=[house.language, house.model, *settings.values()],
        outputs=view,
        validator=check,
        concurrency_limit=GENERATIONS_AT_ONCE,
        concurrency_id=GENERATION,
        show_progress="minimal",  # gradio_host.js reads from it whether the question waits
        api_visibility="private",
    )
    answer.then(None, js=tell_host("chat", "end"), api_visibility="private")
    view.stop(None, cancels=answer, api_visibility="private")
    house.model.change(None, js=tell_host("chat", "stop"), cancels=answer, api_visibility="private")
