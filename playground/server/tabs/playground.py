"""The first tab: a prompt, its sampling, and the trace of what the model makes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import gradio as gr

from axion.errors import AxionError
from playground import GENERATIONS_AT_ONCE
from playground.generate.catalogue import OpenModel
from playground.generate.events import error_text, growing_text, live_events, recorded_events, to_line
from playground.generate.links import DEFAULTS, Wish, is_link, read_link, read_wish
from playground.generate.request import MAX_PROMPT_CHARACTERS, starting_values, tell
from playground.locales import choose_language
from playground.locales.controls import PRESETS, TEXT
from playground.server.admission import answer, check_wish, count_starts, known_language
from playground.server.context import GENERATION, House, Panel
from playground.server.controls import build_presets, build_settings
from playground.server.markup import tell_host
from playground.server.trace_view import build_trace_view


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
            house.controls.update(prompt=prompt, **settings)
        with gr.Column(scale=1, min_width=320, elem_classes="ax-output"):
            view = build_trace_view(labels, _recorded(house, house.model.value), elem_id="trace")

    _connect(house, prompt, settings, generate, stop, view)
    _open_links(house, prompt, settings, view)
    # No Panel: another model chosen by a link must not put its recorded example over what the link draws.
    house.model.input(
        lambda name: _recorded(house, name),
        house.model,
        view,
        show_progress="hidden",
        api_visibility="private",
        queue=False,
    )
    return []


def _connect(house: House, prompt, settings: Mapping, generate: gr.Button, stop: gr.Button, view: gr.HTML) -> None:
    """One event lets the model work, whether a button asks or the view (for a branch, or for what a link says)."""
    names = tuple(settings)

    def read(event: gr.EventData, model_name: str, prompt_text: str, values: tuple) -> object:
        """What is asked for, as `read_wish` takes it: by the view itself, or else by the controls."""
        # The view is known by name, since Gradio makes a component anew when it updates it.
        if getattr(event.target, "elem_id", None) == view.elem_id:
            return event._data
        return {"model": model_name, "prompt": prompt_text, "sampling": dict(zip(names, values, strict=True))}

    def run(event: gr.EventData, language: str, model_name: str, prompt_text: str, *values: object) -> Iterator[str]:
        try:
            wish = read_wish(house.catalogue, read(event, model_name, prompt_text, values))
        except AxionError as error:
            yield error_text(tell(error, known_language(language)))
            return
        yield from growing_text(live_events(wish.model, wish.request))

    def check(
        event: gr.EventData, visitor: gr.Request, language: str, model_name: str, prompt_text: str, *values: object
    ) -> list[dict]:
        wish = read(event, model_name, prompt_text, values)
        asked = wish if isinstance(wish, dict) else {}
        sampling = asked.get("sampling")
        sampling = DEFAULTS | sampling if isinstance(sampling, dict) else {}
        problems = check_wish(house, language, asked.get("model"), asked.get("prompt"), sampling)
        problems = problems or count_starts(house, visitor, language)
        if "model" in problems:  # its control is too small to show anything, and the prompt stands beside the buttons
            problems["prompt"] = problems.pop("model")
        return answer(problems, ("language", "model", "prompt", *names))

    generation = gr.on(
        [generate.click, prompt.submit, view.submit],
        run,
        inputs=[house.language, house.model, prompt, *settings.values()],
        outputs=view,
        validator=check,
        concurrency_limit=GENERATIONS_AT_ONCE,
        concurrency_id=GENERATION,
        show_progress="minimal",  # gradio_host.js reads from it whether the request waits
        api_visibility="private",
    )
    generation.then(None, js=tell_host("trace", "end"), api_visibility="private")
    stop.click(None, js=tell_host("trace", "stop"), cancels=generation, api_visibility="private")
    view.stop(None, cancels=generation, api_visibility="private")
    house.model.input(None, house.model, js=tell_host("trace", "model"), cancels=generation, api_visibility="private")


def _open_links(house: House, prompt: gr.Textbox, settings: Mapping, view: gr.HTML) -> None:
    """A visitor who comes with a link finds the controls as it says, and the view asks for what it draws."""
    controls = [house.model, prompt, *settings.values()]

    def open_link(request: gr.Request) -> list:
        if not is_link(request.query_params):
            return [gr.skip()] * (len(controls) + 1)
        try:
            wish = read_link(house.catalogue, request.query_params)
        except AxionError as error:
            language = choose_language(request.query_params.get("lang"), request.headers.get("accept-language"))
            return [gr.skip()] * len(controls) + [error_text(tell(error, language), of="link")]
        sampling = asdict(wish.request.sampling)
        return [wish.model.name, wish.request.prompt, *(sampling[name] for name in settings), _open_text(wish)]

    gr.on(  # without triggers: when the page loads
        None, open_link, None, [*controls, view], show_progress="hidden", api_visibility="private", queue=False
    )


def _open_text(wish: Wish) -> str:
    request = wish.request
    asked = {"prompt": request.prompt, "sampling": asdict(request.sampling), "forced": request.forced}
    return to_line({"kind": "open", "model": wish.model.name, **asked})


def _recorded(house: House, name: str) -> str:
    try:
        return recorded_text(house.catalogue.open(name))
    except AxionError as error:
        return error_text(str(error), of="example")


def recorded_text(model: OpenModel) -> str:
    """The view's text for the model's recorded example."""
    return "".join(map(to_line, recorded_events(model)))
