"""The templates of model cards, and the filters that write their values."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import jinja2

from axion.errors import AxionError
from axion.evaluation.results import LANGUAGES, digits_label, megabytes
from axion.shipped import shipped
from publish.markdown import code_block, code_span, plain_text

TEMPLATES = shipped("model_cards")


@cache
def environment() -> jinja2.Environment:
    """Finds the templates and has the filters. A value that is missing is an error, not an empty cell."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    found.filters |= FILTERS
    return found


@contextmanager
def naming_missing_values(card: str) -> Iterator[None]:
    """Turns a value that a template or its facts lack into an AxionError about the card of this name."""
    try:
        yield
    except (jinja2.UndefinedError, KeyError) as error:
        raise AxionError(f"the card of {card} needs a value that is missing: {error}") from None


def quantity(number: float) -> str:
    """A count for readers: 344,224, 671 billion, 14.8 trillion."""
    for size, word in ((1e12, "trillion"), (1e9, "billion")):
        if number >= size:
            return f"{number / size:g} {word}"
    return f"{number:,}"


def duration(seconds: float) -> str:
    """9.5 minutes, 48 seconds, 2.3 hours."""
    for size, word in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {word}"
    return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"


def _duration_pt(seconds: float) -> str:
    number, _, unit = duration(seconds).partition(" ")
    words = {"hours": "horas", "minutes": "minutos", "second": "segundo", "seconds": "segundos"}
    return f"{number.replace('.', ',')} {words[unit]}"


_SHELL = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
"""What stands for these characters between $' and '."""


def _require(write: Callable[..., str]) -> Callable[..., str]:
    """A filter whose error names a missing value, instead of failing on its format."""

    def checked(value: object) -> str:
        return str(value) if isinstance(value, jinja2.Undefined) else write(value)

    return checked


FILTERS: dict[str, Callable[..., str]] = {
    name: _require(write)
    for name, write in {
        "thousands": lambda number: f"{number:,}",
        "thousands_pt": lambda number: f"{number:,}".replace(",", "."),
        "decimals": lambda number: f"{number:.3f}",
        "percent": lambda share: f"{share:.1%}",
        "digits": digits_label,
        "language": LANGUAGES.__getitem__,
        "milliseconds": lambda seconds: f"{1000 * seconds:.1f} ms",
        "megabytes": megabytes,
        "score": lambda score: (
            f"{score['accuracy']:.1%} ({score['correct']:,} of {score['total']:,}; "
            f"{score['interval'][0]:.1%} to {score['interval'][1]:.1%})"
        ),
        "python": lambda text: json.dumps(text, ensure_ascii=False),
        "shell": lambda text: f"$'{text.translate(_SHELL)}'",
        "block": code_block,
        "plain": plain_text,
        "code": code_span,
        "duration": duration,
        "duration_pt": _duration_pt,
        "machine": lambda machine: f"{machine['cores']} cores of {machine['processor']}",
        "libraries": lambda libraries: ", ".join(f"{name} {version}" for name, version in libraries.items()),
        "files": lambda files: " and ".join(
            f"{code_span(file['name'])} (sha256 `{file['sha256'][:16]}…`)" for file in files
        ),
    }.items()
}
