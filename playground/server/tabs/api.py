"""The last tab: programs that repeat the generation of the first tab, and below them the documentation."""

from collections.abc import Mapping
from typing import Any, Literal

import gradio as gr
from gradio.components import Component
from gradio.route_utils import get_root_url

from axion.errors import AxionError
from axion.tampering import NOTHING, Tampering, read_tampering
from playground.api import snippets
from playground.api.mcp import has_mcp
from playground.content.markup import render
from playground.generate.catalogue import OpenModel
from playground.generate.places import find_place
from playground.generate.presets import first_prompt
from playground.generate.refusal import Refusal
from playground.generate.request import DEFAULTS, Request, check_settings, read_typed, settings_problems
from playground.locales import DEFAULT, Language, known_language, texts
from playground.server.context import QUIET, PageContext, Panel
from playground.server.controls import Controls
from playground.server.documentation import build_documentation

KINDS: dict[str, Literal["shell", "python", "json"]] = {
    "curl": "shell",
    "transformers": "python",
    "openai": "python",
    "gradio": "python",
    "mcp": "json",
}
"""The snippets in the order of their tabs, and the language for syntax highlighting."""


def build(context: PageContext, tab: gr.Tab, controls: Controls) -> list[Panel]:
    """Add the tab's components.

    Args:
        tab: the tab itself; its snippets are written when it is opened.
        controls: those of the first tab.
    """
    codes = build_snippets(context)
    names = tuple(controls.settings)

    def write(
        visitor: gr.Request,
        name: object,
        language: object,
        prompt: object,
        raw: object,
        tampering: object,
        *values: object,
    ) -> list[str]:
        chosen = known_language(language)
        try:
            model = context.catalogue.open(name)
            settings = dict(zip(names, values, strict=True))
            request = read_controls(model, prompt, settings, tampering, raw, chosen)
            written = write_snippets(address_of_page(visitor), model, request, chosen)
        except AxionError:
            written = dict.fromkeys(codes, f"# {texts('page', chosen)['unavailable']}")
        return [written[kind] for kind in codes]

    typed: list[Component] = [controls.prompt, controls.raw, controls.tampering]
    inputs: list[Component] = [context.model, context.language, *typed, *controls.settings.values()]
    gr.on([tab.select, context.model.change, context.language.change], write, inputs, list(codes.values()), **QUIET)
    return build_documentation(context)


def build_snippets(context: PageContext) -> dict[str, gr.Code]:
    """Add a tab for each snippet; returns the empty components by kind."""
    labels, codes = context.labels, {}
    with gr.Column(elem_classes="ax-snippets"):
        _add_text(context, "title", "lead")
        with gr.Tabs():
            for kind, highlighted in KINDS.items():
                if kind == "mcp" and not has_mcp():
                    continue
                with labels.make(gr.Tab, "api", {"label": kind}, render_children=True):
                    _add_text(context, None, f"about_{kind}")
                    codes[kind] = _add_code(kind, highlighted)
                    if kind == "mcp":
                        _add_text(context, None, "call_mcp")
                        codes["mcp_call"] = _add_code("mcp_call", highlighted)
    return codes


def _add_text(context: PageContext, title: str | None, text: str) -> None:
    def properties(language: Language) -> dict[str, Any]:
        table = texts("api", language)
        return {"value": render("snippet.html", language, title=title and table[title], text=table[text])}

    context.labels.add(gr.HTML(apply_default_css=False, **properties(DEFAULT)), properties)


def _add_code(kind: str, highlighted: Literal["shell", "python", "json"]) -> gr.Code:
    return gr.Code(
        language=highlighted,
        interactive=False,
        wrap_lines=True,
        show_line_numbers=False,
        show_label=False,
        lines=3,
        buttons=["copy"],
        elem_id=f"snippet-{kind.replace('_', '-')}",
    )


def write_snippets(address: str, model: OpenModel, request: Request, language: Language) -> dict[str, str]:
    """The text of every snippet by kind; `mcp_call` belongs to `mcp`."""
    place, note = find_place(model.release), texts("api", language)["folder_note"]
    return {
        "curl": snippets.curl(address, request),
        "transformers": snippets.transformers(place, request, note),
        "openai": snippets.openai(address, request),
        "gradio": snippets.gradio_client(address, request),
        "mcp": snippets.mcp_configuration(address),
        "mcp_call": snippets.mcp_arguments(request),
    }


def read_controls(
    model: OpenModel,
    prompt: object,
    settings: Mapping[str, object],
    tampering: object = None,
    raw: object = False,
    language: Language = DEFAULT,
) -> Request:
    """The request that the controls describe, with defaults in place of invalid values, so that every snippet runs.

    Its prompt is exactly what the model reads.
    """
    wrong = settings_problems(settings, DEFAULT)
    settings = {**settings, **{name: DEFAULTS[name] for name in wrong}}
    if settings_problems(settings, DEFAULT):  # two values that are in range, but not together
        settings = DEFAULTS
    try:
        text, question = read_typed(model, prompt, raw, language)
    except Refusal:
        text, question = read_typed(model, *first_prompt(model.release, language), language)
    changes = _fitting(model, tampering)
    return Request(model.name, text, check_settings(settings), tampering=changes, question=question)


def _fitting(model: OpenModel, tampering: Any) -> Tampering:
    """What is changed in the shown model; nothing where another one was chosen since, which it does not fit."""
    try:
        changes = read_tampering(tampering or {})
        changes.check(model.release.config)
    except AxionError:
        return NOTHING
    return changes


def address_of_page(visitor: gr.Request) -> str:
    """The address at which the visitor reached this page, also behind a proxy, without a trailing slash."""
    request = visitor.request
    assert request is not None, "Gradio passes the request of every event"
    return get_root_url(request, request.url.path, request.scope.get("root_path"))
