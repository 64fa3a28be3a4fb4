"""The first tab: a prompt, its sampling, and the trace of what the model makes of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from axion.errors import AxionError
from playground.models import Catalogue
from playground.requests import LIMITS, MAX_PROMPT_CHARACTERS, find_problems, read_request, starting_values
from playground.session import error_text, growing_text, live_events
from playground.texts import BARE_SUM, CONTROLS, PAGE, PRESETS, PROBLEM
from playground.trace_view import build_trace_view

GENERATIONS_AT_ONCE = 2
BASIC = ("temperature", "max_new_tokens", "seed")

# A cut stream has no last line, so the view is told in the browser; see trace_view.js.
TELL_VIEW = "() => { document.querySelector('#trace .axion-view').dispatchEvent(new Event('stop')); return []; }"

# A question alone is not what the models were taught to go on from; this puts one into the form, in plain sight.
AS_PROBLEM = f"""(text) => {{
  const asked = text.trim();
  if (!asked || asked.startsWith("# ")) return text;
  const sum = /^\\d+ *[-+] *\\d+$/.test(asked) && asked.replace(/ *([-+]) */, " $1 ");
  const question = sum ? {json.dumps(BARE_SUM)}.replace("{{sum}}", sum) : asked;
  return {json.dumps(PROBLEM)}.replace("{{question}}", () => question);
}}"""


@dataclass(frozen=True)
class PlaygroundTab:
    """What the rest of the page needs of this tab: where traces are drawn, and the event that draws a new one."""

    view: gr.HTML
    generation: gr.events.Dependency


def build(catalogue: Catalogue, model: gr.Dropdown, trace: dict | None, text: str) -> PlaygroundTab:
    """Add the tab's components. The view starts with `text`, the controls with the settings of `trace`."""
    start = starting_values(trace)
    with gr.Row(elem_classes="ax-columns"):
        with gr.Column(scale=0, min_width=320, elem_classes="ax-controls"):
            prompt = gr.Textbox(
                start["prompt"] or next(iter(PRESETS.values())),
                label=PAGE["prompt"],
                info=PAGE["prompt_hint"],
                lines=5,
                max_lines=12,
                max_length=MAX_PROMPT_CHARACTERS,
                elem_id="prompt",
            )
            with gr.Row(elem_classes="ax-actions"):
                generate = gr.Button(PAGE["generate"], variant="primary", elem_id="generate", min_width=80, scale=2)
                stop = gr.Button(PAGE["stop"], elem_id="stop", min_width=80, scale=1)
            _build_presets(prompt)
            settings = _build_settings(start)
        with gr.Column(scale=1, min_width=320, elem_classes="ax-output"):
            view = build_trace_view(text, elem_id="trace")

    names = tuple(settings)

    def run(model_name: str, prompt_text: str, *values: object) -> Iterator[str]:
        try:
            chosen = catalogue.open(model_name)
            request = read_request(prompt_text, dict(zip(names, values, strict=True)))
        except AxionError as error:
            yield error_text(str(error))
            return
        yield from growing_text(live_events(chosen, request))

    def check(model_name: str, prompt_text: str, *values: object) -> list[dict]:
        problems = find_problems(prompt_text, dict(zip(names, values, strict=True)))
        if model_name not in catalogue.names:
            problems["model"] = "choose one of the models"
        return [gr.validate(field not in problems, problems.get(field, "")) for field in ("model", "prompt", *names)]

    generation = gr.on(
        [generate.click, prompt.submit],
        run,
        inputs=[model, prompt, *settings.values()],
        outputs=view,
        validator=check,
        concurrency_limit=GENERATIONS_AT_ONCE,
        show_progress="hidden",
        api_visibility="private",
    )
    stop.click(None, js=TELL_VIEW, cancels=generation, api_visibility="private")
    return PlaygroundTab(view, generation)


def _build_presets(prompt: gr.Textbox) -> None:
    with gr.Row(elem_classes="ax-presets"):
        form = gr.Button(PAGE["as_problem"], size="sm", min_width=40, scale=0, elem_id="as-problem")
        form.click(None, prompt, prompt, js=AS_PROBLEM, api_visibility="private")
    gr.HTML(f'<p class="ax-caption">{PAGE["presets"]}</p>', apply_default_css=False)
    with gr.Row(elem_classes="ax-presets"):
        for name, text in PRESETS.items():
            button = gr.Button(name, size="sm", min_width=40, scale=0)
            button.click(None, None, prompt, js=f"() => {json.dumps(text)}", api_visibility="private")


def _build_settings(start: dict[str, object]) -> dict[str, gr.components.Component]:
    """The sampling controls by name, in the order of LIMITS; those beyond the basic ones are folded away."""
    controls = {}
    with gr.Accordion(PAGE["sampling"], elem_classes="ax-settings"):
        for name in BASIC:
            controls[name] = _build_control(name, start[name])
        with gr.Accordion(PAGE["more_sampling"], open=False, elem_classes="ax-more"):
            for name in LIMITS:
                if name not in BASIC:
                    controls[name] = _build_control(name, start[name])
    return {name: controls[name] for name in LIMITS}


def _build_control(name: str, value: object) -> gr.components.Component:
    limit, (label, info) = LIMITS[name], CONTROLS[name]
    if name == "seed":  # a slider over four thousand million values helps nobody
        return gr.Number(value, label=label, info=info, step=1, minimum=limit.low, maximum=limit.high)
    return gr.Slider(limit.low, limit.high, value, step=limit.step, label=label, info=info, buttons=[])
