"""Controls whose values survive a reload: the browser keeps them for as long as its tab is open."""

import json
from collections.abc import Mapping

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

KEEP = """(...values) => {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(Object.fromEntries(NAMES.map((name, place) => [name, values[place]]))));
  } catch { /* storage is blocked */ }
  return [];
}"""
RESTORE = """(...shown) => {
  const query = new URLSearchParams(location.search);
  if (LINKS.some((name) => query.has(name))) return shown;
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY)) ?? {};
    const isOffered = (name) => !(name in CHOICES) || CHOICES[name].includes(kept[name]);
    return NAMES.map((name, place) => (name in kept && isOffered(name) ? kept[name] : shown[place]));
  } catch { return shown; /* storage is blocked */ }
}"""
LINKS = ("prompt", "forced", "a_model", "b_model")
"""Parameters of an address that set the controls themselves."""


def keep_values(group: str, controls: Mapping[str, Component]) -> Dependency:
    """Keep the values of these controls in the browser; returns the event that restores them when the page loads.

    Args:
        group: its name in the browser's storage.
        controls: by name.
    """
    choices = {
        name: [value for _, value in control.choices]
        for name, control in controls.items()
        if isinstance(control, gr.Dropdown)
    }
    values = {"KEY": f"axion-{group}", "NAMES": list(controls), "CHOICES": choices, "LINKS": LINKS}
    names = "".join(f"const {name} = {json.dumps(value)}; " for name, value in values.items())
    fields: list[Component] = list(controls.values())

    def script(function: str) -> str:
        return f"(...values) => {{ {names} return ({function})(...values); }}"

    changes = [control.change for control in fields]  # pyright: ignore[reportAttributeAccessIssue]
    gr.on(changes, None, fields, None, js=script(KEEP), api_visibility="private")
    return gr.on(None, None, fields, fields, js=script(RESTORE), api_visibility="private")
