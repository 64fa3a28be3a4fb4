"""From the events of a generation to the answers of the OpenAI-style interface: pure functions, no server.

`Answer` takes the events, cuts the text at a stop and counts; a `Shape` puts what is ready into OpenAI's words.
"""

import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from transformers import PreTrainedTokenizerBase

from playground.api.requests import Wish

LEAST_LOGPROB = -9999.0
"""Stands for the logarithm of 0, which JSON cannot say, as OpenAI has it."""

FINISH = {"eos": "stop", "stop": "stop", "length": "length", "context": "length", "time": "length"}
"""Why the text ended → what OpenAI's clients know of it."""

ROUTING_HEAD = ("layers", "first_layer", "experts", "experts_per_token", "shared_experts", "bias")


@dataclass
class Delta:
    """What a batch of events made ready: text, and the tokens that lie wholly in it (`step` events)."""

    text: str = ""
    steps: list[dict] = field(default_factory=list)

    def add(self, other: "Delta") -> None:
        """Put what became ready later behind it."""
        self.text += other.text
        self.steps += other.steps


class StopCut:
    """Cuts a text, which arrives in pieces, before the first of `stops` to be complete.

    Where the pieces begin and end makes no difference to the text: what may yet become a stop is held back.
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
        """What was held back, when nothing follows."""
        return self._release(len(self._held))

    def _release(self, end: int, keep: bool = True) -> str:
        ready, self._held = self._held[:end], self._held[end:] if keep else ""
        return ready


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


class Answer:
    """Follows one generation, event by event."""

    def __init__(self, wish: Wish, start: Mapping) -> None:
        self.wish, self.start = wish, start
        self.prompt_tokens = self.new_tokens = 0
        self.ended_by: str | None = None
        self.limit: float | None = None
        """Seconds that the server gives a text, where it ended by "time"."""
        self._cut = StopCut(wish.stops)
        self._fed = self._ready = 0  # characters that the model has written, and those that are ready
        self._waiting: list[tuple[int, int, dict]] = []  # tokens that are not wholly ready: first character, end, event

    def take(self, event: Mapping) -> Delta:
        """What a `step` or `end` event makes ready. After `ended_by` is set, nothing is taken any more."""
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
        # A token that adds nothing is a part of the character that the next one ends, and goes with it.
        whole = [self.ended_by is not None or start < self._ready >= end for start, end, _ in self._waiting]
        count = whole.index(False) if False in whole else len(whole)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        if self.ended_by == "stop":  # tokens that only wrote the stop belong to no text
            taken = [token for token in taken if token[0] < self._ready]
        return Delta(text, [event for _, _, event in taken])

    @property
    def usage(self) -> dict:
        """Tokens read and written, those of a stop that was cut off among them."""
        new = self.new_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": new,
            "total_tokens": self.prompt_tokens + new,
        }

    @property
    def ending(self) -> dict:
        """finish_reason, and the reason by its own name: eos, stop, length, context (it is full) or time (the server's
        limit in seconds, which is then told too)."""
        if self.ended_by is None:
            return {"finish_reason": None}
        ending = {"finish_reason": FINISH[self.ended_by], "ended_by": self.ended_by}
        return ending if self.limit is None else ending | {"time_limit_seconds": self.limit}


class Shape:
    """What both kinds of answer have in common; for one answer, whose parts have to be asked for in their order."""

    prefix: str
    whole_object: str
    chunk_object: str

    def __init__(self, answer: Answer) -> None:
        self._answer, self._wish = answer, answer.wish
        self._headed = False
        self._frame = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": answer.start["model"],
            "seed": answer.start["sampling"]["seed"],  # with it, who gave none can repeat the answer
        }

    def whole(self, delta: Delta) -> dict:
        """The answer in one piece."""
        choice = {"index": 0} | self._content(delta, True) | self._answer.ending | self._routing(delta, True)
        return self._frame | {"object": self.whole_object, "choices": [choice], "usage": self._answer.usage}

    def chunks(self, delta: Delta) -> Iterator[dict]:
        """The chunk of this delta; none where a client would learn nothing."""
        first, self._headed = not self._headed, True
        if first or delta.text or (delta.steps and (self._wish.routing or self._wish.top is not None)):
            content = self._content(delta, first, chunk=True)
            yield self._chunk({"index": 0} | content | {"finish_reason": None} | self._routing(delta, first))

    def last_chunks(self) -> Iterator[dict]:
        """Why it ended, and the usage where it was asked for."""
        yield self._chunk({"index": 0} | self._content(Delta(), False, chunk=True) | self._answer.ending)
        if self._wish.include_usage:
            yield self._frame | {"object": self.chunk_object, "choices": [], "usage": self._answer.usage}

    def _chunk(self, choice: dict) -> dict:
        usage = {"usage": None} if self._wish.include_usage else {}
        return self._frame | {"object": self.chunk_object, "choices": [choice]} | usage

    def _routing(self, delta: Delta, first: bool) -> dict:
        """The choice's field "routing", where it was asked for: once what holds for all tokens, then the records."""
        if not self._wish.routing:
            return {}
        head = {name: self._answer.start[name] for name in ROUTING_HEAD} if first else {}
        steps = [
            {name: value for name, value in event.items() if name not in ("kind", "token")} for event in delta.steps
        ]
        return {"routing": head | {"steps": steps}}

    def _content(self, delta: Delta, first: bool, chunk: bool = False) -> dict:
        """The text and the log probabilities; `first` where nothing came before."""
        raise NotImplementedError


