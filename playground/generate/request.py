"""Validation of what visitors request: the page, the HTTP API and the MCP tools all use it.

Gradio checks sliders and choices, but lets NaN, booleans, missing values, fractions and texts of any length through.
`axion.inference.sampling` says what a setting may be at all; the page offers a narrower range, which is checked here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NewType

from transformers import LogitsProcessor

from axion.errors import AxionError
from axion.inference import sampling
from axion.inference.sampling import LEAST_TEMPERATURE, Sampling
from axion.tampering import NOTHING, Tampering, TamperingError, read_tampering
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.questions import is_question_of
from playground.generate.refusal import Refusal, tell
from playground.locales import Language

MAX_PROMPT_CHARACTERS = 8_000
"""Far more than fits any context of the series; the model's own limit is in tokens."""

Prompt = NewType("Prompt", str)
"""A text that passed `check_prompt`."""


@dataclass(frozen=True)
class Limit:
    """The range of a setting on this page, both ends included; `step` is that of its slider."""

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
    "num_loops": Limit(*sampling.LIMITS["num_loops"], 1),
    "seed": Limit(*sampling.LIMITS["seed"], 1),
}


@dataclass(frozen=True)
class Request:
    """A checked request: the model continues the prompt under these settings."""

    model: str
    """Its name in the catalogue."""
    prompt: Prompt
    sampling: Sampling
    forced: tuple[int, ...] = ()
    """The first new tokens, which are given and not drawn: what a branch keeps, and the token that it takes instead."""
    ids: tuple[int, ...] | None = None
    """The prompt as token ids, where a program gave it so; else it is tokenized."""
    processors: tuple[LogitsProcessor, ...] = ()
    """What changes the logits before sampling."""
    tampering: Tampering = NOTHING
    """What is changed in the model while it reads."""
    question: str | None = None
    """What the visitor typed, where the prompt is the form of it that the model was taught."""


def settings_of(chosen: Sampling) -> dict[str, Any]:
    """The settings by name, in the order of LIMITS."""
    return {name: getattr(chosen, name) for name in LIMITS}


DEFAULTS = settings_of(Sampling())


def read_request(catalogue: Catalogue, asked: object) -> Request:
    """Check a whole request, {"model", "prompt", "sampling", "forced", "tampering", "question"}.

    Settings that are left out have their default, and a question that does not become this prompt is left out.

    Raises:
        AxionError: the model's release is broken; anything in the request is wrong, such as a forced token that the
            model does not have. Most mistakes are a Refusal.
    """
    if not isinstance(asked, Mapping) or not isinstance(settings := asked.get("sampling", {}), Mapping):
        raise Refusal("no_request")
    name = catalogue.check_name(asked.get("model"))
    prompt, chosen = check_prompt(asked.get("prompt")), check_settings(DEFAULTS | dict(settings))
    forced, tampering = check_forced(asked.get("forced", ())), read_tampering(asked.get("tampering") or {})
    model = catalogue.open(name)
    try:
        tampering.check(model.release.config)
    except TamperingError as error:
        raise Refusal(error.problem, **error.values) from None
    check_loops(model, chosen)
    vocabulary = model.release.config.vocab_size
    if wrong := [token for token in forced if token >= vocabulary]:
        raise Refusal("no_token", model=name, token=_shorten(wrong[0]), last=vocabulary - 1)
    question = asked.get("question")
    kept = question if question != prompt and is_question_of(model.release, question, prompt) else None
    return Request(name, prompt, chosen, forced, tampering=tampering, question=kept)


def read_typed(model: OpenModel, typed: object, raw: object, language: Language) -> tuple[Prompt, str | None]:
    """The prompt of what was typed, and the question if its form is another text than what was typed.

    Args:
        model: its release knows the form.
        typed: the text.
        raw: whether the model continues exactly this text.
        language: the page's, for a question about a bare sum.

    Raises:
        AxionError: a Refusal where the text is empty or too long, or its chat template rejects the question.
    """
    text = check_prompt(typed)
    if raw is True or not model.release.knows_questions:
        return text, None
    if not text.strip():
        raise Refusal("no_prompt")
    prompt = check_prompt(model.release.prompt_for(text, language))
    return prompt, text if prompt != text else None


