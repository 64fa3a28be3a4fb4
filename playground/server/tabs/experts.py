"""The Experts tab: the tokens that each expert favours, and how evenly the load is balanced."""

import json
from typing import Any

import gradio as gr

from playground.content.experts import describe_experts
from playground.generate.catalogue import OpenModel
from playground.locales import DEFAULT, Language, texts
from playground.locales.terms import term_properties
from playground.server.context import PageContext, Panel
from playground.server.markup import VIEWS, script


def build(context: PageContext) -> list[Panel]:
    """Add the tab's only component. Its template is constant, since its value contains texts from a release."""

    def properties(language: Language) -> dict[str, Any]:
        return {"texts": texts("experts", language), "language": language, **term_properties(language)}

    view = gr.HTML(
        html_template=(VIEWS / "experts.html").read_text(encoding="utf-8"),
        js_on_load=script("experts"),
        apply_default_css=False,
        elem_id="experts",
        **properties(DEFAULT),
    )
    context.labels.add(view, properties)
    return [Panel(view, lambda model, _: experts_json(model), error_json, follows_language=False)]


def experts_json(model: OpenModel) -> str:
    """The view's value for `model`. Raises AxionError when its release is broken."""
    return json.dumps(describe_experts(model), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def error_json(message: str, _: Language = DEFAULT) -> str:
    """The view's value for a model that cannot be shown."""
    return json.dumps({"error": message, "layers": 0})
