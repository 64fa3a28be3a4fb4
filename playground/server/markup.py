"""The scripts and styles of the page: the views, each bundled with all that it imports and with Gradio's host."""

import json
from collections.abc import Sequence
from pathlib import Path

from playground import views
from playground.views import VIEWS, bundle

SERVER = Path(__file__).parent
STYLES = [*sorted((SERVER / "css").glob("*.css")), *views.STYLES]
"""The page's style sheets: Gradio's surroundings first, then the views."""


def script(view: str, folder: Path = VIEWS) -> str:
    """The `js_on_load` of a `gr.HTML` that shows a view: the module `view`.js, started on the Gradio host."""
    modules = bundle(SERVER / "gradio_host.js", folder / f"{view}.js")
    return f'"use strict";\n{modules}start(gradioHost(element, props, watch, trigger, server));\n'


def tell_host(elem_id: str, signal: str) -> str:
    """The `js=` of a Gradio event that tells the host of the view `elem_id` what it cannot see by itself.

    Args:
        signal: "stop" when the generation was cancelled, "end" when it is over, "model" when another model was chosen;
            its name is then the event's one input.
    """
    detail = f"{{ signal: '{signal}', model }}"
    event = f"new CustomEvent('axion-host', {{ detail: {detail} }})"
    return f"(model) => {{ document.querySelector('#{elem_id} .html-container')?.dispatchEvent({event}); return []; }}"


def tell_settings(elem_id: str, names: Sequence[str]) -> str:
    """The `js=` of a Gradio event that gives the host of the view `elem_id` the sampling settings of the controls.

    Args:
        names: of the event's inputs.
    """
    detail = "{ signal: 'settings', settings: Object.fromEntries(names.map((name, at) => [name, values[at]])) }"
    event = f"new CustomEvent('axion-host', {{ detail: {detail} }})"
    tell = f"document.querySelector('#{elem_id} .html-container')?.dispatchEvent({event})"
    return f"(...values) => {{ const names = {json.dumps(names)}; {tell}; return []; }}"
