"""What every event of the page that lets a model work asks first, before it waits in the queue."""

from collections.abc import Mapping

import gradio as gr

from playground.generate.rate_limits import TooManyRequests
from playground.generate.request import Refusal, find_problems
from playground.locales import DEFAULT, LANGUAGES, Language
from playground.server.context import House

NO_PROMPT = "-"
"""Stands for the prompt where an event has none of its own."""


def check_wish(
    house: House, language: object, model_name: object, prompt: object, settings: Mapping[str, object]
) -> dict[str, str]:
    """What is wrong with a wish, in the page's language, by field: `model`, `prompt` or a setting's name."""
    chosen = known_language(language)
    problems = find_problems(prompt, settings, chosen)
    if not isinstance(model_name, str) or model_name not in house.catalogue.names:
        problems["model"] = Refusal("no_model", known=", ".join(house.catalogue.names)).tell(chosen)
    return problems


def count_starts(house: House, visitor: gr.Request, language: object, starts: int = 1) -> dict[str, str]:
    """Count a wish without a problem as so many starts of the visitor's; too many are told as a problem of `model`."""
    try:
        house.visitors.admit(address_of(visitor), starts)
    except TooManyRequests as error:
        return {"model": error.tell(known_language(language))}
    return {}


def answer(problems: Mapping[str, str], fields: tuple[str, ...]) -> list[dict]:
    """What a `validator=` gives back: one `gr.validate` for each of the event's inputs, named by `fields` in order."""
    return [gr.validate(field not in problems, problems.get(field, "")) for field in fields]


def known_language(language: object) -> Language:
    """The language, where it is one of ours."""
    return language if isinstance(language, str) and language in LANGUAGES else DEFAULT


def address_of(visitor: gr.Request) -> str:
    """Where a request comes from, as far as the server can tell."""
    return visitor.client.host if visitor.client else "unknown"
