"""Requests of the OpenAI-compatible API: from the bytes of a body to a checked request, or an error.

Nothing here needs a server or runs a model. `playground.generate.request` validates prompts and settings for the page
and for this API alike; this module adds the names, defaults and errors that OpenAI's clients expect.
"""

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from axion.errors import AxionError
from axion.inference.sampling import Sampling
from axion.kernels.dimensions import ALTERNATIVES
from axion.tampering import NAMES, NOTHING, Tampering, read_tampering
from playground.generate.chat import check_messages
from playground.generate.refusal import Refusal
from playground.generate.request import DEFAULTS, LIMITS, Prompt, check_prompt, check_settings

Kind = Literal["completion", "chat"]

MAX_CHOICES = 128
"""Of one request: texts that are generated for all of its prompts together."""
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 200
COMPLETION_TOKENS = 16
"""Default max_tokens of a completion, as at OpenAI; a chat's default is the highest value."""

PENALTIES = ("presence_penalty", "frequency_penalty")
MOST_PENALTY, MOST_BIAS = 2, 100
"""The largest absolute values of a penalty and of a number in logit_bias, as at OpenAI."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "suffix": ("",),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
"""OpenAI's parameters that are not supported here, and the values that change nothing and are accepted."""

IGNORED = {
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
}
"""OpenAI's parameters that mean nothing to these models, or to a server without accounts; any value is accepted."""

SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "min_new_tokens": "min_tokens",
    "num_loops": "num_loops",
    "seed": "seed",
}
"""A setting's name → its parameter; `max_new_tokens` has two, see LENGTHS."""
LENGTHS = ("max_tokens", "max_completion_tokens")
"""Two names for one parameter."""
PARAMETER_NAMES = SETTINGS | {"max_new_tokens": LENGTHS[0]}
"""Every setting's name → its parameter."""

SHARED = {"model", "n", "stream", "stream_options", "stop", "logprobs", "logit_bias", "response_format", "routing"}
SHARED |= {*PENALTIES, *LENGTHS, *SETTINGS.values(), *NAMES}
PARAMETERS: dict[Kind, set[str]] = {
    "completion": SHARED | {"prompt", "echo", "best_of"},
    "chat": SHARED | {"messages", "top_logprobs"},
}


class ApiError(Exception):
    """A response other than 200, in OpenAI's form. The client sees its message."""

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
class CompletionRequest:
    """A checked body. What depends on the model, such as the length of its context, is not checked yet."""

    kind: Kind
    model: str
    prompts: tuple[Prompt | tuple[int, ...], ...]
    """Texts, or token ids; empty for a chat."""
    messages: list[dict[str, Any]]
    """The conversation of a chat; empty for a completion."""
    sampling: Sampling
    """Choice number k of a prompt, from 0, takes the seed plus k."""
    generates: bool = True
    """False where no token is asked for (max_tokens: 0)."""
    n: int = 1
    """Choices for each prompt."""
    best_of: int = 1
    """Texts that are generated for each prompt; the `n` most probable ones are its choices."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    json_mode: bool = False
    """Whether each text has to be one JSON object."""
    stops: tuple[str, ...] = ()
    top: int | None = None
    """How many alternatives to list with each token's log probability; None for no log probabilities."""
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    routing: bool = False
    tampering: Tampering = NOTHING

    @property
    def generations(self) -> int:
        """How many texts are generated for all prompts together."""
        return max(1, len(self.prompts)) * self.best_of


def refuse(message: str, param: str | None = None, code: str | None = None) -> NoReturn:
    """Respond with 400."""
    raise ApiError(400, message, param, code)


def parse_json(body: bytes) -> dict:
    """The JSON object. Raises ApiError for anything else, and for NaN, infinite numbers and lone surrogates."""
    try:
        parsed = json.loads(body.decode(), parse_constant=_no_number, parse_float=_finite)
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        refuse("the body contains a lone surrogate; send valid Unicode text")
    except UnicodeDecodeError:
        refuse("the body is not UTF-8")
    except RecursionError:
        refuse("the body is nested too deeply")
    except ValueError as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError | _NoNumber) else "a number is too long"
        refuse(f"the body is not valid JSON: {reason}")
    if not isinstance(parsed, dict):
        refuse("the body must be one JSON object")
    return parsed


class _NoNumber(ValueError):
    pass


