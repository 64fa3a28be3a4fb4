"""Responses of the OpenAI-compatible API, from the events of a generation; no server is needed.

An `Answer` follows the events of one generation, cuts the text at a stop string and counts tokens; what is ready comes
as `Part`s, which a `Response` puts into OpenAI's form.
"""

import math
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from playground.api.logits import Score
from playground.api.requests import CompletionRequest, Kind

LEAST_LOGPROB = -9999.0
"""In place of the logarithm of 0, which JSON has no number for; the same value as at OpenAI."""

FINISH = {"eos": "stop", "stop": "stop", "length": "length", "context": "length", "time": "length"}
"""Why the text ended → OpenAI's finish_reason."""

ROUTING_HEAD = (
    *("layers", "rows", "first_layer", "experts", "experts_per_token", "shared_experts", "bias"),
    "tampering",
)


@dataclass
class Delta:
    """What a batch of events made ready: text, and the `step` events of the tokens that lie completely in it."""

    text: str = ""
    steps: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, other: "Delta") -> None:
        """Append what became ready later."""
        self.text += other.text
        self.steps += other.steps


class StopCut:
    """Cuts a text that arrives in pieces before the first stop string that is completed.

    The result does not depend on where the pieces end: text that may still become a stop string is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """The text that is ready now."""
        self._held += piece
        matches = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if matches:
            self.found = True
            return self._release(min(matches)[1], keep=False)
        unsure = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        return self._release(len(self._held) - unsure)

    def rest(self) -> str:
        """The text that was held back, when nothing follows."""
        return self._release(len(self._held))

    def _release(self, end: int, keep: bool = True) -> str:
        ready, self._held = self._held[:end], self._held[end:] if keep else ""
        return ready


def _overlap(text: str, stop: str) -> int:
    """The length of the longest suffix of `text` that is a prefix of `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


class Answer:
    """Follows one generation, event by event."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.new_tokens = 0
        self.ended_by: str | None = None
        self.limit: float | None = None
        """The server's time limit in seconds, where that ended the text."""
        self._cut = StopCut(stops)
        self._logprob = 0.0  # of all new tokens together
        self._fed = self._ready = 0  # characters that the model has written, and those that are ready
        self._waiting: list[tuple[int, int, Mapping[str, Any]]] = []  # incomplete tokens: first character, end, event

    def take(self, event: Mapping[str, Any]) -> Delta:
        """What an event after the start makes ready; call it until `ended_by` is set."""
        if event["kind"] == "end":
            self.ended_by, self.limit = event["reason"], event.get("limit")
            return self._deliver(self._cut.rest())
        if event["kind"] == "end_token":
            self._waiting.append((self._fed, self._fed, event))
            return Delta()
        if event["prompt"]:
            return Delta(steps=[event])
        self.new_tokens += 1
        self._logprob += _logprob(event["p"])
        end = self._fed + len(event["t"])
        self._waiting.append((self._fed, end, event))
        self._fed = end
        ready = self._cut.feed(event["t"])
        if self._cut.found:
            self.ended_by = "stop"
        return self._deliver(ready)

    def _deliver(self, text: str) -> Delta:
        self._ready += len(text)
        # A token without text is part of a character that a later token completes; they go together.
        whole = [self.ended_by is not None or start < self._ready >= end for start, end, _ in self._waiting]
        count = whole.index(False) if False in whole else len(whole)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        if self.ended_by == "stop":  # tokens of the stop string alone are left out
            taken = [token for token in taken if token[0] < self._ready]
        return Delta(text, [event for _, _, event in taken])

    @property
    def mean_logprob(self) -> float:
        """Of the new tokens."""
        return self._logprob / max(1, self.new_tokens)

    @property
    def ending(self) -> dict[str, Any] | None:
        """finish_reason, and the exact reason: eos, stop, length, context (it is full) or time (with the limit)."""
        if self.ended_by is None:
            return None
        ending = {"finish_reason": FINISH[self.ended_by], "ended_by": self.ended_by}
        return ending if self.limit is None else ending | {"time_limit_seconds": self.limit}


@dataclass
class Part:
    """What became ready of one choice. The first part of each choice has its `start` event, the last its ending."""

    index: int
    delta: Delta
    start: Mapping[str, Any] | None = None
    ending: Mapping[str, Any] | None = None

    def add(self, later: "Part") -> None:
        """Append the next part of the same choice."""
        self.delta.add(later.delta)
        self.ending = later.ending


@dataclass(frozen=True)
class Usage:
    """Tokens of all prompts, and all that were generated: also those of a stop string, and of texts not returned."""

    prompt_tokens: int
    completion_tokens: int

    def to_json(self) -> dict[str, int]:
        """OpenAI's form."""
        return vars(self) | {"total_tokens": self.prompt_tokens + self.completion_tokens}


class Choice:
    """Writes one choice of a response in OpenAI's form, from its parts in order."""

    def __init__(self, request: CompletionRequest, first: Part) -> None:
        assert first.start is not None, "the first part has the start event"
        self.request, self.start, self.index = request, first.start, first.index

    def whole(self, part: Part) -> dict:
        """The whole choice."""
        content = self._content(part.delta, True)
        return {"index": self.index, **content, **(part.ending or {}), **self._routing(part)}

    def chunks(self, part: Part) -> Iterator[dict]:
        """The chunks of a stream for this part; none where it would tell the client nothing."""
        first, delta = part.start is not None, part.delta
        if first or delta.text or (delta.steps and (self.request.routing or self.request.top is not None)):
            content = self._content(delta, first, chunk=True)
            yield {"index": self.index, **content, "finish_reason": None, **self._routing(part)}
        if part.ending:
            yield {"index": self.index, **self._content(Delta(), False, chunk=True, last=True), **part.ending}

    def _routing(self, part: Part) -> dict:
        """The field "routing" where it was asked for: the steps, and in the first part what holds for all tokens."""
        if not self.request.routing:
            return {}
        head = {name: self.start[name] for name in ROUTING_HEAD} if part.start else {}
        steps = [
            {name: value for name, value in event.items() if name not in ("kind", "token")}
            for event in part.delta.steps
            if event["kind"] == "step"
        ]
        return {"routing": head | {"steps": steps}}

    def _content(self, delta: Delta, first: bool, chunk: bool = False, last: bool = False) -> dict:
        """The text and the log probabilities; `first` for the first part, `last` for a chunk without any."""
        raise NotImplementedError


class CompletionChoice(Choice):
    """A choice of /v1/completions."""

    def __init__(self, request: CompletionRequest, first: Part) -> None:
        super().__init__(request, first)
        self._offset = 0 if request.echo else len(self.start["prompt"])

    def _content(self, delta: Delta, first: bool, chunk: bool = False, last: bool = False) -> dict:
        text = self.start["prompt"] + delta.text if self.request.echo and first else delta.text
        return {"text": text, "logprobs": None if self.request.top is None else self._logprobs(delta)}

    def _logprobs(self, delta: Delta) -> dict:
        shown: dict[str, list] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for event in delta.steps:
            if event["prompt"] and not self.request.echo:
                continue
            token = event["token"]
            named = {_name(other): other["logprob"] for other in [*token["top_logprobs"], token]}
            shown["tokens"].append(_name(token))
            shown["token_logprobs"].append(token["logprob"])
            shown["top_logprobs"].append(None if token["logprob"] is None else named)
            shown["text_offset"].append(self._offset)
            self._offset += len(event["t"])
        return shown


class ChatChoice(Choice):
    """A choice of /v1/chat/completions."""

    def _content(self, delta: Delta, first: bool, chunk: bool = False, last: bool = False) -> dict:
        logprobs = None
        if self.request.top is not None:
            logprobs = {"content": [event["token"] for event in delta.steps if not event["prompt"]], "refusal": None}
        if not chunk:
            message = {"role": "assistant", "content": delta.text, "refusal": None}
            return {"message": message, "logprobs": logprobs}
        role = {"role": "assistant"} if first else {}
        return {"delta": {} if last else role | {"content": delta.text}, "logprobs": logprobs}


class Form(NamedTuple):
    """The names that differ between the two endpoints."""

    prefix: str
    whole: str
    chunk: str
    choice: type[Choice]


FORMS: dict[Kind, Form] = {
    "completion": Form("cmpl", "text_completion", "text_completion", CompletionChoice),
    "chat": Form("chatcmpl", "chat.completion", "chat.completion.chunk", ChatChoice),
}


class Response:
    """Writes one response, whole or as the chunks of a stream."""

    def __init__(self, request: CompletionRequest) -> None:
        self._request, self._form = request, FORMS[request.kind]
        self._choices: dict[int, Choice] = {}
        self._usage = Usage(0, 0)
        self._frame = {
            "id": f"{self._form.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": request.model,
            "seed": request.sampling.seed,  # so that a client that gave none can repeat the answer
        }

    def whole(self, batch: Iterable[Part | Usage]) -> dict:
        """The whole response, from all parts."""
        choices = [self._choice(part).whole(part) for part in self._merge(batch)]
        return self._frame | {"object": self._form.whole, "choices": choices, "usage": self._usage.to_json()}

    def chunks(self, batch: Iterable[Part | Usage]) -> Iterator[dict]:
        """The chunks of the parts that became ready."""
        usage = {"usage": None} if self._request.include_usage else {}
        for part in self._merge(batch):
            for choice in self._choice(part).chunks(part):
                yield self._frame | {"object": self._form.chunk, "choices": [choice]} | usage

    def last_chunks(self) -> Iterator[dict]:
        """The usage, where it was asked for."""
        if self._request.include_usage:
            yield self._frame | {"object": self._form.chunk, "choices": [], "usage": self._usage.to_json()}

    def _choice(self, part: Part) -> Choice:
        if part.index not in self._choices:
            self._choices[part.index] = self._form.choice(self._request, part)
        return self._choices[part.index]

    def _merge(self, batch: Iterable[Part | Usage]) -> list[Part]:
        """The parts, those of a choice together; notes the usage."""
        merged: dict[int, Part] = {}
        for part in batch:
            if isinstance(part, Usage):
                self._usage = part
            elif part.index in merged:
                merged[part.index].add(part)
            else:
                merged[part.index] = part
        return list(merged.values())


def with_logprobs(
    event: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, top: int, score: Score | None = None
) -> dict:
    """The event of a token with a "token" in OpenAI's form, which lists `top` alternatives.

    Args:
        score: the probabilities of a token that was not drawn, and whose event has none.
    """

    def entry(token: int, probability: float | None) -> dict:
        raw = token_bytes(tokenizer, token)
        logprob = None if probability is None else _logprob(probability)
        return {"token": raw.decode(errors="replace"), "logprob": logprob, "bytes": list(raw)}

    if score is None:
        score = Score(event["p"], [(token, probability) for token, _, probability in event["alt"]])
    others = [entry(token, probability) for token, probability in score.likeliest[:top]]
    return {**event, "token": entry(event["id"], score.probability) | {"top_logprobs": others}}


def _logprob(probability: float) -> float:
    return max(round(math.log(probability), 6), LEAST_LOGPROB) if probability > 0 else LEAST_LOGPROB


def _name(entry: Mapping) -> str:
    """The token's text; a part of a character is named by its bytes, as at OpenAI, so that names stay distinct."""
    raw = bytes(entry["bytes"])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """The UTF-8 bytes that the token stands for; of a special token its name."""
    name = str(tokenizer.convert_ids_to_tokens(token) or "")
    letters = _byte_letters()
    if token in tokenizer.added_tokens_decoder or not letters.keys() >= set(name):
        return name.encode()
    return bytes(letters[letter] for letter in name)


@cache
def _byte_letters() -> dict[str, int]:
    """Byte-level BPE's letter of each byte: the character itself where it is printable, else one from 256 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + index): byte for index, byte in enumerate(hidden)}
