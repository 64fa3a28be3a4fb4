"""What a client of the OpenAI-style interface may ask for: from the bytes of a request to a checked wish, or an error.

Nothing here knows of a server or runs a model. `playground.generate.request` validates the numbers, for the page and
this interface alike; here are the names, the defaults and the errors that OpenAI's clients know.
"""

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from axion.errors import AxionError
from axion.kernels.decoder import ALTERNATIVES
from playground.generate.chat import check_messages
from playground.generate.request import LIMITS, Refusal, check_prompt, read_request

Kind = Literal["completion", "chat"]

MAX_STOPS = 4
MAX_STOP_CHARACTERS = 200
COMPLETION_TOKENS = 16
"""New tokens of a completion that names no number, as OpenAI has it; a chat then gets the most."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "metadata": ({},),
}
"""OpenAI's parameters that nothing here can do, and the values that ask for nothing."""

SETTINGS = {  # ours → the client's
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "min_new_tokens": "min_tokens",
    "seed": "seed",
}
LENGTHS = ("max_tokens", "max_completion_tokens")
"""Two names of one number."""

SHARED = {"model", "stream", "stream_options", "stop", "logprobs", "routing", "user", *LENGTHS, *SETTINGS.values()}
PARAMETERS: dict[Kind, set[str]] = {
    "completion": SHARED | {"prompt", "echo"},
    "chat": SHARED | {"messages", "top_logprobs"},
}


class ApiError(Exception):
    """An answer other than 200, in OpenAI's shape; whatever it says, the client may read."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    @property
    def body(self) -> dict:
        """The JSON body."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Wish:
    """A checked request. What depends on the model, such as the length of its context, is not yet checked."""

    kind: Kind
    model: str
    text: str | None
    """The prompt of a completion."""
    messages: list | None
    """The conversation of a chat."""
    settings: dict[str, int | float]
    """Of `playground.generate.request.LIMITS`, complete and in range."""
    stops: tuple[str, ...] = ()
    top: int | None = None
    """So many alternatives stand beside each token's log probability; None for no log probabilities at all."""
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    routing: bool = False


def refuse(message: str, param: str | None = None, code: str | None = None) -> NoReturn:
    """Answer 400."""
    raise ApiError(400, message, param, code)


def parse_json(body: bytes) -> dict:
    """The JSON object. Raises ApiError for anything else, and for what JSON or Unicode don't have (NaN, half pairs)."""
    try:
        parsed = json.loads(body.decode(), parse_constant=_no_number, parse_float=_finite)
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        refuse("the body holds half of a character (a lone surrogate); send whole Unicode text")
    except UnicodeDecodeError:
        refuse("the body is not UTF-8")
    except RecursionError:
        refuse("the body is nested too deeply")
    except ValueError as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError | _NoNumber) else "a number in it is too long"
        refuse(f"the body is not valid JSON: {reason}")
    if not isinstance(parsed, dict):
        refuse("the body must be one JSON object")
    return parsed


class _NoNumber(ValueError):
    pass


