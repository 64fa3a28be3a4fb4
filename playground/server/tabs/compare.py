"""The Compare tab: two models, or one model with two settings, on the same prompt with the same seed."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from axion.errors import AxionError
from playground.content.properties import view_properties
from playground.generate.comparison import OWN, SHARED, SIDES, START, compared_events
from playground.generate.events import growing_text, to_line
from playground.generate.links import is_comparison, linked_release, own_query, read_comparison
from playground.generate.presets import comparison_prompt, in_language
from playground.generate.refusal import tell
from playground.generate.request import DEFAULTS, Request, read_request, read_typed, settings_of
from playground.locales import DEFAULT, Language, fill, known_language, texts
from playground.server.admission import count_starts, find_problems, validation
from playground.server.context import QUEUE, QUIET, PageContext, Panel
from playground.server.controls import build_control, build_presets, build_prompt, loops_panel
from playground.server.kept import keep_values
from playground.server.labels import Labels
from playground.server.markup import script, tell_host
from playground.views import template


def build(context: PageContext) -> list[Panel]:
    """Add the tab's components."""
    labels = context.labels
    with gr.Row(elem_classes="ax-compare"):
        with gr.Column(scale=2, min_width=300, elem_classes="ax-controls"):
            typed = comparison_prompt(context.first and context.first.release, DEFAULT)
            prompt, raw = build_prompt(context, typed, prefix="compare-")
            presets = build_presets(context, prompt, raw)
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
    _connect(context, prompt, raw, shared, sides, view, make, stop)
    _open_links(context, prompt, raw, shared, sides, view)
    _follow_language(context, prompt)
    own = {f"{side}_{name}": control for side in SIDES for name, control in sides[side].items()}
    keep_values("compared", {"prompt": prompt, "raw": raw, **shared, **own})
    return [
        *presets,
        Panel(sides["a"]["model"], lambda model, _: model.name, broken=lambda *_: gr.skip(), follows_language=False),
    ]


