"""HTML from Jinja templates that escape every value, for the parts of a page that no model wrote."""

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from playground.content.charts import readings
from playground.locales import Language, fill, format_bytes, format_number, format_percent, format_short

TEMPLATES = Path(__file__).parent / "templates"

_templates = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def _by_language(function: Callable[..., str]) -> Callable[..., str]:
    """The function as a filter: its argument `language` is that of the page."""

    @pass_context
    def write(context: Context, value: object, /, *arguments: object, **named: object) -> str:
        return function(value, *arguments, language=context["language"], **named)

    return write


_templates.filters["number"] = _by_language(format_number)
_templates.filters["percent"] = _by_language(format_percent)
_templates.filters["short"] = _by_language(format_short)
_templates.filters["bytes"] = _by_language(format_bytes)
_templates.filters["fill"] = _by_language(fill)
_templates.filters["readings"] = readings


def render(template: str, language: Language, **values: object) -> str:
    """Fill in a template of playground/content/templates, with numbers as the language writes them."""
    return _templates.get_template(template).render(language=language, **values)
