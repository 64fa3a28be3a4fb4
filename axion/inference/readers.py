"""Readers: a model that has read some tokens and draws the next ones, on the compiled kernels or in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from transformers.cache_utils import DynamicCache
from transformers.generation.logits_process import LogitsProcessor

from axion.errors import AxionError
from axion.inference.routing import RoutingRecorder, TokenRouting, routers
from axion.inference.sampling import Sampler, Sampling, Uniforms
from axion.kernels.backend import Choice, choose
from axion.kernels.decoder import NativeDecoder, check_tokens, check_vocabulary, draw_several, weights_of
from axion.kernels.dimensions import ALTERNATIVES, ROWS_AT_ONCE
from axion.kernels.plain import unsupported_model
from axion.model.modeling_axion import AxionForCausalLM


def pick_backend(model: AxionForCausalLM, backend: str = "auto") -> Choice:
    """Which backend reads the tokens of this model; compiles the kernels for its dimensions if necessary.

    Args:
        backend: "native" for the compiled kernels, "torch" for the PyTorch model, "auto" for the kernels where they
            can be used.

    Raises:
        AxionError: an unknown backend; or the kernels cannot be used where "native" or the model's rounded weights (see
            `axion.inference.variants.with_weights`) need them.
    """
    reason = None if backend == "torch" else unsupported_model(model, "decoding")
    return choose(backend, model.config, "decoding", model.device.type, reason, weights=weights_of(model))


def set_sampling(decoder: NativeDecoder, sampling: Sampling, prompt_length: int, end_ids: set[int]) -> None:
    """Sets how a decoder draws the tokens after a prompt; see `Reader`."""
    decoder.set_sampling(
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        sampling.repetition_penalty,
        first_end=prompt_length + sampling.min_new_tokens,
        ends=sorted(end_ids),
    )


class Drawn(NamedTuple):
    """A token that was drawn and read; see `axion.inference.stream.Step` for the fields."""

    token: int
    probability: float
    top_ids: list[int]
    top_probabilities: list[float]
    routing: TokenRouting


class Reader(Protocol):
    """A model that has read some tokens and draws the next ones.

    A draw depends on the tokens read so far, the seed and the position, so that after `rewind` it is repeated exactly.

    Args:
        prompt_length: how many tokens precede the first new one.
        end_ids: the tokens that end a text.

    Raises:
        AxionError: from `read` and `verify`, for no tokens, more than fit into the context, or tokens outside of the
            vocabulary; from `choose`, `draw` and `verify`, before the whole prompt was read.
    """

    def __init__(self, model: AxionForCausalLM, sampling: Sampling, prompt_length: int, end_ids: set[int]): ...

    @property
    def length(self) -> int:
        """How many tokens were read."""
        ...

    @property
    def room(self) -> int:
        """How many more tokens fit into the context."""
        ...

    def read(self, ids: Sequence[int]) -> list[TokenRouting]:
        """Reads tokens after those read before; returns the routing of each."""
        ...

    def choose(self) -> int | None:
        """The token that `draw` would draw next, without reading it; None when it ends the text."""
        ...

    def draw(self, forced: int | None = None) -> Drawn | None:
        """Draws a token, or takes the forced one, and reads it; None when it ends the text, and then it is not read."""
        ...

    def verify(self, draft: Sequence[int]) -> list[Drawn]:
        """Reads a draft of the next tokens in one pass and keeps those before the first that `draw` would not draw.

        Returns what `draw` would for each kept token. A token that ends the text is never kept.
        """
        ...

    def rewind(self, length: int) -> None:
        """Truncates to the first `length` tokens. Raises AxionError if fewer were read."""
        ...


class NativeReader:
    """A reader on the compiled kernels, with the model's kind of weights."""

    def __init__(self, model: AxionForCausalLM, sampling: Sampling, prompt_length: int, end_ids: set[int]):
        self._decoder = NativeDecoder(model)  # one thread, because other streams may run at the same time
        set_sampling(self._decoder, sampling, prompt_length, end_ids)
        self._uniforms = Uniforms(sampling.seed)
        self._prompt_length = prompt_length
        self._rows = tuple(routers(model))

    @property
    def length(self) -> int:
        return self._decoder.length

    @property
    def room(self) -> int:
        return self._decoder.room

    def read(self, ids: Sequence[int]) -> list[TokenRouting]:
        start = self.length
        self._decoder.read(ids)
        return [self._routing(position) for position in range(start, self.length)]

    def choose(self) -> int | None:
        return self._decoder.choose(self._uniforms[self.length - self._prompt_length])

    def guess(self, token: int) -> int | None:
        """The guess of the layer of multi-token prediction at what would be drawn after `token`; None for an end."""
        return self._decoder.guess(token, self._uniforms[self.length + 1 - self._prompt_length])

    def draw(self, forced: int | None = None) -> Drawn | None:
        uniform = self._uniforms[self.length - self._prompt_length] if forced is None else 0.0
        return self._drawn(self._decoder.draw(uniform, forced))

    @staticmethod
    def draw_together(readers: Sequence[NativeReader]) -> list[Drawn | None]:
        """`draw` for several readers of one model, which takes less time than one after the other."""
        uniforms = [reader._uniforms[reader.length - reader._prompt_length] for reader in readers]
        tokens = draw_several([reader._decoder for reader in readers], uniforms)
        return [reader._drawn(token) for reader, token in zip(readers, tokens, strict=True)]

    def _drawn(self, token: int | None) -> Drawn | None:
        """The last draw of the decoder."""
        if token is None:
            return None
        return Drawn(token, *self._decoder.probabilities(), self._routing(self.length - 1))

    def verify(self, draft: Sequence[int]) -> list[Drawn]:
        start, first = self.length, self.length - self._prompt_length
        kept = self._decoder.verify(draft, [self._uniforms[first + index] for index in range(len(draft))])
        return [
            Drawn(token, *probabilities, self._routing(start + index))
            for index, (token, probabilities) in enumerate(zip(draft, kept, strict=False))
        ]

    def rewind(self, length: int) -> None:
        self._decoder.rewind(length)

    def _routing(self, position: int) -> TokenRouting:
        return TokenRouting(self._rows, **self._decoder.routing(position))


