"""HTML made on the server: Jinja templates that escape every value, for the parts that no model wrote."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from playground.content.charts import readings, short

TEMPLATES = Path(__file__).parent / "templates"
VIEWS = Path(__file__).parents[1] / "views"


def human_bytes(count: float) -> str:
    """A number of bytes for people, in powers of 1,000: 192 B, 10.8 kB, 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the loop returns")


_templates = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_templates.filters["bytes"] = human_bytes
_templates.filters["thousands"] = lambda number: f"{number:,}"
_templates.filters["short"] = short
_templates.filters["readings"] = readings
_templates.filters["fill"] = lambda text, **values: text.format(**values)


def render(template: str, **values: object) -> str:
    """Fill in a template of playground/server/templates."""
    return _templates.get_template(template).render(**values)


def script(*names: str) -> str:
    """Files of playground/views joined into the one function body that `gr.HTML` takes as `js_on_load`."""
    return "\n".join((VIEWS / f"{name}.js").read_text(encoding="utf-8") for name in names)


def tell_view(css: str, event: str) -> str:
    """The `js=` of a Gradio event that also tells a view what it cannot see by itself.

    A stream that was cut has no last line, and a wish that was refused no first one.
    """
    return f"() => {{ document.querySelector('{css}')?.dispatchEvent(new Event('{event}')); return []; }}"
