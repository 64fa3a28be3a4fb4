"""Controls that more than one tab has: the sampling settings, and the presets of a prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import gradio as gr
from gradio.components import Component

from axion.data.format import problem_prompt
from axion.errors import AxionError
from playground.generate.catalogue import OpenModel
from playground.generate.presets import NUM_PRESETS, presets, reads_problems
from playground.generate.request import LIMITS
from playground.locales import DEFAULT, Language, texts
from playground.server.context import QUIET, PageContext, Panel
from playground.server.labels import Labels

BASIC = ("temperature", "max_new_tokens", "seed")


@dataclass(frozen=True)
class Controls:
    """The controls that say what to generate."""

    prompt: gr.Textbox
    settings: dict[str, Component]
    """By name, in the order of LIMITS."""
    panels: list[Panel]
    """What follows the model."""
    tampering: gr.State
    """What is changed in the model that the first tab shows: texts by name, as in `axion.tampering`."""


def build_settings(labels: Labels, start: Mapping[str, object], basic: Sequence[str] = BASIC) -> dict[str, Component]:
    """Add the sampling controls: by name, in the order of LIMITS.

    Args:
        start: the initial value of each control.
        basic: the controls that are always visible; the others are in a closed accordion.
    """
    controls = {}
    with labels.make(gr.Accordion, "controls", {"label": "sampling"}, elem_classes="ax-settings"):
        for name in basic:
            controls[name] = build_control(labels, name, start[name])
        with labels.make(gr.Accordion, "controls", {"label": "more_sampling"}, open=False, elem_classes="ax-more"):
            for name in LIMITS:
                if name not in basic:
                    controls[name] = build_control(labels, name, start[name])
    return {name: controls[name] for name in LIMITS}


def loops_panel(control: Component) -> Panel:
    """What shows the control of the loops for a looped model alone, and takes another's number back."""
    return _panel(control, lambda model: {"visible": True} if model.facts.is_looped else {"visible": False, "value": 0})


def build_presets(context: PageContext, prompt: gr.Textbox, prefix: str = "") -> list[Panel]:
    """Add the buttons that fill `prompt` with an example, or put its text into the form of the training data.

    Args:
        prefix: of the elem_ids, where several tabs have these buttons.

    Returns:
        What changes with the model: a model of text has other examples, and no form of problems.
    """
    labels = context.labels
    with gr.Row(elem_classes="ax-presets"):
        form = labels.make(
            gr.Button,
            "controls",
            {"value": "as_problem"},
            size="sm",
            min_width=40,
            scale=0,
            elem_id=f"{prefix}as-problem",
        )
        form.click(partial(_as_problem, context), [context.model, prompt, context.language], prompt, **QUIET)
    labels.add(
        gr.HTML(caption(texts("controls", DEFAULT)["presets"]), apply_default_css=False),
        lambda language: {"value": caption(texts("controls", language)["presets"])},
    )
    panels = [_panel(form, lambda model: {"visible": reads_problems(model.release)})]
    with gr.Row(elem_classes="ax-presets"):
        for place in range(NUM_PRESETS):
            button = gr.Button(size="sm", min_width=40, scale=0)
            button.click(partial(_preset, context, place), context.model, prompt, **QUIET)
            panels.append(_panel(button, partial(_preset_button, place)))
    return panels


def _as_problem(context: PageContext, name: str, prompt: str, language: Language) -> object:
    """What was typed, as a prompt in the form that the model was taught."""
    try:
        chooses = context.catalogue.open(name).release.thinks
    except AxionError:
        return gr.skip()
    return problem_prompt(prompt, chooses, language) if chooses else problem_prompt(prompt)


def _panel(control: Component, content: Callable[[OpenModel], dict]) -> Panel:
    """A control that follows the model and stays as it is if that cannot be opened."""

    def show(model: OpenModel, _: Language) -> object:
        return gr.update(**content(model))

    return Panel(control, show, broken=lambda *_: gr.skip(), follows_language=False)


def _preset_button(place: int, model: OpenModel) -> dict:
    names = [*presets(model.release), *[""] * NUM_PRESETS]
    return {"value": names[place], "visible": bool(names[place])}


def _preset(context: PageContext, place: int, name: str) -> object:
    """The prompt of one of the buttons."""
    try:
        prompts = list(presets(context.catalogue.open(name).release).values())
    except AxionError:
        return gr.skip()
    return prompts[place] if place < len(prompts) else gr.skip()


def caption(text: str) -> str:
    """A small grey line above a group of controls; `text` comes from the locale files."""
    return f'<p class="ax-caption">{text}</p>'


def build_control(labels: Labels, name: str, value: object) -> Component:
    """Add the control of one sampling setting."""
    limit, keys = LIMITS[name], {"label": name, "info": f"{name}_hint"}
    if name == "seed":  # its range is too wide for a slider
        return labels.make(gr.Number, "controls", keys, value=value, step=1, minimum=limit.low, maximum=limit.high)
    ends = {"minimum": limit.low, "maximum": limit.high, "step": limit.step}
    return labels.make(gr.Slider, "controls", keys, value=value, buttons=[], **ends)
