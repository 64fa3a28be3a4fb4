"""The one validation of what visitors ask for; whatever faces them calls it before the model works.

Gradio checks sliders and choices, but lets NaN, booleans, missing values, fractions and texts of any length through.
What a number must be is `Sampling`'s to say; the page offers a narrower range of each, and that is checked here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from axion import generation
from axion.errors import AxionError
from axion.generation import Sampling

MAX_PROMPT_CHARACTERS = 8_000  # far over what any context of the series holds; the model's own limit is in tokens


@dataclass(frozen=True)
class Limit:
    """The range of one setting that the page offers, both ends included; `step` is that of its slider."""

    low: float
    high: float
    step: float


LIMITS = {
    "temperature": Limit(0, 2, 0.05),
    "top_k": Limit(0, 200, 1),
    "top_p": Limit(0.05, 1, 0.01),
    "min_p": Limit(0, 0.5, 0.01),
    "repetition_penalty": Limit(1, 2, 0.05),
    "max_new_tokens": Limit(1, 512, 1),
    "min_new_tokens": Limit(0, 512, 1),
    "seed": Limit(*generation.LIMITS["seed"], 1),
}


@dataclass(frozen=True)
class Request:
    """A checked wish: continue `prompt` under `sampling`, with the tokens `forced` first."""

    prompt: str
    sampling: Sampling
    forced: tuple[int, ...] = ()
    """What a branch keeps of the text that it branches from, and the token that it takes instead."""


def check_prompt(value: object) -> str:
    """The prompt itself. Raises AxionError unless it is text, not empty, of a sane length and encodable."""
    if not isinstance(value, str) or not value:
        raise AxionError("the prompt is empty; write something for the model to continue")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise AxionError(f"the prompt has {len(value):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are taken")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise AxionError("the prompt holds half of a character (a lone surrogate); send whole Unicode text") from None
    return value


def check_number(name: str, value: object) -> int | float:
    """The value of setting `name`, an int where it must be whole. Raises AxionError unless the page offers it."""
    checked = getattr(Sampling(**{name: value}), name)
    limit = LIMITS[name]
    if not limit.low <= checked <= limit.high:
        raise AxionError(f"{name} must be from {limit.low:g} to {limit.high:.15g} here, not {_short(value)}")
    return checked


def check_forced(value: object) -> tuple[int, ...]:
    """The forced tokens. Raises AxionError unless it is a list of few enough token ids; which ids is the model's."""
    whole = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not whole or not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in value):
        raise AxionError("forced must be a list of token ids, whole numbers of at least 0")
    if len(value) > (most := LIMITS["max_new_tokens"].high):
        raise AxionError(f"forced holds {len(value):,} tokens; at most {most:,} are taken")
    return tuple(value)


def find_problems(prompt: object, settings: Mapping[str, object]) -> dict[str, str]:
    """What is wrong, by field (`prompt` or a setting's name); empty when all is well."""
    problems = {}
    checks = [("prompt", lambda: check_prompt(prompt))]
    checks += [(name, lambda name=name: check_number(name, settings.get(name))) for name in LIMITS]
    for name, check in checks:
        try:
            check()
        except AxionError as error:
            problems[name] = str(error)
    if not problems:  # each is right by itself; do they go together?
        try:
            read_request(prompt, settings)
        except AxionError as error:
            problems["min_new_tokens"] = str(error)
    return problems


def read_request(prompt: object, settings: Mapping[str, object], forced: object = ()) -> Request:
    """Check a whole wish; `settings` holds every name of LIMITS and no other. Raises AxionError on a mistake."""
    if unknown := sorted(set(settings) - set(LIMITS)):
        raise AxionError(f"unknown setting {_short(unknown[0])}; the settings are {', '.join(LIMITS)}")
    numbers = {name: check_number(name, settings.get(name)) for name in LIMITS}
    return Request(check_prompt(prompt), Sampling(**numbers), check_forced(forced))


def starting_values(trace: Mapping | None) -> dict[str, object]:
    """What the controls show first: the recorded example's own prompt and settings, so that Generate repeats it.

    Without an example, or with one whose settings the page does not offer, the defaults of `Sampling`.
    """
    fallback = {name: value for name, value in asdict(Sampling()).items() if name in LIMITS}
    if trace is None:
        return {"prompt": None, **fallback}
    recorded = {name: trace["sampling"].get(name, fallback[name]) for name in LIMITS}
    if find_problems(trace["prompt"], recorded):
        return {"prompt": None, **fallback}
    return {"prompt": trace["prompt"], **recorded}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
