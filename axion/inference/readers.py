"""Readers: a model that has read some tokens and draws the next ones. This one is on the compiled kernels.

`axion.inference.torch_reader` has the one in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from axion.inference.rows import TokenRouting, routing_rows
from axion.inference.sampling import Sampling, Uniforms
from axion.kernels.backend import Choice, choose
from axion.kernels.decoder import NativeDecoder, draw_several
from axion.kernels.dimensions import ROWS_AT_ONCE
from axion.kernels.stored import StoredModel, unsupported_reason, weights_of

if TYPE_CHECKING:
    from axion.kernels.stored import Decodable


def pick_backend(model: Decodable, backend: str = "auto") -> Choice:
    """Which backend reads the tokens of this model; compiles the kernels for its dimensions if necessary.

    Args:
        backend: "native" for the compiled kernels, "torch" for the PyTorch model, "auto" for the kernels where they
            can be used.

    Raises:
        AxionError: an unknown backend; or the kernels cannot be used where "native" or the model's rounded weights (see
            `axion.inference.variants.with_weights`) need them.
    """
    reason = None if backend == "torch" else unsupported_reason(model)
    device = "cpu" if isinstance(model, StoredModel) else model.device.type
    return choose(backend, model.config, "decoding", device, reason, weights=weights_of(model))


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

    def __init__(self, model: Any, sampling: Sampling, prompt_length: int, end_ids: set[int]): ...

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

    def __init__(self, model: Decodable, sampling: Sampling, prompt_length: int, end_ids: set[int]):
        self._decoder = NativeDecoder(model)  # one thread, because other streams may run at the same time
        set_sampling(self._decoder, sampling, prompt_length, end_ids)
        self._uniforms = Uniforms(sampling.seed)
        self._prompt_length = prompt_length
        self._rows = tuple(routing_rows(model.config))

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
