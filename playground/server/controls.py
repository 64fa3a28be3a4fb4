"""Controls that more than one tab has: the sampling settings, and the presets of a prompt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import gradio as gr
from gradio.components import Component

from axion.errors import AxionError
from playground.generate.catalogue import OpenModel
from playground.generate.presets import NUM_PRESETS, Typed, presets
from playground.generate.request import LIMITS, MAX_PROMPT_CHARACTERS
from playground.locales import DEFAULT, Language, known_language, texts
from playground.server.context import QUIET, PageContext, Panel
from playground.server.labels import Labels

BASIC = ("temperature", "max_new_tokens", "seed")


@dataclass(frozen=True)
class Controls:
    """The controls that say what to generate."""

    prompt: gr.Textbox
    raw: gr.Checkbox
    """Whether the model continues exactly what the prompt says; see `playground.generate.request.read_typed`."""
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


def build_prompt(context: PageContext, typed: Typed, info: str | None = None, prefix: str = "") -> tuple:
    """Add the field of the prompt, and below it the switch between a question and raw text.

    Args:
        typed: the initial values.
        info: the key of the text under the field's label.
        prefix: of the elem_ids, where several tabs have these controls.

    Returns:
        The field and the switch.
    """
    prompt = context.labels.make(
        gr.Textbox,
        "controls",
        {"label": "prompt"} | ({"info": info} if info else {}),
        value=typed.text,
        lines=5,
        max_lines=12,
        max_length=MAX_PROMPT_CHARACTERS,
        elem_id=f"{prefix}prompt",
    )
    raw = context.labels.make(
        gr.Checkbox,
        "controls",
        {"label": "raw", "info": "raw_hint"},
        value=typed.raw,
        interactive=context.first is None or context.first.release.knows_questions,
        elem_id=f"{prefix}raw",
        elem_classes="ax-raw",
    )
    # Not a Panel: when a link chooses a model, its switch stays as the link says.
    context.model.input(partial(_raw_of, context), context.model, raw, **QUIET)
    return prompt, raw


def _raw_of(context: PageContext, name: str) -> object:
    """The switch for another model: one that knows no questions reads raw text alone."""
    try:
        knows = context.catalogue.open(name).release.knows_questions
    except AxionError:
        return gr.skip()
    return gr.update(value=not knows, interactive=knows)


def build_presets(context: PageContext, prompt: gr.Textbox, raw: gr.Checkbox) -> list[Panel]:
    """Add the buttons that fill `prompt` with an example; returns what changes with the model and the language."""
    context.labels.add(
        gr.HTML(caption(texts("controls", DEFAULT)["presets"]), apply_default_css=False),
        lambda language: {"value": caption(texts("controls", language)["presets"])},
    )
    panels = []
    with gr.Row(elem_classes="ax-presets"):
        for place in range(NUM_PRESETS):
            button = gr.Button(size="sm", min_width=40, scale=0)
            chosen = [context.model, context.language]
            button.click(partial(_preset, context, place), chosen, [prompt, raw], **QUIET)
            show = partial(_preset_button, place)
            panels.append(Panel(button, show, broken=lambda *_: gr.skip()))
    return panels


def _panel(control: Component, content: Callable[[OpenModel], dict]) -> Panel:
    """A control that follows the model and stays as it is if that cannot be opened."""

    def show(model: OpenModel, _: Language) -> object:
        return gr.update(**content(model))

    return Panel(control, show, broken=lambda *_: gr.skip(), follows_language=False)


def _preset_button(place: int, model: OpenModel, language: Language) -> object:
    names = [*presets(model.release, language), *[""] * NUM_PRESETS]
    return gr.update(value=names[place], visible=bool(names[place]))


def _preset(context: PageContext, place: int, name: str, language: Language) -> tuple:
    """What one of the buttons types."""
    try:
        release = context.catalogue.open(name).release
    except AxionError:
        return gr.skip(), gr.skip()
    offered = list(presets(release, known_language(language)).values())
    return (offered[place], not release.knows_questions) if place < len(offered) else (gr.skip(), gr.skip())


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
