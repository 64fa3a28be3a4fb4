"""The controls of a generation, which more than one tab has: the sampling settings, and the prompt's presets."""

import json
from collections.abc import Mapping, Sequence

import gradio as gr

from playground.generate.chat import problem_prompt
from playground.generate.request import LIMITS
from playground.locales import Labels
from playground.locales.controls import PRESETS, TEXT

BASIC = ("temperature", "max_new_tokens", "seed")


def build_settings(
    labels: Labels, start: Mapping[str, object], basic: Sequence[str] = BASIC
) -> dict[str, gr.components.Component]:
    """Add the sampling controls: by name, in the order of LIMITS. Those that are not `basic` are folded away.

    Args:
        start: what each control shows first, as `requests.starting_values` gives it.
    """
    controls = {}
    with labels.make(gr.Accordion, TEXT, {"label": "sampling"}, elem_classes="ax-settings"):
        for name in basic:
            controls[name] = build_control(labels, name, start[name])
        with labels.make(gr.Accordion, TEXT, {"label": "more_sampling"}, open=False, elem_classes="ax-more"):
            for name in LIMITS:
                if name not in basic:
                    controls[name] = build_control(labels, name, start[name])
    return {name: controls[name] for name in LIMITS}


def build_presets(labels: Labels, prompt: gr.Textbox, prefix: str = "") -> None:
    """Add the buttons that write an example into `prompt`, or put what stands there into the form that was taught.

    `prefix` tells their elem_ids from those of another tab.
    """
    with gr.Row(elem_classes="ax-presets"):
        form = labels.make(
            gr.Button, TEXT, {"value": "as_problem"}, size="sm", min_width=40, scale=0, elem_id=f"{prefix}as-problem"
        )
        form.click(problem_prompt, prompt, prompt, show_progress="hidden", api_visibility="private", queue=False)
    labels.add(
        gr.HTML(caption(TEXT["en"]["presets"]), apply_default_css=False),
        lambda language: {"value": caption(TEXT[language]["presets"])},
    )
    with gr.Row(elem_classes="ax-presets"):
        for name, text in PRESETS.items():
            button = gr.Button(name, size="sm", min_width=40, scale=0)
            button.click(None, None, prompt, js=f"() => {json.dumps(text)}", api_visibility="private")


def caption(text: str) -> str:
    """A small grey line above a group of controls; `text` is one of ours."""
    return f'<p class="ax-caption">{text}</p>'


def build_control(labels: Labels, name: str, value: object) -> gr.components.Component:
    """Add the control of one sampling setting."""
    limit, words = LIMITS[name], {"label": name, "info": f"{name}_hint"}
    if name == "seed":  # a slider over nine thousand billion values helps nobody
        return labels.make(gr.Number, TEXT, words, value=value, step=1, minimum=limit.low, maximum=limit.high)
    ends = {"minimum": limit.low, "maximum": limit.high, "step": limit.step}
    return labels.make(gr.Slider, TEXT, words, value=value, buttons=[], **ends)
