"""The first tab: a prompt, its sampling settings, and the trace of the generation."""

from collections.abc import Iterator
from functools import partial
from threading import BoundedSemaphore
from typing import Any

import gradio as gr
from gradio.components import Component

from axion.errors import AxionError
from playground.generate.events import error_text, growing_text, live_events, recorded_text, to_line
from playground.generate.inspection import inspect_token
from playground.generate.links import is_link, linked_release, read_link
from playground.generate.presets import first_request, in_language
from playground.generate.rate_limits import GENERATIONS_AT_ONCE, page_visitor
from playground.generate.refusal import tell
from playground.generate.request import (
    DEFAULTS,
    Request,
    read_request,
    read_typed,
    settings_of,
)
from playground.locales import DEFAULT, LANGUAGES, Language, choose_language, known_language
from playground.server.admission import count_starts, find_problems, validation
from playground.server.context import QUEUE, QUIET, PageContext
from playground.server.controls import Controls, build_presets, build_prompt, build_settings, loops_panel
from playground.server.kept import keep_values
from playground.server.markup import tell_host, tell_settings
from playground.server.trace_view import build_trace_view


def build(context: PageContext) -> Controls:
    """Add the tab's components. The view starts with the model's recorded example, the controls with its settings."""
    labels, release = context.labels, context.first and context.first.release
    typed, start_settings = first_request(release, DEFAULT)
    with gr.Row(elem_classes="ax-columns"):
        with gr.Column(scale=0, min_width=320, elem_classes="ax-controls"):
            prompt, raw = build_prompt(context, typed, "prompt_hint")
            with gr.Row(elem_classes="ax-actions"):
                generate = labels.make(
                    gr.Button,
                    "controls",
                    {"value": "generate"},
                    variant="primary",
                    elem_id="generate",
                    min_width=80,
                    scale=2,
                )
                stop = labels.make(gr.Button, "controls", {"value": "stop"}, elem_id="stop", min_width=80, scale=1)
            panels = build_presets(context, prompt, raw)
            settings = build_settings(labels, start_settings)
            panels.append(loops_panel(settings["num_loops"]))
            controls = Controls(prompt, raw, settings, panels, gr.State({}))
        with gr.Column(scale=1, min_width=320, elem_classes="ax-output"):
            view = build_trace_view(
                labels,
                _recorded(context, context.model.value, DEFAULT),
                elem_id="trace",
                inspect=partial(inspect_token, context.catalogue),
            )

    _connect(context, controls, generate, stop, view)
    every: list[Any] = [*controls.settings.values()]
    for control in every:
        control.change(None, every, js=tell_settings("trace", tuple(controls.settings)), api_visibility="private")
    _open_links(context, controls, view)
    _follow_language(context, controls, view)
    # Not a Panel: when a link chooses a model, the model's example must not replace what the link generates.
    context.model.input(
        lambda name, language: _recorded(context, name, known_language(language)),
        [context.model, context.language],
        view,
        **QUIET,
    )
    _keep_controls(context, controls, view)
    return controls


def _keep_controls(context: PageContext, controls: Controls, view: gr.HTML) -> None:
    """A reload keeps the controls; the example shown is then that of the model that they name."""

    def show_example(name: str, language: object, visitor: gr.Request) -> object:
        if name == context.model.value or is_link(visitor.query_params):
            return gr.skip()
        return _recorded(context, name, known_language(language))

    kept = keep_values(
        "controls", {"model": context.model, "prompt": controls.prompt, "raw": controls.raw, **controls.settings}
    )
    kept.then(show_example, [context.model, context.language], view, **QUIET)


def _connect(context: PageContext, controls: Controls, generate: gr.Button, stop: gr.Button, view: Any) -> None:
    """One event runs the model, whether a button triggers it or the view (for a branch or a link)."""
    prompt, names = controls.prompt, tuple(controls.settings)

    def is_from_view(event: gr.EventData) -> bool:
        # Compared by elem_id, since Gradio creates a new object when it updates a component.
        return getattr(event.target, "elem_id", None) == view.elem_id

    def read(event: gr.EventData, model_name: str, prompt_text: str, values: tuple) -> object:
        """The request as it was made: by the view if that triggered the event, else by the controls."""
        if is_from_view(event):
            return event._data
        return {"model": model_name, "prompt": prompt_text, "sampling": dict(zip(names, values, strict=True))}

    def run(
        event: gr.EventData, language: str, model_name: str, prompt_text: str, raw: bool, *values: object
    ) -> Iterator[str]:
        chosen = known_language(language)
        try:
            asked = read(event, model_name, prompt_text, values)
            if not is_from_view(event) and isinstance(asked, dict):
                typed = read_typed(context.catalogue.open(model_name), prompt_text, raw, chosen)
                asked |= dict(zip(("prompt", "question"), typed, strict=True))
            request = read_request(context.catalogue, asked)
            model = context.catalogue.open(request.model)
        except AxionError as error:
            yield error_text(tell(error, chosen))
            return
        yield from growing_text(live_events(model, request, language=chosen))

    def check(
        event: gr.EventData,
        visitor: gr.Request,
        language: str,
        model_name: str,
        prompt_text: str,
        raw: bool,
        *values: object,
    ) -> list[dict]:
        asked = read(event, model_name, prompt_text, values)
        asked = asked if isinstance(asked, dict) else {}
        settings = asked.get("sampling")
        settings = DEFAULTS | settings if isinstance(settings, dict) else {}
        problems = find_problems(context, language, asked.get("model"), settings, asked.get("prompt"))
        problems = problems or count_starts(context.limiter, visitor, language)
        if "model" in problems:  # its control is too small to show a message; the prompt's is beside the buttons
            problems["prompt"] = problems.pop("model")
        return validation(problems, ("language", "model", "prompt", "raw", *names))

    inputs: list[Component] = [context.language, context.model, prompt, controls.raw, *controls.settings.values()]
    generation = gr.on(
        [generate.click, prompt.submit, view.submit],
        run,
        inputs=inputs,
        outputs=view,
        validator=check,
        show_progress="minimal",  # gradio_host.js sees from it whether the request waits
        api_visibility="private",
        **QUEUE,
    )
    generation.then(None, js=tell_host("trace", "end"), api_visibility="private")
    _connect_tampering(context, controls, view)
    stop.click(None, js=tell_host("trace", "stop"), cancels=generation, api_visibility="private")
    view.stop(None, cancels=generation, api_visibility="private")
    context.model.input(
        None, context.model, js=tell_host("trace", "model"), cancels=generation, api_visibility="private"
    )