def build_comparison_view(labels: Labels) -> gr.HTML:
    """Add the view of a comparison. As an output, it takes the text of `compared_events`.

    Its event `submit` asks for a comparison: side → {"model", "prompt", "sampling", "forced"}.
    """
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
    raw: gr.Checkbox,
    shared: Mapping[str, Component],
    sides: Mapping[str, Mapping[str, Component]],
    view: Any,
    make: gr.Button,
    stop: gr.Button,
) -> None:
    inputs: list[Component] = [
        context.language,
        prompt,
        raw,
        *shared.values(),
        *sides["a"].values(),
        *sides["b"].values(),
    ]

    def is_from_view(event: gr.EventData) -> bool:
        return getattr(event.target, "elem_id", None) == view.elem_id

    def read(event: gr.EventData, prompt_text: str, *values: object) -> dict[str, Any]:
        """Each side's request, not yet checked: from the view if that triggered the event, else from the controls."""
        if is_from_view(event):
            return {side: event._data.get(side) if isinstance(event._data, dict) else None for side in SIDES}
        common = dict(zip(SHARED, values, strict=False))
        own = values[len(SHARED) :]
        requests = {}
        for side, part in zip(SIDES, (own[: len(own) // 2], own[len(own) // 2 :]), strict=True):
            sampling = {**common, **dict(zip(OWN, part[1:], strict=True))}
            requests[side] = {"model": part[0], "prompt": prompt_text, "sampling": sampling}
        return requests

    def run(event: gr.EventData, language: object, prompt_text: str, raw: bool, *values: object) -> Iterator[str]:
        chosen, requests = known_language(language), read(event, prompt_text, *values)
        is_raw = None if is_from_view(event) else raw
        checked = {side: _check(context, asked, is_raw, chosen) for side, asked in requests.items()}
        yield from growing_text(compared_events(context.catalogue, checked, language=chosen))

    def check(
        event: gr.EventData, visitor: gr.Request, language: object, prompt_text: str, raw: bool, *values: object
    ) -> list[dict]:
        problems = {}
        for side, request in read(event, prompt_text, *values).items():
            asked = request if isinstance(request, dict) else {}
            settings = asked.get("sampling")
            settings = DEFAULTS | settings if isinstance(settings, dict) else {}
            found = find_problems(context, language, asked.get("model"), settings, asked.get("prompt"))
            own = ("model", *OWN)
            problems |= {f"{side}_{field}" if field in own else field: text for field, text in found.items()}
        if not problems and (found := count_starts(context.limiter, visitor, language, starts=len(SIDES))):
            problems["a_model"] = found["model"]
        fields = [
            "language",
            "prompt",
            "raw",
            *SHARED,
            *(f"{side}_{field}" for side in SIDES for field in ("model", *OWN)),
        ]
        return validation(problems, tuple(fields))

    comparison = gr.on(
        [make.click, prompt.submit, view.submit],
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


def _open_links(
    context: PageContext,
    prompt: gr.Textbox,
    raw: gr.Checkbox,
    shared: Mapping[str, Component],
    sides: Mapping[str, Mapping[str, Component]],
    view: gr.HTML,
) -> None:
    """A link to a comparison sets the controls, and the view then requests it."""
    outputs: list[Component] = [prompt, raw, *shared.values(), *sides["a"].values(), *sides["b"].values()]

    def open_link(shown: object, visitor: gr.Request) -> list:
        query, language = visitor.query_params, known_language(shown)
        if not is_comparison(query):  # the properties once more: in a tab that was never opened, an update replaces all
            return [gr.skip()] * len(outputs) + [gr.update(**view_properties("compare", language))]
        try:
            asked = read_comparison(context.catalogue, query)
        except AxionError as error:
            return [gr.skip()] * len(outputs) + [_update_view(_failed_link(tell(error, language), language), language)]
        settings = {side: settings_of(request.sampling) for side, request in asked.items()}
        own = [[asked[side].model, *(settings[side][name] for name in OWN)] for side in SIDES]
        common = [settings["a"][name] for name in SHARED]
        requests = {side: _describe(request, own_query(query, side)) for side, request in asked.items()}
        opened = _update_view(to_line({"kind": "open", **requests}), language)
        question = asked["a"].question
        return [question or asked["a"].prompt, question is None, *common, *own[0], *own[1], opened]

    gr.on(None, open_link, context.language, [*outputs, view], **QUIET)  # without triggers: when the page loads


def _update_view(text: str, language: Language) -> dict[str, Any]:
    return gr.update(value=text, **view_properties("compare", language))


def _failed_link(message: str, language: Language) -> str:
    told = fill(texts("trace", language)["bad_link"], language, message=message)
    return "".join(to_line({"side": side, "kind": "error", "message": told}) for side in SIDES)


def _describe(asked: Request, query: Mapping[str, str]) -> dict[str, Any]:
    described = {"model": asked.model, "prompt": asked.prompt, "sampling": settings_of(asked.sampling)}
    described |= {"question": asked.question} if asked.question else {}
    return described | {"forced": asked.forced, "release": linked_release(query)}


def _check(context: PageContext, asked: object, raw: bool | None, language: Language) -> Request | AxionError:
    """One side's request: a question takes the form that its own model was taught.

    Args:
        raw: whether the prompt is raw text; None where the request says exactly what the model reads.
    """
    try:
        if raw is not None and isinstance(asked, dict):
            prompt, question = read_typed(
                context.catalogue.open(asked.get("model")), asked.get("prompt"), raw, language
            )
            asked = {**asked, "prompt": prompt, "question": question}
        request = read_request(context.catalogue, asked)
        context.catalogue.open(request.model)
        return request
    except AxionError as error:
        return error


def _follow_language(context: PageContext, prompt: gr.Textbox) -> None:
    """An example that was not changed is shown in the other language."""

    def translate(language: Language, name: str, typed: str, visitor: gr.Request) -> object:
        if is_comparison(visitor.query_params):
            return gr.skip()
        try:
            release = context.catalogue.open(name).release
        except AxionError:
            return gr.skip()
        return in_language(release, typed, known_language(language), {}) or gr.skip()

    release = context.first and context.first.release
    context.labels.add_opening(prompt, lambda language: {"value": comparison_prompt(release, language).text})
    context.language.change(translate, [context.language, context.model, prompt], prompt, **QUIET)
