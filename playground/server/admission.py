"""What every event that runs a model checks before it enters the queue; see Gradio's `validator=`."""

from collections.abc import Mapping

import gradio as gr

from playground.generate.rate_limits import RateLimiter, TooManyRequests, Visitor, page_visitor, program_visitor
from playground.generate.refusal import Refusal
from playground.generate.request import prompt_problems, settings_problems
from playground.locales import DEFAULT, known_language
from playground.server.context import PageContext

NO_PROMPT = object()
"""For an event that has no prompt of its own."""


def find_problems(
    context: PageContext, language: object, model: object, settings: Mapping[str, object], prompt: object = NO_PROMPT
) -> dict[str, str]:
    """What is wrong with a request, in the page's language, by field: `model`, `prompt` or a setting's name."""
    chosen = known_language(language)
    problems = settings_problems(settings, chosen)
    if prompt is not NO_PROMPT:
        problems |= prompt_problems(prompt, chosen)
    try:
        context.catalogue.check_name(model)
    except Refusal as error:
        problems["model"] = error.tell(chosen)
    return problems


def count_starts(limiter: RateLimiter, visitor: gr.Request, language: object, starts: int = 1) -> dict[str, str]:
    """Count `starts` of this browser; exceeding the limit is reported as a problem of `model`."""
    return _count(limiter, page_visitor(visitor), language, starts)


def _count(limiter: RateLimiter, visitor: Visitor, language: object, starts: int = 1) -> dict[str, str]:
    try:
        limiter.admit(visitor, starts)
    except TooManyRequests as error:
        return {"model": error.tell(known_language(language))}
    return {}


def validation(problems: Mapping[str, str], fields: tuple[str, ...]) -> list[dict]:
    """The return value of a `validator=`: one `gr.validate` for each input of the event, named by `fields`."""
    return [gr.validate(field not in problems, problems.get(field, "")) for field in fields]


def admit_call(limiter: RateLimiter, visitor: gr.Request, inputs: int) -> list[dict]:
    """The validation of a program's call with `inputs` inputs; an exceeded limit is reported for the first.

    The call counts even if it turns out to contain a mistake, and its mistakes are reported by the function itself.
    """
    problems = _count(limiter, program_visitor(visitor), DEFAULT)
    first, *others = map(str, range(inputs))
    return validation({first: problems["model"]} if problems else {}, (first, *others))