def _connect_tampering(context: PageContext, controls: Controls, view: Any) -> None:
    """The view asks for the same generation with a changed model, whose events become its prop `tampered`."""

    places = BoundedSemaphore(GENERATIONS_AT_ONCE)

    def run(event: gr.EventData, visitor: gr.Request, language: str) -> tuple[object, dict]:
        chosen = known_language(language)
        try:
            request = read_request(context.catalogue, event._data)
            if not request.tampering:
                return gr.update(tampered=""), {}
            context.limiter.admit(page_visitor(visitor))
            model = context.catalogue.open(request.model)
        except AxionError as error:
            return gr.update(tampered=error_text(tell(error, chosen))), {}
        with places:
            text = "".join(map(to_line, live_events(model, request, language=chosen)))
        return gr.update(tampered=text), request.tampering.to_texts()

    # Not through Gradio's queue, which takes longer than the answer of a small model; so this has places of its own.
    view.tamper(run, context.language, [view, controls.tampering], trigger_mode="always_last", **QUIET)


def _open_links(context: PageContext, controls: Controls, view: gr.HTML) -> None:
    """A link sets the controls, and the view then requests its generation."""
    outputs: list[Component] = [context.model, controls.prompt, controls.raw, *controls.settings.values()]

    def open_link(request: gr.Request) -> list:
        if not is_link(request.query_params):
            return [gr.skip()] * (len(outputs) + 1)
        try:
            asked = read_link(context.catalogue, request.query_params)
        except AxionError as error:
            language = choose_language(request.query_params.get("lang"), request.headers.get("accept-language"))
            return [gr.skip()] * len(outputs) + [error_text(tell(error, language), of="link")]
        settings, is_raw = settings_of(asked.sampling), asked.question is None
        values = (settings[name] for name in controls.settings)
        text = _open_text(asked, linked_release(request.query_params))
        return [asked.model, asked.question or asked.prompt, is_raw, *values, text]

    gr.on(None, open_link, None, [*outputs, view], **QUIET)  # without triggers: when the page loads


def _follow_language(context: PageContext, controls: Controls, view: gr.HTML) -> None:
    """The page opens with the examples of its language, and one that was not changed is shown in another one."""

    def translate(language: Language, name: str, typed: str, visitor: gr.Request) -> tuple:
        chosen = known_language(language)
        try:
            release = context.catalogue.open(name).release
        except AxionError:
            return gr.skip(), gr.skip()
        recorded = {each: first_request(release, each)[0].text for each in LANGUAGES}
        other = None if is_link(visitor.query_params) else in_language(release, typed, chosen, recorded)
        is_recorded = other and other == recorded[chosen]
        return other or gr.skip(), _recorded(context, name, chosen) if is_recorded else gr.skip()

    release, name = context.first and context.first.release, context.model.value
    context.labels.add_opening(controls.prompt, lambda language: {"value": first_request(release, language)[0].text})
    context.labels.add_opening(view, lambda language: {"value": _recorded(context, name, language)})
    chosen = [context.language, context.model, controls.prompt]
    context.language.change(translate, chosen, [controls.prompt, view], **QUIET)


def _open_text(asked: Request, release: str) -> str:
    described = {
        "prompt": asked.prompt,
        "question": asked.question,
        "sampling": settings_of(asked.sampling),
        "forced": asked.forced,
        "tampering": asked.tampering.to_texts(),
    }
    return to_line({"kind": "open", "model": asked.model, **described, "release": release})


def _recorded(context: PageContext, name: str, language: Language) -> str:
    try:
        return recorded_text(context.catalogue.open(name), language)
    except AxionError as error:
        return error_text(tell(error, language), of="example")