def _no_number(name: str) -> NoReturn:
    raise _NoNumber(f"JSON has no {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NoNumber(f"{shorten(text)} is too large for a number")
    return number


def read_body(kind: Kind, body: Mapping[str, object], draw_seed: Callable[[], int] | None = None) -> CompletionRequest:
    """Check everything in a body that can be checked without the model. null means "not given".

    Args:
        draw_seed: returns the seed of a request that gives none.

    Raises:
        ApiError: 400, with the name of the parameter.
    """
    given = {name: value for name, value in body.items() if value is not None}
    _check_names(kind, given)
    model = given.get("model")
    if not isinstance(model, str):
        refuse("model must be the name of a model; /v1/models lists them", "model")
    stream = _flag(given, "stream")
    n = _read_count(given, "n", 1)
    request = CompletionRequest(
        kind=kind,
        model=model,
        prompts=_read_prompts(given.get("prompt")) if kind == "completion" else (),
        messages=_read_messages(given.get("messages")) if kind == "chat" else [],
        sampling=_read_sampling(kind, given, draw_seed or _random_seed),
        generates=kind == "chat" or not any(_same(given.get(name), 0) for name in LENGTHS),
        n=n,
        best_of=_read_count(given, "best_of", n),
        presence_penalty=_read_penalty(given, "presence_penalty"),
        frequency_penalty=_read_penalty(given, "frequency_penalty"),
        logit_bias=_read_bias(given.get("logit_bias", {})),
        json_mode=_read_format(given.get("response_format", {"type": "text"})),
        stops=_read_stops(given.get("stop", ())),
        top=_read_top(kind, given),
        echo=_flag(given, "echo"),
        stream=stream,
        include_usage=_read_include_usage(given.get("stream_options"), stream),
        routing=_flag(given, "routing"),
        tampering=_read_tampering(given),
    )
    if request.best_of < n or (stream and request.best_of > n):
        refuse("best_of must be at least n, and equal to n for a stream", "best_of")
    if request.json_mode and request.sampling.min_new_tokens:
        refuse("min_tokens cannot be combined with a JSON object, which ends the text", "min_tokens")
    if request.generations > MAX_CHOICES:
        many = "prompt" if len(request.prompts) > 1 else "n"
        refuse(f"{many} asks for {request.generations} texts; the limit is {MAX_CHOICES}", many)
    return request


def shorten(value: object) -> str:
    """The value, at most 60 characters of it, for an error message."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _check_names(kind: Kind, given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if name in NEUTRAL:
            if not any(_same(value, neutral) for neutral in NEUTRAL[name]):
                values = " or ".join(map(json.dumps, NEUTRAL[name]))
                problem = f"only {values} is supported for {name}" if values else f"{name} is not supported"
                refuse(f"{problem}; leave it out", name, "unsupported_parameter")
        elif name not in PARAMETERS[kind] | IGNORED:
            known = ", ".join(sorted(PARAMETERS[kind]))
            refuse(f"unknown parameter {shorten(name)}; the parameters are {known}", shorten(name), "unknown_parameter")


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _flag(given: Mapping[str, object], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        refuse(f"{name} must be true or false, not {shorten(value)}", name)
    return value


def _read_prompts(value: object) -> tuple[Prompt | tuple[int, ...], ...]:
    """One text, one list of token ids, or a list of such prompts."""
    if isinstance(value, list) and value and not _is_token(value[0]):
        return tuple(map(_read_prompt, value))
    return (_read_prompt(value),)


def _read_prompt(value: object) -> Prompt | tuple[int, ...]:
    if isinstance(value, list):
        if not value or not all(map(_is_token, value)):
            refuse("prompt must be a text, a list of token ids, or a list of these, and none of them empty", "prompt")
        return tuple(value)
    try:
        return check_prompt(value)
    except AxionError as error:
        refuse(str(error), "prompt")


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read_messages(value: Any) -> list[dict[str, Any]]:
    messages: Any = list(map(_plain_message, value)) if isinstance(value, list) else value
    try:
        check_messages(messages)
    except AxionError as error:
        refuse(str(error), "messages")
    return messages


def _plain_message(message: object) -> object:
    """The message with its content as one text, and a developer's as the system's; what is malformed stays."""
    if not isinstance(message, dict):
        return message
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            refuse("the parts of a message's content must be of the type text", "messages", "unsupported_parameter")
        texts = [part.get("text") for part in content]
        content = "\n".join(texts) if all(isinstance(text, str) for text in texts) else None
    return {"role": "system" if role == "developer" else role, "content": content}


def _random_seed() -> int:
    return secrets.randbelow(int(LIMITS["seed"].high) + 1)


def _read_sampling(kind: Kind, given: Mapping[str, object], draw_seed: Callable[[], int]) -> Sampling:
    lengths = {name: given[name] for name in LENGTHS if name in given}
    if len(lengths) == 2 and not _same(*lengths.values()):
        refuse("max_tokens and max_completion_tokens mean the same; give one of them", "max_tokens")
    names = SETTINGS | {"max_new_tokens": next(iter(lengths), "max_tokens")}
    length = COMPLETION_TOKENS if kind == "completion" else int(LIMITS["max_new_tokens"].high)
    default = DEFAULTS | {"temperature": 1.0, "max_new_tokens": length}  # as at OpenAI
    settings = {ours: given.get(theirs, default[ours]) for ours, theirs in names.items()}
    settings["max_new_tokens"] = _clamp_length(kind, settings["max_new_tokens"])
    if "seed" not in given:
        settings["seed"] = draw_seed()
    try:
        return check_settings(settings)
    except Refusal as error:
        message = str(error)
        for ours in ("max_new_tokens", "min_new_tokens"):
            message = message.replace(ours, names[ours])
        refuse(message, names.get(str(error.values.get("name"))))


def _clamp_length(kind: Kind, length: object) -> object:
    """Lengths above the limit count as the limit; a completion may ask for 0 tokens, to score its prompt."""
    limit = LIMITS["max_new_tokens"]
    if isinstance(length, int | float) and not isinstance(length, bool):
        if length > limit.high:
            return int(limit.high)
        if length == 0 and kind == "completion":
            return int(limit.low)
    return length


def _read_tampering(given: Mapping[str, object]) -> Tampering:
    """Name by name, so that the error can say which one is wrong."""
    for name in NAMES:
        try:
            read_tampering({name: given.get(name)})
        except AxionError as error:
            refuse(str(error), name)
    return read_tampering({name: given.get(name) for name in NAMES})


def _read_count(given: Mapping[str, object], name: str, default: int) -> int:
    count = given.get(name, default)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_CHOICES:
        refuse(f"{name} must be a whole number from 1 to {MAX_CHOICES}, not {shorten(count)}", name)
    return count


def _read_penalty(given: Mapping[str, object], name: str) -> float:
    return _check_number(given.get(name, 0), name, name, MOST_PENALTY)


def _read_bias(value: object) -> dict[int, float]:
    if not isinstance(value, dict) or not all(token.isdecimal() and len(token) < 10 for token in value):
        refuse('logit_bias must be an object of token ids and numbers, such as {"17": -100}', "logit_bias")
    return {
        int(token): _check_number(bias, f"the bias of token {token} in logit_bias", "logit_bias", MOST_BIAS)
        for token, bias in value.items()
    }


def _read_format(value: object) -> bool:
    if value not in ({"type": "text"}, {"type": "json_object"}):
        known = '{"type": "text"} or {"type": "json_object"}'
        refuse(f"response_format must be {known}, not {shorten(value)}", "response_format", "unsupported_parameter")
    return value == {"type": "json_object"}


def _check_number(value: object, what: str, param: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        refuse(f"{what} must be a number from {-most} to {most}, not {shorten(value)}", param)
    return float(value)


def _read_stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or len(stops) > MAX_STOPS:
        refuse(f"stop must be a string or a list of at most {MAX_STOPS} strings", "stop")
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            refuse(f"each stop must be a string of 1 to {MAX_STOP_CHARACTERS} characters", "stop")
    return tuple(stops)


def _read_top(kind: Kind, given: Mapping[str, object]) -> int | None:
    name = "logprobs" if kind == "completion" else "top_logprobs"
    if kind == "chat" and not _flag(given, "logprobs"):
        if name in given:
            refuse("top_logprobs needs logprobs: true", name)
        return None
    top = given.get(name, None if kind == "completion" else 0)
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= ALTERNATIVES):
        refuse(f"{name} must be a whole number from 0 to {ALTERNATIVES}, not {shorten(top)}", name)
    return top


def _read_include_usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        refuse("stream_options needs stream: true", "stream_options")
    if not isinstance(options, dict) or not options.keys() <= {"include_usage", "include_obfuscation"}:
        refuse("stream_options must be an object; its one option here is include_usage", "stream_options")
    given = {name: value for name, value in options.items() if value is not None}
    return _flag(given, "include_usage")