class Completions(Shape):
    """The shapes of /v1/completions."""

    prefix = "cmpl"
    whole_object = chunk_object = "text_completion"

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._offset = 0 if self._wish.echo else len(self._wish.text)

    def _content(self, delta: Delta, first: bool, chunk: bool = False) -> dict:
        text = self._wish.text + delta.text if self._wish.echo and first else delta.text
        return {"text": text, "logprobs": None if self._wish.top is None else self._logprobs(delta)}

    def _logprobs(self, delta: Delta) -> dict:
        shown: dict[str, list] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for event in delta.steps:
            if event["prompt"] and not self._wish.echo:
                continue
            token = event["token"]
            named = {_name(other): other["logprob"] for other in [*token["top_logprobs"], token]}
            shown["tokens"].append(_name(token))
            shown["token_logprobs"].append(token["logprob"])
            shown["top_logprobs"].append(None if event["prompt"] else named)
            shown["text_offset"].append(self._offset)
            self._offset += len(event["t"])
        return shown


class Chats(Shape):
    """The shapes of /v1/chat/completions."""

    prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def _content(self, delta: Delta, first: bool, chunk: bool = False) -> dict:
        logprobs = None
        if self._wish.top is not None:
            logprobs = {"content": [event["token"] for event in delta.steps if not event["prompt"]], "refusal": None}
        if not chunk:
            message = {"role": "assistant", "content": delta.text, "refusal": None}
            return {"message": message, "logprobs": logprobs}
        role = {"role": "assistant"} if first else {}
        ended = self._answer.ended_by is not None and not delta.text and not first
        return {"delta": {} if ended else role | {"content": delta.text}, "logprobs": logprobs}


def with_logprobs(event: Mapping, tokenizer: PreTrainedTokenizerBase, top: int) -> dict:
    """The `step` event and its "token" in OpenAI's shape, with `top` alternatives."""

    def entry(token: int, probability: float | None) -> dict:
        raw = token_bytes(tokenizer, token)
        logprob = None if probability is None else _logprob(probability)
        return {"token": raw.decode(errors="replace"), "logprob": logprob, "bytes": list(raw)}

    others = [entry(token, probability) for token, _, probability in event["alt"][:top]]
    return {**event, "token": entry(event["id"], event["p"]) | {"top_logprobs": others}}


def _logprob(probability: float) -> float:
    return max(round(math.log(probability), 6), LEAST_LOGPROB) if probability > 0 else LEAST_LOGPROB


def _name(entry: Mapping) -> str:
    """The token's text; a part of a character is named by its bytes, as OpenAI does, so that none are mixed up."""
    raw = bytes(entry["bytes"])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """What the token stands for: bytes of a text, a special token its name."""
    name = tokenizer.convert_ids_to_tokens(token) or ""
    letters = _byte_letters()
    if token in tokenizer.added_tokens_decoder or not letters.keys() >= set(name):
        return name.encode()
    return bytes(letters[letter] for letter in name)


@cache
def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level vocabularies write bytes: itself where it is visible, else one from 256 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + index): byte for index, byte in enumerate(hidden)}