class SharedDraws:
    """Readers of one model that draw their next tokens together: whichever is asked first draws for all.

    A token is drawn from what its own reader has read, so it does not depend on the others. For one thread.
    """

    def __init__(self) -> None:
        self._readers: list[NativeReader] = []
        self._drawn: dict[NativeReader, Drawn | None] = {}

    def draws(self, reader: NativeReader) -> Iterator[Drawn]:
        """Yields what repeated `reader.draw()` would, until the text or the context ends.

        From the first token to the last, the reader is used by nobody else.
        """
        self._readers.append(reader)
        try:
            while (drawn := self._draw(reader)) is not None:
                yield drawn
        finally:
            self._readers.remove(reader)
            self._drawn.pop(reader, None)

    def _draw(self, reader: NativeReader) -> Drawn | None:
        if reader not in self._drawn:
            if not reader.room:
                return None
            others = [one for one in self._readers if one is not reader and one not in self._drawn and one.room]
            together = [reader, *others[: ROWS_AT_ONCE - 1]]
            self._drawn.update(zip(together, NativeReader.draw_together(together), strict=True))
        return self._drawn.pop(reader)


class TorchReader:
    """A reader on the PyTorch model, the reference.

    Args:
        processors: see `Sampler`.
    """

    def __init__(
        self,
        model: AxionForCausalLM,
        sampling: Sampling,
        prompt_length: int,
        end_ids: set[int],
        processors: Sequence[LogitsProcessor] = (),
    ):
        self.model = model
        self._sample = Sampler(sampling, prompt_length, end_ids, processors)
        self._uniforms = Uniforms(sampling.seed)
        self._prompt_length = prompt_length
        self._end_ids = end_ids
        self._cache = DynamicCache(config=model.config)
        self._record_routing = RoutingRecorder(model)
        self._sequence: list[int] = []
        self._next_logits_V: torch.Tensor | None = None
        # the layer of multi-token prediction reads what the decoder computed for every token
        shape = (model.config.max_position_embeddings, model.config.hidden_size)
        self._hidden_SD = None if model.mtp is None else torch.empty(shape, dtype=model.dtype, device=model.device)

    @property
    def length(self) -> int:
        return len(self._sequence)

    @property
    def room(self) -> int:
        return self.model.config.max_position_embeddings - self.length

    def read(self, ids: Sequence[int]) -> list[TokenRouting]:
        check_tokens(ids, self.room, self.model.config.vocab_size)
        logits_1V, routing = self._pass(ids, 1)
        self._next_logits_V = logits_1V[0]
        return routing

    def choose(self) -> int | None:
        uniform = self._uniforms[self.length - self._prompt_length]
        token = self._sample(self._sequence, self._find_next_logits(), uniform)
        return None if token in self._end_ids else token

    def choose_after(self, token: int, logits_V: torch.Tensor) -> int | None:
        """The token that would be drawn from these logits after `token`, which was not read; None for an end."""
        uniform = self._uniforms[self.length + 1 - self._prompt_length]
        chosen = self._sample([*self._sequence, token], logits_V, uniform)
        return None if chosen in self._end_ids else chosen

    def read_since(self, start: int) -> tuple[list[int], torch.Tensor]:
        """The tokens from position `start`, and the decoder's normed output `[S, D]` for each.

        Only of a model with its layer of multi-token prediction.
        """
        assert self._hidden_SD is not None
        return self._sequence[start:], self._hidden_SD[start : self.length]

    def draw(self, forced: int | None = None) -> Drawn | None:
        if forced is not None:
            check_vocabulary([forced], self.model.config.vocab_size)
        if self.room == 0:
            raise AxionError("the context is full")
        token = self.choose() if forced is None else forced
        if token is None or token in self._end_ids:
            return None
        probabilities = _probabilities(token, self._find_next_logits())
        return Drawn(token, *probabilities, *self.read([token]))

    def verify(self, draft: Sequence[int]) -> list[Drawn]:
        start, first = self.length, self.length - self._prompt_length
        uniforms = [self._uniforms[first + index] for index in range(len(draft))]
        check_tokens(draft, self.room, self.model.config.vocab_size)
        first_V = self._find_next_logits()
        after_TV, routing = self._pass(draft, len(draft))
        logits = [first_V, *after_TV]  # logits[i] are those that draft[i] is drawn from
        kept: list[Drawn] = []
        for token, logits_V, uniform, token_routing in zip(draft, logits, uniforms, routing, strict=False):
            read = self._sequence[: start + len(kept)]
            if token in self._end_ids or token != self._sample(read, logits_V, uniform):
                break
            kept.append(Drawn(token, *_probabilities(token, logits_V), token_routing))
        self.rewind(start + len(kept))
        self._next_logits_V = logits[len(kept)]
        return kept

    def rewind(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise AxionError(f"cannot rewind to {length} tokens; {self.length} were read")
        if length < self.length:
            self._cache.crop(length - self.length)  # a negative number of tokens is removed from the end
            del self._sequence[length:]
            self._next_logits_V = None

    @torch.inference_mode()
    def _pass(self, ids: Sequence[int], logits_to_keep: int) -> tuple[torch.Tensor, list[TokenRouting]]:
        """Reads tokens; returns the logits [T, V] after the last `logits_to_keep` of them, and the routing of each.

        Tokens are drawn on the CPU, wherever the model is: its results are the same on every machine.
        """
        output = self.model.model(
            torch.tensor([list(ids)], device=self.model.device),
            past_key_values=self._cache,
            use_cache=True,
            output_router_logits=True,
        )
        hidden_TD = output.last_hidden_state[0]
        if self._hidden_SD is not None:
            self._hidden_SD[self.length : self.length + len(ids)] = hidden_TD
        self._sequence.extend(ids)
        logits_TV = self.model.lm_head(hidden_TD[-logits_to_keep:])
        return logits_TV.float().cpu(), self._record_routing(output.router_logits, len(ids))

    def _find_next_logits(self) -> torch.Tensor:
        """The logits [V] of the next token; after a rewind, the last token has to be read again for them."""
        if self._next_logits_V is None:
            if not self._sequence:
                raise AxionError("nothing was read yet; read a prompt first")
            last = self._sequence[-1]
            self.rewind(self.length - 1)
            self.read([last])
            assert self._next_logits_V is not None
        return self._next_logits_V


@torch.inference_mode()
def _probabilities(token: int, logits_V: torch.Tensor) -> tuple[float, list[int], list[float]]:
    """The model's own probability of the token, the likeliest tokens and theirs."""
    probabilities_V = logits_V.softmax(-1)
    top = probabilities_V.topk(min(ALTERNATIVES, len(probabilities_V)))
    return probabilities_V[token].item(), top.indices.tolist(), top.values.tolist()
