"""Responses of the OpenAI-compatible API, from the events of a generation; no server is needed.

`Answer` follows the events, cuts the text at a stop string and counts tokens; a `Response` puts what is ready into
OpenAI's form.
"""

import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from playground.api.requests import CompletionRequest

LEAST_LOGPROB = -9999.0
"""In place of the logarithm of 0, which JSON has no number for; the same value as at OpenAI."""

FINISH = {"eos": "stop", "stop": "stop", "length": "length", "context": "length", "time": "length"}
"""Why the text ended → OpenAI's finish_reason."""

ROUTING_HEAD = ("layers", "first_layer", "experts", "experts_per_token", "shared_experts", "bias")


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

    def __init__(self, request: CompletionRequest, start: Mapping[str, Any]) -> None:
        self.request, self.start = request, start
        self.prompt_tokens = self.new_tokens = 0
        self.ended_by: str | None = None
        self.limit: float | None = None
        """The server's time limit in seconds, where that ended the text."""
        self._cut = StopCut(request.stops)
        self._fed = self._ready = 0  # characters that the model has written, and those that are ready
        self._waiting: list[tuple[int, int, Mapping[str, Any]]] = []  # incomplete tokens: first character, end, event

    def take(self, event: Mapping[str, Any]) -> Delta:
        """What a `step` or `end` event makes ready; call it until `ended_by` is set."""
        if event["kind"] == "end":
            self.ended_by, self.limit = event["reason"], event.get("limit")
            return self._deliver(self._cut.rest())
        if event["prompt"]:
            self.prompt_tokens += 1
            return Delta(steps=[event])
        self.new_tokens += 1
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
    def usage(self) -> dict:
        """Tokens read and generated, including those of a stop string that was cut off."""
        new = self.new_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": new,
            "total_tokens": self.prompt_tokens + new,
        }

    @property
    def ending(self) -> dict:
        """finish_reason, and the exact reason: eos, stop, length, context (it is full) or time (with the limit)."""
        if self.ended_by is None:
            return {"finish_reason": None}
        ending = {"finish_reason": FINISH[self.ended_by], "ended_by": self.ended_by}
        return ending if self.limit is None else ending | {"time_limit_seconds": self.limit}


class Response:
    """What both kinds of response have in common. Holds one answer, whose parts must be asked for in order."""

    prefix: str
    whole_object: str
    chunk_object: str

    def __init__(self, answer: Answer) -> None:
        self._answer, self._request = answer, answer.request
        self._headed = False
        self._frame = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": answer.start["model"],
            "seed": answer.start["sampling"]["seed"],  # so that a client that gave none can repeat the answer
        }

    def whole(self, delta: Delta) -> dict:
        """The whole response."""
        choice = {"index": 0} | self._content(delta, True) | self._answer.ending | self._routing(delta, True)
        return self._frame | {"object": self.whole_object, "choices": [choice], "usage": self._answer.usage}

    def chunks(self, delta: Delta) -> Iterator[dict]:
        """The chunk of this delta; none where it would tell the client nothing."""
        first, self._headed = not self._headed, True
        if first or delta.text or (delta.steps and (self._request.routing or self._request.top is not None)):
            content = self._content(delta, first, chunk=True)
            yield self._chunk({"index": 0} | content | {"finish_reason": None} | self._routing(delta, first))

    def last_chunks(self) -> Iterator[dict]:
        """The finish reason, and the usage where it was asked for."""
        yield self._chunk({"index": 0} | self._content(Delta(), False, chunk=True) | self._answer.ending)
        if self._request.include_usage:
            yield self._frame | {"object": self.chunk_object, "choices": [], "usage": self._answer.usage}

    def _chunk(self, choice: dict) -> dict:
        usage = {"usage": None} if self._request.include_usage else {}
        return self._frame | {"object": self.chunk_object, "choices": [choice]} | usage

    def _routing(self, delta: Delta, first: bool) -> dict:
        """The field "routing" where it was asked for: the steps, and in the first part what holds for all tokens."""
        if not self._request.routing:
            return {}
        head = {name: self._answer.start[name] for name in ROUTING_HEAD} if first else {}
        steps = [
            {name: value for name, value in event.items() if name not in ("kind", "token")} for event in delta.steps
        ]
        return {"routing": head | {"steps": steps}}

    def _content(self, delta: Delta, first: bool, chunk: bool = False) -> dict:
        """The text and the log probabilities; `first` for the first part."""
        raise NotImplementedError


class CompletionResponse(Response):
    """The response of /v1/completions."""

    prefix = "cmpl"
    whole_object = chunk_object = "text_completion"

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._offset = 0 if self._request.echo else len(self._request.prompt)

    def _content(self, delta: Delta, first: bool, chunk: bool = False) -> dict:
        text = self._request.prompt + delta.text if self._request.echo and first else delta.text
        return {"text": text, "logprobs": None if self._request.top is None else self._logprobs(delta)}

    def _logprobs(self, delta: Delta) -> dict:
        shown: dict[str, list] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for event in delta.steps:
            if event["prompt"] and not self._request.echo:
                continue
            token = event["token"]
            named = {_name(other): other["logprob"] for other in [*token["top_logprobs"], token]}
            shown["tokens"].append(_name(token))
            shown["token_logprobs"].append(token["logprob"])
            shown["top_logprobs"].append(None if event["prompt"] else named)
            shown["text_offset"].append(self._offset)
            self._offset += len(event["t"])
        return shown


class ChatResponse(Response):
    """The response of /v1/chat/completions."""

    prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def _content(self, delta: Delta, first: bool, chunk: bool = False) -> dict:
        logprobs = None
        if self._request.top is not None:
            logprobs = {"content": [event["token"] for event in delta.steps if not event["prompt"]], "refusal": None}
        if not chunk:
            message = {"role": "assistant", "content": delta.text, "refusal": None}
            return {"message": message, "logprobs": logprobs}
        role = {"role": "assistant"} if first else {}
        ended = self._answer.ended_by is not None and not delta.text and not first
        return {"delta": {} if ended else role | {"content": delta.text}, "logprobs": logprobs}


def with_logprobs(event: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, top: int) -> dict:
    """The `step` event with a "token" in OpenAI's form, which lists `top` alternatives."""

    def entry(token: int, probability: float | None) -> dict:
        raw = token_bytes(tokenizer, token)
        logprob = None if probability is None else _logprob(probability)
        return {"token": raw.decode(errors="replace"), "logprob": logprob, "bytes": list(raw)}

    others = [entry(token, probability) for token, _, probability in event["alt"][:top]]
    return {**event, "token": entry(event["id"], event["p"]) | {"top_logprobs": others}}


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
