"""The first tab: a prompt, its sampling, and the trace of what the model makes of it."""

from collections.abc import Iterator

import gradio as gr

from axion.errors import AxionError
from playground.controls import build_presets, build_settings
from playground.house import GENERATION, GENERATIONS_AT_ONCE, House, Panel
from playground.models import OpenModel
from playground.requests import MAX_PROMPT_CHARACTERS, find_problems, read_request, starting_values
from playground.session import error_text, growing_text, live_events, recorded_events, to_line
from playground.trace_view import build_trace_view
from playground.words.controls import PRESETS, TEXT

# A cut stream has no last line, so the view is told in the browser; see view/trace.js.
TELL_VIEW = "() => { document.querySelector('#trace .axion-view').dispatchEvent(new Event('stop')); return []; }"


def build(house: House) -> list[Panel]:
    """Add the tab's components: the view starts with the model's recorded example, the controls with its settings."""
    labels = house.labels
    start = starting_values(house.first and house.first.release.trace)
    with gr.Row(elem_classes="ax-columns"):
        with gr.Column(scale=0, min_width=320, elem_classes="ax-controls"):
            prompt = labels.make(
                gr.Textbox,
                TEXT,
                {"label": "prompt", "info": "prompt_hint"},
                value=start["prompt"] or next(iter(PRESETS.values())),
                lines=5,
                max_lines=12,
                max_length=MAX_PROMPT_CHARACTERS,
                elem_id="prompt",
            )
            with gr.Row(elem_classes="ax-actions"):
                generate = labels.make(
                    gr.Button,
                    TEXT,
                    {"value": "generate"},
                    variant="primary",
                    elem_id="generate",
                    min_width=80,
                    scale=2,
                )
                stop = labels.make(gr.Button, TEXT, {"value": "stop"}, elem_id="stop", min_width=80, scale=1)
            build_presets(labels, prompt)
            settings = build_settings(labels, start)
        with gr.Column(scale=1, min_width=320, elem_classes="ax-output"):
            view = build_trace_view(labels, recorded_text(house.first) if house.first else "", elem_id="trace")

    names = tuple(settings)

    def run(model_name: str, prompt_text: str, *values: object) -> Iterator[str]:
        try:
            chosen = house.catalogue.open(model_name)
            request = read_request(prompt_text, dict(zip(names, values, strict=True)))
        except AxionError as error:
            yield error_text(str(error))
            return
        yield from growing_text(live_events(chosen, request))

    def check(model_name: str, prompt_text: str, *values: object) -> list[dict]:
        problems = find_problems(prompt_text, dict(zip(names, values, strict=True)))
        if model_name not in house.catalogue.names:
            problems["model"] = "choose one of the models"
        return [gr.validate(field not in problems, problems.get(field, "")) for field in ("model", "prompt", *names)]

    generation = gr.on(
        [generate.click, prompt.submit],
        run,
        inputs=[house.model, prompt, *settings.values()],
        outputs=view,
        validator=check,
        concurrency_limit=GENERATIONS_AT_ONCE,
        concurrency_id=GENERATION,
        show_progress="hidden",
        api_visibility="private",
    )
    for leave in (stop.click, house.model.change):
        leave(None, js=TELL_VIEW, cancels=generation, api_visibility="private")
    return [Panel(view, lambda model, _: recorded_text(model), broken=error_text, follows_language=False)]


def recorded_text(model: OpenModel) -> str:
    """The view's text for the model's recorded example."""
    return "".join(map(to_line, recorded_events(model)))
