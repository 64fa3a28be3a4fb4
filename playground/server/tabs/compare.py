"""The tab that compares: two models, or one model under two settings, on the same prompt with the same seed."""

from collections.abc import Iterator, Mapping

import gradio as gr
from gradio.components import Component

from axion.errors import AxionError
from playground import GENERATIONS_AT_ONCE
from playground.generate.comparison import SIDES, compared_events
from playground.generate.events import growing_text
from playground.generate.links import Wish, read_wish
from playground.generate.request import LIMITS, MAX_PROMPT_CHARACTERS, tell
from playground.locales import DEFAULT, Labels, Language
from playground.locales import controls as control_words
from playground.locales.compare import TEXT, VIEW
from playground.locales.controls import PRESETS
from playground.server.admission import answer, check_wish, count_starts, known_language
from playground.server.context import GENERATION, House, Panel
from playground.server.controls import build_control, build_presets
from playground.server.markup import VIEWS, script, tell_host

SHARED = ("max_new_tokens", "min_new_tokens", "seed")
OWN = tuple(name for name in LIMITS if name not in SHARED)
"""The settings that each side has for itself."""

START = {"max_new_tokens": 120, "min_new_tokens": 0, "seed": 1, "top_k": 0, "top_p": 1, "min_p": 0}
OWN_START = {"a": {"temperature": 0, "repetition_penalty": 1}, "b": {"temperature": 0.8, "repetition_penalty": 1}}
"""The likeliest token every time against a draw: the first question that anybody has about sampling."""


def build(house: House) -> list[Panel]:
    """Add the tab's components."""
    labels = house.labels
    with gr.Row(elem_classes="ax-compare"):
        with gr.Column(scale=2, min_width=300, elem_classes="ax-controls"):
            prompt = labels.make(
                gr.Textbox,
                control_words.TEXT,
                {"label": "prompt"},
                value=list(PRESETS.values())[2],
                lines=5,
                max_lines=12,
                max_length=MAX_PROMPT_CHARACTERS,
                elem_id="compare-prompt",
            )
            build_presets(labels, prompt, prefix="compare-")
        sides = {side: _build_side(house, side) for side in SIDES}
        with gr.Column(scale=1, min_width=220, elem_classes="ax-controls"), gr.Group(elem_classes="ax-side"):
            _heading(labels, "both")
            shared = {name: build_control(labels, name, START[name]) for name in SHARED}
    with gr.Row(elem_classes="ax-actions"):
        make = labels.make(gr.Button, TEXT, {"value": "compare"}, variant="primary", elem_id="compare", scale=2)
        stop = labels.make(gr.Button, TEXT, {"value": "stop"}, elem_id="compare-stop", scale=1)
        swap = labels.make(gr.Button, TEXT, {"value": "swap"}, elem_id="swap", scale=1)
    view = build_comparison_view(labels)

    everything = [*sides["a"].values(), *sides["b"].values()]
    swapped = [*sides["b"].values(), *sides["a"].values()]
    swap.click(None, swapped, everything, js="(...values) => values", api_visibility="private")
    _connect(house, prompt, shared, sides, view, make, stop)
    return [Panel(sides["a"]["model"], lambda model, _: model.name, broken=lambda _: gr.skip(), follows_language=False)]


def build_comparison_view(labels: Labels) -> gr.HTML:
    """Add the view of a comparison; as an output it takes the text of `compared_events`."""

    def words(language: Language) -> dict[str, object]:
        return {"texts": VIEW[language], "language": language}

    view = gr.HTML(
        html_template=(VIEWS / "compare.html").read_text(encoding="utf-8"),
        js_on_load=script("compare"),
        apply_default_css=False,
        elem_id="comparison",
        **words(DEFAULT),
    )
    return labels.add(view, words)


def _build_side(house: House, side: str) -> dict[str, Component]:
    """One side's model and settings, by name."""
    with gr.Column(scale=1, min_width=220, elem_classes="ax-controls"), gr.Group(elem_classes="ax-side"):
        _heading(house.labels, f"side_{side}")
        model = house.labels.make(
            gr.Dropdown,
            TEXT,
            {"label": f"model_{side}"},
            choices=house.catalogue.names,
            value=house.model.value,
            filterable=False,
            elem_id=f"compare-model-{side}",
        )
        start = START | OWN_START[side]
        controls = {"temperature": build_control(house.labels, "temperature", start["temperature"])}
        with house.labels.make(gr.Accordion, control_words.TEXT, {"label": "more_sampling"}, open=False):
            for name in OWN[1:]:
                controls[name] = build_control(house.labels, name, start[name])
    return {"model": model, **controls}


def _heading(labels: Labels, key: str) -> None:
    """The name of a group of controls."""

    def html(language: Language) -> dict[str, object]:
        return {"value": f'<p class="ax-side-name">{TEXT[language][key]}</p>'}

    labels.add(gr.HTML(**html(DEFAULT), apply_default_css=False), html)


def _connect(
    house: House,
    prompt: gr.Textbox,
    shared: Mapping[str, Component],
    sides: Mapping[str, Mapping[str, Component]],
    view: gr.HTML,
    make: gr.Button,
    stop: gr.Button,
) -> None:
    inputs = [house.language, prompt, *shared.values(), *sides["a"].values(), *sides["b"].values()]

    def read(prompt_text: str, *values: object) -> dict[str, dict]:
        """What each side asks for, from the event's values in their order."""
        common = dict(zip(SHARED, values, strict=False))
        own = values[len(SHARED) :]
        wishes = {}
        for side, part in zip(SIDES, (own[: len(own) // 2], own[len(own) // 2 :]), strict=True):
            sampling = {**common, **dict(zip(OWN, part[1:], strict=True))}
            wishes[side] = {"model": part[0], "prompt": prompt_text, "sampling": sampling}
        return wishes

    def run(language: object, prompt_text: str, *values: object) -> Iterator[str]:
        asked, chosen = read(prompt_text, *values), known_language(language)
        yield from growing_text(compared_events({side: _open(house, wish, chosen) for side, wish in asked.items()}))

    def check(visitor: gr.Request, language: object, prompt_text: str, *values: object) -> list[dict]:
        problems = {}
        for side, wish in read(prompt_text, *values).items():
            found = check_wish(house, language, wish["model"], prompt_text, wish["sampling"])
            own = ("model", *OWN)
            problems |= {f"{side}_{field}" if field in own else field: text for field, text in found.items()}
        if not problems and (found := count_starts(house, visitor, language, starts=len(SIDES))):
            problems["a_model"] = found["model"]
        fields = ["language", "prompt", *SHARED, *(f"{side}_{field}" for side in SIDES for field in ("model", *OWN))]
        return answer(problems, tuple(fields))

    comparison = gr.on(
        [make.click, prompt.submit],
        run,
        inputs=inputs,
        outputs=view,
        validator=check,
        concurrency_limit=GENERATIONS_AT_ONCE,
        concurrency_id=GENERATION,
        show_progress="minimal",  # gradio_host.js reads from it whether the request waits
        api_visibility="private",
    )
    comparison.then(None, js=tell_host("comparison", "end"), api_visibility="private")
    stop.click(None, js=tell_host("comparison", "stop"), cancels=comparison, api_visibility="private")


def _open(house: House, wish: Mapping, language: Language) -> Wish | AxionError:
    try:
        return read_wish(house.catalogue, wish)
    except AxionError as error:
        return AxionError(tell(error, language))