def check_prompt(value: object) -> Prompt:
    """The prompt itself. Raises Refusal unless it is text, not empty, not too long, and valid Unicode."""
    if not isinstance(value, str) or not value:
        raise Refusal("no_prompt")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise Refusal("long_prompt", count=len(value), most=MAX_PROMPT_CHARACTERS)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal("broken_prompt") from None
    return Prompt(value)


def check_settings(values: Mapping[str, object]) -> Sampling:
    """Check all settings; `values` holds every name of LIMITS and no other. Raises Refusal on a mistake."""
    if unknown := sorted(set(values) - set(LIMITS), key=str):
        raise Refusal("unknown", name=_shorten(unknown[0]), known=", ".join(LIMITS))
    numbers = {name: _check_number(name, values.get(name)) for name in LIMITS}
    _check_together(numbers)
    return Sampling(**numbers)


def check_loops(model: OpenModel, chosen: Sampling) -> None:
    """Raises Refusal when loops are asked for of a model that has no layers to loop."""
    if chosen.num_loops > 1 and not model.facts.is_looped:
        raise Refusal("loops", name="num_loops", model=model.name, value=chosen.num_loops)


def check_forced(value: object) -> tuple[int, ...]:
    """The forced tokens. Raises Refusal unless they are a list of ids, not too long."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not all(map(_is_id, value)):
        raise Refusal("forced")
    if len(value) > (most := int(LIMITS["max_new_tokens"].high)):
        raise Refusal("long_forced", count=len(value), most=most)
    return tuple(value)


def prompt_problems(prompt: object, language: Language) -> dict[str, str]:
    """{"prompt": what is wrong with it}; empty when nothing is."""
    return _problems({"prompt": lambda: check_prompt(prompt)}, language)


def settings_problems(values: Mapping[str, object], language: Language) -> dict[str, str]:
    """What is wrong, by the name of the setting; empty when nothing is."""

    def check(name: str) -> Callable[[], object]:
        return lambda: _check_number(name, values.get(name))

    problems = _problems({name: check(name) for name in LIMITS}, language)
    if not problems:
        try:
            _check_together(values)
        except Refusal as error:
            problems[str(error.values["name"])] = error.tell(language)
    return problems


def _problems(checks: Mapping[str, Callable[[], object]], language: Language) -> dict[str, str]:
    problems = {}
    for name, check in checks.items():
        try:
            check()
        except AxionError as error:
            problems[name] = tell(error, language)
    return problems


def read_example(trace: Mapping[str, Any] | None) -> tuple[Prompt, Sampling] | None:
    """A recorded example's prompt and settings, with which Generate repeats it.

    None without an example, or where the page does not offer its settings.
    """
    if trace is None:
        return None
    recorded = {name: trace["sampling"].get(name, DEFAULTS[name]) for name in LIMITS}
    try:
        return check_prompt(trace["prompt"]), check_settings(recorded)
    except Refusal:
        return None


def _check_number(name: str, value: object) -> Any:
    """The value of a setting, an int where it must be whole. Raises Refusal unless the page offers it."""
    limit, whole = LIMITS[name], isinstance(sampling.LIMITS[name][0], int)
    try:
        checked = sampling.check_setting(name, value)
    except AxionError:
        checked = None
    if checked is None or not limit.low <= checked <= limit.high:
        kind = "whole_number" if whole else "a_number"
        raise Refusal("number", name=name, kind=kind, low=limit.low, high=limit.high, value=_shorten(value))
    return checked


def _check_together(values: Mapping[str, Any]) -> None:
    """What `Sampling` requires beyond ranges, of numbers that are each in range. Raises Refusal."""
    least, most, temperature = (values[name] for name in ("min_new_tokens", "max_new_tokens", "temperature"))
    if least > most:
        raise Refusal("minimum", name="min_new_tokens", least=int(least), most=int(most))
    if 0 < temperature < LEAST_TEMPERATURE:
        raise Refusal("temperature", name="temperature", value=_shorten(temperature), low=LEAST_TEMPERATURE)


def _is_id(token: object) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and token >= 0


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
