"""The last tab: programs that repeat what the first tab draws, and below them the documentation."""

from collections.abc import Mapping
from dataclasses import asdict

import gradio as gr
from gradio.context import get_render_context
from gradio.route_utils import get_root_url

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from playground.api import snippets
from playground.content import documentation
from playground.generate.catalogue import OpenModel
from playground.generate.request import Request, find_problems, read_request
from playground.locales import DEFAULT, Language
from playground.locales.api import TEXT
from playground.locales.controls import PRESETS
from playground.locales.page import TEXT as PAGE
from playground.server.admission import known_language
from playground.server.context import House, Panel
from playground.server.corrections import has_mcp
from playground.server.markup import render

KINDS = {"curl": "shell", "transformers": "python", "openai": "python", "gradio": "python", "mcp": "json"}
"""The snippets in the order of their tabs, and the language that each is coloured as."""


def build(house: House) -> list[Panel]:
    """Add the tab's components."""
    tab = get_render_context()
    codes = build_snippets(house)
    names = tuple(house.controls)

    def fill(visitor: gr.Request, name: object, language: object, *values: object) -> list:
        request = read_controls(dict(zip(names, values, strict=True)))
        chosen = known_language(language)
        try:
            written = write_snippets(address_of_page(visitor), house.catalogue.open(name), request, chosen)
        except AxionError:
            written = dict.fromkeys(codes, f"# {PAGE[chosen]['unavailable']}")
        return [written[kind] for kind in codes]

    gr.on(
        [tab.select, house.model.change, house.language.change],
        fill,
        [house.model, house.language, *house.controls.values()],
        list(codes.values()),
        show_progress="hidden",
        api_visibility="private",
        queue=False,
    )
    return documentation.build(house)


def build_snippets(house: House) -> dict[str, gr.Code]:
    """Add the tabs of the snippets; by kind the component of each, empty."""
    labels, codes = house.labels, {}
    with gr.Column(elem_classes="ax-snippets"):
        _add_words(house, "title", "lead")
        with gr.Tabs():
            for kind, coloured in KINDS.items():
                if kind == "mcp" and not has_mcp():
                    continue
                with labels.make(gr.Tab, TEXT, {"label": kind}, render_children=True):
                    _add_words(house, None, f"about_{kind}")
                    codes[kind] = _add_code(kind, coloured)
                    if kind == "mcp":
                        _add_words(house, None, "call_mcp")
                        codes["mcp_call"] = _add_code("mcp_call", coloured)
    return codes


def _add_words(house: House, title: str | None, text: str) -> None:
    def words(language: Language) -> dict[str, object]:
        table = TEXT[language]
        return {"value": render("snippet.html", title=title and table[title], text=table[text])}

    house.labels.add(gr.HTML(apply_default_css=False, **words(DEFAULT)), words)


def _add_code(kind: str, coloured: str) -> gr.Code:
    return gr.Code(
        language=coloured,
        interactive=False,
        wrap_lines=True,
        show_line_numbers=False,
        show_label=False,
        lines=3,
        buttons=["copy"],
        elem_id=f"snippet-{kind.replace('_', '-')}",
    )


def write_snippets(address: str, model: OpenModel, request: Request, language: Language) -> dict[str, str]:
    """The text of every snippet by its kind; `mcp_call` goes with `mcp`."""
    place, note = snippets.find_place(model.release), TEXT[language]["folder_note"]
    return {
        "curl": snippets.curl(address, model.name, request),
        "transformers": snippets.transformers(place, request, note),
        "openai": snippets.openai(address, model.name, request),
        "gradio": snippets.gradio_client(address, model.name, request),
        "mcp": snippets.mcp_configuration(address),
        "mcp_call": snippets.mcp_arguments(model.name, request),
    }


def read_controls(values: Mapping[str, object]) -> Request:
    """What the controls say; in place of what no generation would take, the defaults, so that every snippet runs."""
    sampling = {name: value for name, value in values.items() if name != "prompt"}
    problems = find_problems(values["prompt"], sampling)
    prompt = next(iter(PRESETS.values())) if "prompt" in problems else values["prompt"]
    default = asdict(Sampling())
    sampling |= {name: default[name] for name in problems if name != "prompt"}
    if find_problems(prompt, sampling):  # two that were in range, and do not go together
        sampling = default
    return read_request(prompt, sampling)


def address_of_page(visitor: gr.Request) -> str:
    """The address under which the visitor reached this page, without a slash at its end, behind a proxy as well."""
    request = visitor.request
    return get_root_url(request, request.url.path, request.scope.get("root_path"))
