"""A model that reads and writes text with the compiled kernels: one call draws a token, reads it and routes it.

Weights are packed by `axion.kernels.pack`; activations are fp32, and so is the cache with fp32 weights.

Shape suffixes: T tokens, L passes through layers with routed experts, K experts per token, A alternatives, V
vocabulary, P passes through all layers, H heads, E experts.
"""

from __future__ import annotations

import copy
import ctypes
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from axion.errors import AxionError
from axion.kernels.build import Unavailable, library
from axion.kernels.dimensions import ALTERNATIVES, ROWS_AT_ONCE, check_weights
from axion.kernels.pack import packed_weights
from axion.kernels.stored import named_weights, predicts, tampering_of, unsupported_reason, untampered, weights_of
from axion.weights import ROUTING_BIAS

if TYPE_CHECKING:
    import torch

    from axion.kernels.stored import Decodable
    from axion.tampering import Tampering

MAX_THREADS = 16


class TokenProbabilities(NamedTuple):
    """The model's own probabilities at a draw, before temperature and filters."""

    probability: float
    """Of the token that was drawn."""
    top_ids: list[int]
    """[A]: the likeliest tokens, likeliest first."""
    top_probabilities: list[float]
    """[A]"""


class NativeDecoder:
    """One text that is read and written, with its own cache; all decoders of a model share its packed weights.

    Args:
        model: a stored one, or an unmodified fp32 model on the CPU, without adapters or hooks. Its config says how
            often shared layers are looped; `guess` needs its layer of multi-token prediction. It may be tampered with
            by `axion.inference.variants.with_tampering`.
        weights: "fp32"; "bf16" for half the memory and slightly less accuracy; "int8" for a quarter, with a scale for
            each output of a matrix. Routers stay in fp32, embeddings with "int8" in bf16. With both, keys and values
            of grouped-query attention are cached in bf16. By default `weights_of`.
        threads: how many threads work on each token, 1 to 16.

    Raises:
        Unavailable: the kernels cannot be built here or do not cover this model.
        AxionError: an unknown kind of weights or an invalid number of threads.
    """

    def __init__(self, model: Decodable, weights: str | None = None, threads: int = 1):
        weights = weights_of(model) if weights is None else weights
        check_weights(weights)
        if not 1 <= threads <= MAX_THREADS:
            raise AxionError(f"threads must be 1 to {MAX_THREADS}, not {threads}")
        if (reason := unsupported_reason(model)) is not None:
            raise Unavailable(reason)
        self.config = config = copy.deepcopy(model.config)  # memory is sized by it
        self._library = _declare(library(config, "decoding", weights))
        self._packed = packed = packed_weights(untampered(model), self._library)
        self._predicts = predicts(model)
        tampering = tampering_of(model)
        positions, chosen = config.max_position_embeddings, tampering.experts_per_token(config)
        self._tampering = _Tampering.of(tampering, model) if tampering else None
        looped = len(set(config.shared_layers) & set(config.mixture_layers))
        rows = len(config.mixture_layers) + (config.num_loops - 1) * looped
        routed = (positions, 2, rows, chosen)
        # The kernels write a row for each position: experts and displaced experts, gates and affinities.
        self._experts_T2LK = np.empty(routed, np.int32)
        self._weights_T2LK = np.empty(routed, np.float32)
        top = min(ALTERNATIVES, config.vocab_size)
        # csrc/decoding/decoder_state.h's struct Drawn
        self._drawn_type = np.dtype(
            [("probability", np.float32), ("top_ids", np.int32, top), ("top_probabilities", np.float32, top)]
        )
        self._drawn = np.zeros(1, self._drawn_type)
        self._state = self._library.axion_decoder_new(
            packed.address,
            threads,
            positions,
            config.num_loops,
            packed.cos_TP.ctypes.data,
            packed.sin_TP.ctypes.data,
            self._experts_T2LK.ctypes.data,
            self._weights_T2LK.ctypes.data,
            self._drawn.ctypes.data,
            None if self._tampering is None else ctypes.addressof(self._tampering),
        )
        if not self._state:
            raise MemoryError("not enough memory for the cache")
        weakref.finalize(self, self._library.axion_decoder_free, self._state)
        self._step = self._library.axion_decoder_step
        self.length = 0
        """How many tokens were read."""
        self.set_sampling()

    def set_sampling(
        self,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        first_end: int = 0,
        ends: Sequence[int] = (),
    ) -> None:
        """Sets how tokens are drawn from now on; see `axion.inference.sampling.Sampling` for the shared names.

        Args:
            first_end: the first position at which a token that ends the text may be drawn.
            ends: the tokens that end the text; ids outside of the vocabulary are ignored.
        """
        ends = [token for token in ends if 0 <= token < self.config.vocab_size]
        self._ends = (ctypes.c_int32 * len(ends))(*ends)
        settings = _Sampling(
            temperature, top_p, min_p, repetition_penalty, top_k, first_end, len(ends), ctypes.addressof(self._ends)
        )
        self._library.axion_decoder_sampling(self._state, ctypes.byref(settings))

    @property
    def room(self) -> int:
        """How many more tokens fit into the context."""
        return self.config.max_position_embeddings - self.length

    def read(self, ids: Sequence[int]) -> None:
        """Reads tokens after those read before.

        Raises:
            AxionError: `ids` is empty, does not fit into the context, or has a token outside of the vocabulary.
        """
        tokens_T = self._as_array(ids)
        if not self._library.axion_decoder_read(self._state, tokens_T.ctypes.data, len(tokens_T)):
            raise MemoryError("not enough memory to read the tokens")
        self.length += len(tokens_T)

    def read_watched(self, token: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads one token; returns its attention weights and its affinities to all experts.

        Returns:
            [P, H, T]: the weight of each token read so far, the new one last, in each pass and head; and [L, E].

        Raises:
            AxionError: as `read`.
        """
        self._as_array([token])  # before the memory is sized by the position
        config, rows = self.config, self._experts_T2LK.shape[2]
        attention_PHT = np.empty((config.depth(), config.num_attention_heads, self.length + 1), np.float32)
        affinities_LE = np.empty((rows, config.n_routed_experts), np.float32)
        watch = self._library.axion_decoder_watch
        watch(self._state, self.length, attention_PHT.ctypes.data, affinities_LE.ctypes.data)
        try:
            self.read([token])
        finally:
            watch(self._state, -1, None, None)
        return attention_PHT, affinities_LE

    def score(self, ids: Sequence[int]) -> np.ndarray:
        """Reads tokens; returns the log probability [T − 1], in nats, of each but the first after those before it.

        Raises:
            AxionError: as `read`.
        """
        return self._score(ids)

    def score_with_alternatives(self, ids: Sequence[int]) -> list[TokenProbabilities]:
        """As `score`, with the likeliest tokens at each of these positions."""
        drawn = np.zeros(max(len(ids) - 1, 0), self._drawn_type)
        self._score(ids, drawn)
        return _probabilities(drawn)

    def score_and_predict(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """As `score`, and the likeliest token [T − 1] at each of these positions."""
        drawn = np.zeros(max(len(ids) - 1, 0), self._drawn_type)
        return self._score(ids, drawn), drawn["top_ids"][:, 0]

    def _score(self, ids: Sequence[int], drawn: np.ndarray | None = None) -> np.ndarray:
        tokens_T = self._as_array(ids)
        scores = np.empty(len(tokens_T) - 1, np.float32)
        found = None if drawn is None else drawn.ctypes.data
        if not self._library.axion_decoder_score(
            self._state, tokens_T.ctypes.data, len(tokens_T), scores.ctypes.data, found
        ):
            raise MemoryError("not enough memory to score the tokens")
        self.length += len(tokens_T)
        return scores

    def choose(self, uniform: float = 0.0) -> int | None:
        """Draws the next token without reading it; None when it ends the text.

        Args:
            uniform: a random number in [0, 1) that decides; unused at temperature 0.

        Raises:
            AxionError: nothing was read yet.
        """
        self._check_started()
        token = self._library.axion_decoder_choose(self._state, uniform)
        return None if token < 0 else token

    def draw(self, uniform: float = 0.0, forced: int | None = None) -> int | None:
        """Draws the next token and reads it; its probabilities are in `probabilities`.

        Args:
            uniform: a random number in [0, 1) that decides; unused at temperature 0.
            forced: a token to take in place of the drawn one.

        Returns:
            The token, or None when it ends the text; that token is not read.

        Raises:
            AxionError: nothing was read yet, the context is full, or the forced token is not in the vocabulary.
        """
        self._check_started()
        if self.room == 0:
            raise AxionError("the context is full")
        if forced is not None:
            check_vocabulary([forced], self.config.vocab_size)
        token = self._step(self._state, uniform, -1 if forced is None else forced)
        if token < 0:
            return None
        self.length += 1
        return token

    def verify(self, draft: Sequence[int], uniforms: Sequence[float]) -> list[TokenProbabilities]:
        """Reads a draft in one pass and keeps its tokens up to the first that `draw` would not have drawn.

        A token that ends the text is never kept. Afterwards, the decoder has read the kept tokens and no others.

        Args:
            draft: tokens after those read before.
            uniforms: the random number of each of them.

        Returns:
            The probabilities at each kept token.

        Raises:
            AxionError: nothing was read yet, or the draft cannot be read; see `read`.
        """
        self._check_started()
        tokens_T = self._as_array(draft)
        uniforms_T = np.asarray(uniforms, np.float64)
        if len(uniforms_T) != len(tokens_T):
            raise AxionError(f"{len(tokens_T)} tokens need as many random numbers, not {len(uniforms_T)}")
        drawn = np.zeros(len(tokens_T), self._drawn_type)
        kept = self._library.axion_decoder_verify(
            self._state, tokens_T.ctypes.data, len(tokens_T), uniforms_T.ctypes.data, drawn.ctypes.data
        )
        if kept < 0:
            raise MemoryError("not enough memory to read the draft")
        self.length += kept
        return _probabilities(drawn[:kept])

    def guess(self, token: int, uniform: float = 0.0) -> int | None:
        """What the layer of multi-token prediction would draw after a token that follows those read; None for an end.

        Nothing is read. Guesses are cheap where they follow each other, because the layer has a cache too.

        Args:
            uniform: the random number of the guessed token.

        Raises:
            AxionError: nothing was read yet, the token is not in the vocabulary, or the model has no such layer.
        """
        if not self._predicts:
            raise AxionError("the model has no layer of multi-token prediction to guess with")
        self._check_started()
        check_vocabulary([token], self.config.vocab_size)
        guessed = self._library.axion_decoder_guess(self._state, token, uniform)
        if guessed == -2:
            raise MemoryError("not enough memory to guess")
        return None if guessed < 0 else guessed

    def rewind(self, length: int) -> None:
        """Truncates to the first `length` tokens; sampling settings stay. Nothing is read again.

        Raises:
            AxionError: `length` is negative, or more than was read.
        """
        if not 0 <= length <= self.length:
            raise AxionError(f"cannot rewind to {length} tokens; {self.length} were read")
        self._library.axion_decoder_rewind(self._state, length)
        self.length = length

    def probabilities(self) -> TokenProbabilities:
        """The model's probabilities at the last `draw`."""
        return _probabilities(self._drawn)[0]

    def routing(self, position: int) -> dict[str, list]:
        """The routing of the token at a position: the lists of `axion.inference.routing.TokenRouting`, by name."""
        experts_LK, displaced_LK = self._experts_T2LK[position].tolist()
        gates_LK, affinities_LK = self._weights_T2LK[position].tolist()
        return {
            "experts": experts_LK,
            "gates": gates_LK,
            "affinities": affinities_LK,
            "displaced": [[expert for expert in displaced_K if expert >= 0] for displaced_K in displaced_LK],
        }

    def logits(self) -> torch.Tensor:
        """The logits [V] of the next token.

        Raises:
            AxionError: nothing was read yet.
        """
        import torch  # generation does without

        return torch.from_numpy(self.logits_array())

    def logits_array(self) -> np.ndarray:
        """As `logits`, without PyTorch."""
        self._check_started()
        logits_V = np.empty(self.config.vocab_size, np.float32)
        self._library.axion_decoder_logits(self._state, logits_V.ctypes.data)
        return logits_V

    def _check_started(self) -> None:
        if self.length == 0:
            raise AxionError("nothing was read yet; read a prompt first")

    def _as_array(self, ids: Sequence[int]) -> np.ndarray:
        """The tokens as the kernels take them, after the checks that `read` describes."""
        check_tokens(ids, self.room, self.config.vocab_size)
        return np.asarray(ids, np.int32)


def draw_several(decoders: Sequence[NativeDecoder], uniforms: Sequence[float] | None = None) -> list[int | None]:
    """`draw` for several texts at once, which reads each weight once for all of them. The first one's threads work.

    Where memory is the limit this writes several texts in little more than the time of one. A text does not depend, to
    the last bit, on the others; it is the one that `draw` writes, up to rounding.

    Args:
        decoders: at most ROWS_AT_ONCE, all different, of one model with the same kind of weights.
        uniforms: the random number of each; unused at temperature 0.

    Raises:
        AxionError: the decoders cannot work together, one has read nothing yet, or its context is full.
    """
    count = len(decoders)
    if not 0 < count <= ROWS_AT_ONCE or len(set(map(id, decoders))) < count:
        raise AxionError(f"draw_several needs 1 to {ROWS_AT_ONCE} different decoders, not {count}")
    first = decoders[0]
    for decoder in decoders:
        if decoder._packed is not first._packed or decoder.config.num_loops != first.config.num_loops:
            raise AxionError("draw_several needs decoders of one model, with the same weights and loops")
        decoder._check_started()
        if decoder.room == 0:
            raise AxionError("the context is full")
    uniforms_T = np.zeros(count) if uniforms is None else np.asarray(uniforms, np.float64)
    if len(uniforms_T) != count:
        raise AxionError(f"{count} texts need as many random numbers, not {len(uniforms_T)}")
    tokens_T = np.empty(count, np.int32)
    states = (ctypes.c_void_p * count)(*(decoder._state for decoder in decoders))
    if not first._library.axion_decoder_step_several(states, count, uniforms_T.ctypes.data, tokens_T.ctypes.data):
        raise MemoryError("not enough memory to draw the tokens")
    tokens = [None if token < 0 else token for token in tokens_T.tolist()]
    for decoder, token in zip(decoders, tokens, strict=True):
        decoder.length += token is not None
    return tokens


def check_tokens(ids: Sequence[int], room: int, vocabulary: int) -> None:
    """Checks that tokens can be read.

    Args:
        room: how many tokens fit into the rest of the context.
        vocabulary: the number of tokens that the model has.

    Raises:
        AxionError: `ids` is empty, does not fit into the context, or has a token outside of the vocabulary.
    """
    if not 0 < len(ids) <= room:
        raise AxionError(f"cannot read {len(ids)} tokens; from 1 to {room} fit into the rest of the context")
    check_vocabulary(ids, vocabulary)


def check_vocabulary(ids: Sequence[int], vocabulary: int) -> None:
    """Raises AxionError for the first of the tokens that the model does not have."""
    for token in ids:
        if not 0 <= token < vocabulary:
            raise AxionError(f"the model has no token {token}; its tokens are 0 to {vocabulary - 1}")


def _probabilities(drawn: np.ndarray) -> list[TokenProbabilities]:
    columns = (drawn[name].tolist() for name in TokenProbabilities._fields)
    return [TokenProbabilities(*row) for row in zip(*columns, strict=True)]


class _Sampling(ctypes.Structure):
    """The struct of this name in csrc/decoding/sampling.h."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
        *((name, ctypes.c_int32) for name in ("top_k", "first_end", "end_count")),
        ("ends", ctypes.c_void_p),
    ]


class _Tampering(ctypes.Structure):
    """The struct of this name in csrc/decoding/tampering.h."""

    _fields_ = [
        ("chosen", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("bias_LE", "scale_LE", "scale_LH")),
    ]

    @classmethod
    def of(cls, tampering: Tampering, model: Decodable) -> _Tampering:
        """What is changed, with the arrays that it points to."""
        config = model.config
        layers, experts, heads = config.num_hidden_layers, config.n_routed_experts, config.num_attention_heads
        bias_LE = np.zeros((layers, experts), np.float32)
        named = named_weights(untampered(model))[0]
        for index in config.mixture_layers:
            own_E = named[f"model.layers.{index}.mlp.gate.{ROUTING_BIAS}"]
            bias_LE[index] = tampering.choice_bias(index + 1, own_E)
        numbers = range(1, layers + 1)
        scale_LE = np.stack([tampering.gate_scales(layer, experts) for layer in numbers])
        scale_LH = np.stack([tampering.head_scales(layer, heads) for layer in numbers])
        arrays = (bias_LE, scale_LE, scale_LH)
        changed = cls(tampering.experts_per_token(config), *(array.ctypes.data for array in arrays))
        changed.arrays = arrays  # kept for as long as the kernels read them
        return changed


def _declare(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """Declares the argument and result types of the C functions."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    types = {
        "axion_decoder_weights_new": (pointer, [integer]),
        "axion_decoder_weights_free": (None, [pointer]),
        "axion_decoder_parts": (integer, [pointer]),
        "axion_decoder_pack": (integer, [pointer, integer, pointer, pointer, integer]),
        "axion_decoder_new": (pointer, [pointer, *[integer] * 3, *[pointer] * 6]),
        "axion_decoder_free": (None, [pointer]),
        "axion_decoder_sampling": (None, [pointer, pointer]),
        "axion_decoder_read": (integer, [pointer, pointer, integer]),
        "axion_decoder_score": (integer, [pointer, pointer, integer, pointer, pointer]),
        "axion_decoder_watch": (None, [pointer, integer, pointer, pointer]),
        "axion_decoder_rewind": (None, [pointer, integer]),
        "axion_decoder_choose": (integer, [pointer, ctypes.c_double]),
        "axion_decoder_step": (integer, [pointer, ctypes.c_double, integer]),
        "axion_decoder_step_several": (integer, [pointer, integer, pointer, pointer]),
        "axion_decoder_guess": (integer, [pointer, integer, ctypes.c_double]),
        "axion_decoder_verify": (integer, [pointer, pointer, integer, pointer, pointer]),
        "axion_decoder_logits": (None, [pointer, pointer]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
