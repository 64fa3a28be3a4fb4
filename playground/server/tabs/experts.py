"""The tab about the experts: which tokens each favours, and how evenly they share the work."""

import json

import gradio as gr

from playground.content.experts import describe_experts
from playground.generate.catalogue import OpenModel
from playground.locales import DEFAULT
from playground.locales.experts import TEXT
from playground.server.context import House, Panel
from playground.server.markup import VIEWS, script


def build(house: House) -> list[Panel]:
    """Add the tab's one component. Its template never changes, since token texts out of a release are in its value."""
    view = gr.HTML(
        html_template=(VIEWS / "experts.html").read_text(encoding="utf-8"),
        js_on_load=script("experts"),
        apply_default_css=False,
        texts=TEXT[DEFAULT],
        language=DEFAULT,
        elem_id="experts",
    )
    house.labels.add(view, lambda language: {"texts": TEXT[language], "language": language})
    return [Panel(view, lambda model, _: experts_json(model), broken=error_json, follows_language=False)]


def experts_json(model: OpenModel) -> str:
    """The view's value for `model`. Raises AxionError when its release is broken."""
    return json.dumps(describe_experts(model), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def error_json(message: str) -> str:
    """The view's value in place of what could not be shown."""
    return json.dumps({"error": message, "layers": 0})
