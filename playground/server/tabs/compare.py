"""The Compare tab: two models, or one model with two settings, on the same prompt with the same seed."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from axion.errors import AxionError
from playground.content.properties import view_properties
from playground.generate.comparison import OWN, SHARED, SIDES, START, compared_events
from playground.generate.events import growing_text
from playground.generate.presets import comparison_prompt
from playground.generate.request import MAX_PROMPT_CHARACTERS, Request, read_request
from playground.locales import DEFAULT, Language, known_language, texts
from playground.server.admission import count_starts, find_problems, validation
from playground.server.context import QUEUE, QUIET, PageContext, Panel
from playground.server.controls import build_control, build_presets, loops_panel
from playground.server.labels import Labels
from playground.server.markup import script, tell_host
from playground.views import template


def build(context: PageContext) -> list[Panel]:
    """Add the tab's components."""
    labels = context.labels
    with gr.Row(elem_classes="ax-compare"):
        with gr.Column(scale=2, min_width=300, elem_classes="ax-controls"):
            prompt = labels.make(
                gr.Textbox,
                "controls",
                {"label": "prompt"},
                value=comparison_prompt(context.first and context.first.release),
                lines=5,
                max_lines=12,
                max_length=MAX_PROMPT_CHARACTERS,
                elem_id="compare-prompt",
            )
            presets = build_presets(context, prompt, prefix="compare-")
        sides = {side: _build_side(context, side) for side in SIDES}
        with gr.Column(scale=1, min_width=220, elem_classes="ax-controls"), gr.Group(elem_classes="ax-side"):
            _heading(labels, "both")
            shared = {name: build_control(labels, name, START["a"][name]) for name in SHARED}
    with gr.Row(elem_classes="ax-actions"):
        make = labels.make(gr.Button, "compare", {"value": "compare"}, variant="primary", elem_id="compare", scale=2)
        stop = labels.make(gr.Button, "compare", {"value": "stop"}, elem_id="compare-stop", scale=1)
        swap = labels.make(gr.Button, "compare", {"value": "swap"}, elem_id="swap", scale=1)
    view = build_comparison_view(labels)

    everything = [*sides["a"].values(), *sides["b"].values()]
    swapped = [*sides["b"].values(), *sides["a"].values()]
    swap.click(None, swapped, everything, js="(...values) => values", api_visibility="private")
    _connect(context, prompt, shared, sides, view, make, stop)
    return [
        *presets,
        Panel(sides["a"]["model"], lambda model, _: model.name, broken=lambda *_: gr.skip(), follows_language=False),
    ]


def build_comparison_view(labels: Labels) -> gr.HTML:
    """Add the view of a comparison. As an output, it takes the text of `compared_events`."""

    properties = partial(view_properties, "compare")
    view = gr.HTML(
        html_template=template("compare"),
        js_on_load=script("compare"),
        apply_default_css=False,
        elem_id="comparison",
        **properties(DEFAULT),
    )
    return labels.add(view, properties)


def _build_side(context: PageContext, side: str) -> dict[str, Component]:
    """One side's model and settings, by name."""
    with gr.Column(scale=1, min_width=220, elem_classes="ax-controls"), gr.Group(elem_classes="ax-side"):
        _heading(context.labels, f"side_{side}")
        model = context.labels.make(
            gr.Dropdown,
            "compare",
            {"label": f"model_{side}"},
            choices=context.catalogue.names,
            value=context.model.value,
            filterable=False,
            elem_id=f"compare-model-{side}",
        )
        controls = {"temperature": build_control(context.labels, "temperature", START[side]["temperature"])}
        with context.labels.make(gr.Accordion, "controls", {"label": "more_sampling"}, open=False):
            for name in OWN[1:]:
                controls[name] = build_control(context.labels, name, START[side][name])
    loops = loops_panel(controls["num_loops"])
    controls["num_loops"].visible = context.first is not None and context.first.facts.is_looped
    model.change(
        lambda name: loops.show(context.catalogue, name, DEFAULT), model, loops.component, **QUIET
    )  # a side has a model of its own
    return {"model": model, **controls}


def _heading(labels: Labels, key: str) -> None:
    """The name of a group of controls."""

    def html(language: Language) -> dict[str, Any]:
        return {"value": f'<p class="ax-side-name">{texts("compare", language)[key]}</p>'}

    labels.add(gr.HTML(**html(DEFAULT), apply_default_css=False), html)


def _connect(
    context: PageContext,
    prompt: gr.Textbox,
    shared: Mapping[str, Component],
    sides: Mapping[str, Mapping[str, Component]],
    view: gr.HTML,
    make: gr.Button,
    stop: gr.Button,
) -> None:
    inputs: list[Component] = [context.language, prompt, *shared.values(), *sides["a"].values(), *sides["b"].values()]

    def read(prompt_text: str, *values: object) -> dict[str, dict]:
        """Each side's request, not yet checked, from the values of the inputs."""
        common = dict(zip(SHARED, values, strict=False))
        own = values[len(SHARED) :]
        requests = {}
        for side, part in zip(SIDES, (own[: len(own) // 2], own[len(own) // 2 :]), strict=True):
            sampling = {**common, **dict(zip(OWN, part[1:], strict=True))}
            requests[side] = {"model": part[0], "prompt": prompt_text, "sampling": sampling}
        return requests

    def run(language: object, prompt_text: str, *values: object) -> Iterator[str]:
        requests = {side: _check(context, asked) for side, asked in read(prompt_text, *values).items()}
        events = compared_events(context.catalogue, requests, language=known_language(language))
        yield from growing_text(events)

    def check(visitor: gr.Request, language: object, prompt_text: str, *values: object) -> list[dict]:
        problems = {}
        for side, asked in read(prompt_text, *values).items():
            found = find_problems(context, language, asked["model"], asked["sampling"], prompt_text)
            own = ("model", *OWN)
            problems |= {f"{side}_{field}" if field in own else field: text for field, text in found.items()}
        if not problems and (found := count_starts(context.limiter, visitor, language, starts=len(SIDES))):
            problems["a_model"] = found["model"]
        fields = ["language", "prompt", *SHARED, *(f"{side}_{field}" for side in SIDES for field in ("model", *OWN))]
        return validation(problems, tuple(fields))

    comparison = gr.on(
        [make.click, prompt.submit],
        run,
        inputs=inputs,
        outputs=view,
        validator=check,
        show_progress="minimal",  # gradio_host.js sees from it whether the request waits
        api_visibility="private",
        **QUEUE,
    )
    comparison.then(None, js=tell_host("comparison", "end"), api_visibility="private")
    stop.click(None, js=tell_host("comparison", "stop"), cancels=comparison, api_visibility="private")


def _check(context: PageContext, asked: Mapping) -> Request | AxionError:
    try:
        request = read_request(context.catalogue, asked)
        context.catalogue.open(request.model)
        return request
    except AxionError as error:
        return error