def _no_number(name: str) -> NoReturn:
    raise _NoNumber(f"it has no {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NoNumber(f"{short(text)} is too large for a number")
    return number


def read_wish(kind: Kind, body: Mapping[str, object], draw_seed: Callable[[], int] | None = None) -> Wish:
    """Check everything in a body that can be checked without the model. null stands for "not given".

    Args:
        draw_seed: gives the seed of a request that names none.

    Raises:
        ApiError: 400, with the parameter's name.
    """
    given = {name: value for name, value in body.items() if value is not None}
    _check_names(kind, given)
    model = given.get("model")
    if not isinstance(model, str):
        refuse("model must be the name of a model; /v1/models lists them", "model")
    stream = _flag(given, "stream")
    wish = Wish(
        kind=kind,
        model=model,
        text=_read_prompt(given.get("prompt")) if kind == "completion" else None,
        messages=_read_messages(given.get("messages")) if kind == "chat" else None,
        settings=_read_settings(kind, given, draw_seed or _random_seed),
        stops=_read_stops(given.get("stop", ())),
        top=_read_top(kind, given),
        echo=_flag(given, "echo"),
        stream=stream,
        include_usage=_read_include_usage(given.get("stream_options"), stream),
        routing=_flag(given, "routing"),
    )
    if not isinstance(given.get("user", ""), str):
        refuse("user must be text", "user")
    return wish


def short(value: object) -> str:
    """The value for a message: not longer than a line."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _check_names(kind: Kind, given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if name in NEUTRAL:
            if not any(_same(value, neutral) for neutral in NEUTRAL[name]):
                values = " or ".join(map(json.dumps, NEUTRAL[name]))
                problem = f"{name} must be {values} here" if values else f"{name} is not supported here"
                refuse(f"{problem}; leave it out", name, "unsupported_parameter")
        elif name not in PARAMETERS[kind]:
            known = ", ".join(sorted(PARAMETERS[kind]))
            refuse(f"unknown parameter {short(name)}; there are {known}", short(name), "unknown_parameter")


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _flag(given: Mapping[str, object], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        refuse(f"{name} must be true or false, not {short(value)}", name)
    return value


def _read_prompt(value: object) -> str:
    if isinstance(value, list):
        if len(value) != 1:
            refuse(f"prompt must be one text, or a list of one; not a list of {len(value)}", "prompt")
        value = value[0]
    try:
        return check_prompt(value)
    except AxionError as error:
        refuse(str(error), "prompt")


def _read_messages(value: object) -> list:
    try:
        check_messages(value)
    except AxionError as error:
        refuse(str(error), "messages")
    return value


def _random_seed() -> int:
    return secrets.randbelow(int(LIMITS["seed"].high) + 1)


def _read_settings(kind: Kind, given: Mapping[str, object], draw_seed: Callable[[], int]) -> dict[str, int | float]:
    lengths = {name: given[name] for name in LENGTHS if name in given}
    if len(lengths) == 2 and not _same(*lengths.values()):
        refuse("max_tokens and max_completion_tokens are two names of one number; give one of them", "max_tokens")
    names = SETTINGS | {"max_new_tokens": next(iter(lengths), "max_tokens")}
    default = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    default["min_new_tokens"] = 0
    default["max_new_tokens"] = COMPLETION_TOKENS if kind == "completion" else int(LIMITS["max_new_tokens"].high)
    settings = {ours: given.get(theirs, default.get(ours)) for ours, theirs in names.items()}
    if "seed" not in given:
        settings["seed"] = draw_seed()
    try:
        sampling = read_request("-", settings).sampling
    except Refusal as error:
        message = str(error)
        for ours in ("max_new_tokens", "min_new_tokens"):
            message = message.replace(ours, names[ours])
        refuse(message, names.get(error.values.get("name")))
    return {name: getattr(sampling, name) for name in settings}


def _read_stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or len(stops) > MAX_STOPS:
        refuse(f"stop must be a text or a list of at most {MAX_STOPS}", "stop")
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            refuse(f"each stop must be a text of 1 to {MAX_STOP_CHARACTERS} characters", "stop")
    return tuple(stops)


def _read_top(kind: Kind, given: Mapping[str, object]) -> int | None:
    name = "logprobs" if kind == "completion" else "top_logprobs"
    if kind == "chat" and not _flag(given, "logprobs"):
        if name in given:
            refuse("top_logprobs needs logprobs: true", name)
        return None
    top = given.get(name, None if kind == "completion" else 0)
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= ALTERNATIVES):
        refuse(f"{name} must be a whole number from 0 to {ALTERNATIVES} here, not {short(top)}", name)
    return top


def _read_include_usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        refuse("stream_options needs stream: true", "stream_options")
    if not isinstance(options, dict) or not options.keys() <= {"include_usage"}:
        refuse("stream_options must be an object with nothing but include_usage", "stream_options")
    given = {name: value for name, value in options.items() if value is not None}
    return _flag(given, "include_usage")
