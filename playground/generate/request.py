"""The one validation of what visitors ask for; whatever faces them calls it before the model works.

Gradio checks sliders and choices, but lets NaN, booleans, missing values, fractions and texts of any length through.
What a number must be is `Sampling`'s to say; the page offers a narrower range of each, and that is checked here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from axion.errors import AxionError
from axion.inference import sampling
from axion.inference.sampling import LEAST_TEMPERATURE, Sampling
from playground.locales import DEFAULT, Language
from playground.locales.errors import TEXT

MAX_PROMPT_CHARACTERS = 8_000  # far over what any context of the series holds; the model's own limit is in tokens


class Refusal(AxionError):
    """A mistake of a visitor's, which can be told in every language of the page; by itself it speaks English.

    `mistake` names it in `playground.locales.errors`, `values` is what is filled in there.
    """

    def __init__(self, mistake: str, **values: object) -> None:
        self.mistake, self.values = mistake, values
        super().__init__(self.tell(DEFAULT))

    def tell(self, language: Language) -> str:
        """The mistake in one line."""
        return TEXT[language][self.mistake].format(**self._words(TEXT[language]))

    def _words(self, table: Mapping[str, str]) -> dict[str, object]:
        """The values; one that is itself the name of a word becomes that word."""
        return self.values | ({"kind": table[self.values["kind"]]} if "kind" in self.values else {})


def tell(error: AxionError, language: Language) -> str:
    """The error in the language, where it has words in it; else in its own."""
    return error.tell(language) if isinstance(error, Refusal) else str(error)


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
    "seed": Limit(*sampling.LIMITS["seed"], 1),
}


@dataclass(frozen=True)
class Request:
    """A checked wish: continue `prompt` under `sampling`, with the tokens `forced` first."""

    prompt: str
    sampling: Sampling
    forced: tuple[int, ...] = ()
    """What a branch keeps of the text that it branches from, and the token that it takes instead."""


def check_prompt(value: object) -> str:
    """The prompt itself. Raises Refusal unless it is text, not empty, of a sane length and encodable."""
    if not isinstance(value, str) or not value:
        raise Refusal("no_prompt")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise Refusal("long_prompt", count=len(value), most=MAX_PROMPT_CHARACTERS)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal("broken_prompt") from None
    return value


def check_number(name: str, value: object) -> int | float:
    """The value of setting `name`, an int where it must be whole. Raises Refusal unless the page offers it."""
    limit, whole = LIMITS[name], isinstance(sampling.LIMITS[name][0], int)
    try:
        checked = sampling.check_setting(name, value)
    except AxionError:
        checked = None
    if checked is None or not limit.low <= checked <= limit.high:
        kind = "whole_number" if whole else "a_number"
        raise Refusal("number", name=name, kind=kind, low=limit.low, high=limit.high, value=_short(value))
    return checked


def check_forced(value: object) -> tuple[int, ...]:
    """The forced tokens. Raises Refusal unless it is a list of few enough ids; which ones there are, the model says."""
    whole = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not whole or not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in value):
        raise Refusal("forced")
    if len(value) > (most := LIMITS["max_new_tokens"].high):
        raise Refusal("long_forced", count=len(value), most=most)
    return tuple(value)


def find_problems(prompt: object, settings: Mapping[str, object], language: Language = DEFAULT) -> dict[str, str]:
    """What is wrong, by field (`prompt` or a setting's name); empty when all is well."""
    problems = {}
    checks = [("prompt", lambda: check_prompt(prompt))]
    checks += [(name, lambda name=name: check_number(name, settings.get(name))) for name in LIMITS]
    for name, check in checks:
        try:
            check()
        except AxionError as error:
            problems[name] = tell(error, language)
    if not problems:
        try:
            _check_together(settings)
        except Refusal as error:
            problems[error.values["name"]] = error.tell(language)
    return problems


def read_request(prompt: object, settings: Mapping[str, object], forced: object = ()) -> Request:
    """Check a whole wish; `settings` holds every name of LIMITS and no other. Raises Refusal on a mistake."""
    if unknown := sorted(set(settings) - set(LIMITS), key=str):
        raise Refusal("unknown", name=_short(unknown[0]), known=", ".join(LIMITS))
    numbers = {name: check_number(name, settings.get(name)) for name in LIMITS}
    _check_together(numbers)
    return Request(check_prompt(prompt), Sampling(**numbers), check_forced(forced))


def _check_together(settings: Mapping[str, object]) -> None:
    """What `Sampling` asks beyond ranges, of numbers that are each in theirs. Raises Refusal."""
    least, most, temperature = (settings[name] for name in ("min_new_tokens", "max_new_tokens", "temperature"))
    if least > most:
        raise Refusal("minimum", name="min_new_tokens", least=int(least), most=int(most))
    if 0 < temperature < LEAST_TEMPERATURE:
        raise Refusal("temperature", name="temperature", value=_short(temperature), low=LEAST_TEMPERATURE)


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
