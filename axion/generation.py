"""Text from a model, one step per token: the token, its probability, the alternatives, and the experts that read it.

Command line, page and API all read this one stream, so that the same prompt, sampling and seed give the same text and
routing everywhere.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple, Protocol

import torch
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from axion.errors import AxionError
from axion.kernels.backend import Choice, choose
from axion.kernels.decoder import ALTERNATIVES, NativeDecoder, hindrance
from axion.modeling_axion import AxionForCausalLM
from axion.routing import Explainer, expert_favourites, routers

UNIFORMS_AT_ONCE = 64

LIMITS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 5.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.1, 10.0),
    "max_new_tokens": (1, 1_000_000),
    "min_new_tokens": (0, 1_000_000),
    "seed": (0, 2**53 - 1),  # the whole numbers that JavaScript and JSON keep exactly: a shared link must not round one
}
"""Lowest and highest value of each of Sampling's fields; whole numbers where the bounds are."""

LEAST_TEMPERATURE = 0.01
"""Below, only 0 is allowed: the logits would be divided by next to nothing."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The defaults take the likeliest one, as `generate` in transformers does.

    Raises:
        AxionError: a value is no number, not finite, not whole where it must be, or out of its range (see LIMITS).
    """

    temperature: float = 0.0
    """0 takes the likeliest token every time; 1 is the model's own distribution."""
    top_k: int = 0
    """Draw among the k likeliest tokens only; 0 for all."""
    top_p: float = 1.0
    """Draw among the fewest tokens that hold this much probability; 1 for all."""
    min_p: float = 0.0
    """Leave out tokens with less than this fraction of the likeliest token's probability; 0 for none."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that were already there less likely."""
    max_new_tokens: int = 200
    """Stop after so many tokens; the end of the text or of the context stops earlier."""
    min_new_tokens: int = 0
    """Do not end the text before so many tokens."""
    seed: int = 0
    """The same seed gives the same text."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, check_setting(field.name, getattr(self, field.name)))
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise AxionError(
                f"temperature must be 0 (the likeliest token every time) or at least {LEAST_TEMPERATURE}, "
                f"not {self.temperature}"
            )
        if self.top_p == 0:
            raise AxionError("top_p must be above 0 (1 switches it off), not 0")
        if self.min_new_tokens > self.max_new_tokens:
            raise AxionError(
                f"min_new_tokens ({self.min_new_tokens}) must not exceed max_new_tokens ({self.max_new_tokens})"
            )


def check_setting(name: str, value: object) -> int | float:
    """The value of one of Sampling's fields, an int where it must be whole. Raises AxionError outside of LIMITS."""
    low, high = LIMITS[name]
    whole = isinstance(low, int)
    number = "a whole number" if whole else "a number"
    valid = isinstance(value, int | float) and not isinstance(value, bool)
    valid = valid and (isinstance(value, int) or math.isfinite(value))  # an int may be too large to be asked
    if not valid or not low <= value <= high or (whole and value != int(value)):
        raise AxionError(f"{name} must be {number} from {low:g} to {high:.16g}, not {str(value)[:40]}")
    return int(value) if whole else float(value)


@dataclass(frozen=True)
class Step:
    """One token of the prompt or of the answer."""

    position: int
    """The token's place in the context, from 0."""
    token_id: int
    text: str
    """What this token adds to the text: empty inside a character of several bytes, and for special tokens."""
    is_prompt: bool
    probability: float | None
    """The model's own probability of this token, before temperature and filters; None in the prompt."""
    alternatives: list[tuple[int, str, float]]
    """The model's likeliest tokens here, likeliest first: (id, text, probability); [] in the prompt."""
    experts: list[list[int]]
    """[L][K]: per mixture-of-experts layer the experts that read this token, heaviest first, numbered from 0."""
    gates: list[list[float]]
    """[L][K]: the weights of those experts."""
    affinities: list[list[float]]
    """[L][K]: their affinities, before the balancing bias, which chooses and never weighs."""
    displaced: list[list[int]]
    """[L]: experts that affinity alone would have chosen, and the bias did not."""
    seconds: float
    """Since the stream was started."""

    def to_record(self) -> dict:
        """The short JSON form, four significant digits: what the page, the API and trace.json carry."""
        return {
            "i": self.position,
            "id": self.token_id,
            "t": self.text,
            "prompt": self.is_prompt,
            "p": None if self.probability is None else _short(self.probability),
            "alt": [[token, text, _short(probability)] for token, text, probability in self.alternatives],
            "e": self.experts,
            "g": [[_short(gate) for gate in gates] for gates in self.gates],
            "a": [[_short(affinity) for affinity in affinities] for affinities in self.affinities],
            "d": self.displaced,
        }


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def stream(
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Sequence[int],
    sampling: Sampling,
    stop: Callable[[], bool] | None = None,
    forced: Sequence[int] = (),
    backend: str = "auto",
) -> Iterator[Step]:
    """Yields the prompt's steps, then one step per new token, until the text, the context or max_new_tokens ends.

    A sampled token is read by the model before it is yielded, so that its experts are known; the end-of-text token is
    not yielded. Closing the generator stops the work; `stop` is asked before every token.

    Args:
        prompt: text, or token ids as `encode_prompt` gives them.
        forced: the first new tokens, taken in place of drawn ones; they count among max_new_tokens. Every draw is made
            all the same, so that to force the tokens that would have been drawn changes nothing.
        backend: what reads the tokens, see `pick_backend`. Both draw the same tokens wherever their logits, which
            differ by rounding, leave no doubt.

    Raises:
        AxionError: the prompt is empty, no Unicode, or leaves no room in the context, a forced token is no token of
            the model, or the backend cannot be used; at the call, not the first step.
    """
    ids = encode_prompt(tokenizer, prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        raise AxionError("the prompt has no token; give the model something to go on from")
    context, vocabulary = model.config.max_position_embeddings, model.config.vocab_size
    if len(ids) >= context:
        raise AxionError(
            f"the prompt has {len(ids)} tokens, the model's context {context}; shorten it to {context - 1} at most"
        )
    if wrong := [token for token in forced if not 0 <= token < vocabulary]:
        raise AxionError(f"there is no token {wrong[0]}; the model's are 0 to {vocabulary - 1}")
    kind = _NativeReader if pick_backend(model, backend).name == "native" else _TorchReader
    return _steps(kind, model, tokenizer, ids, sampling, stop or (lambda: False), forced)


def pick_backend(model: AxionForCausalLM, backend: str = "auto") -> Choice:
    """What reads the tokens: "native" are the compiled kernels, "torch" the model itself, "auto" the faster that can.

    The kernels are compiled here if they never were for a model of these dimensions.

    Raises:
        AxionError: another name, or "native" where the kernels cannot be used.
    """
    obstacle = None if backend == "torch" else hindrance(model)
    return choose(backend, model.config, model.device.type, obstacle)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The prompt's tokens, the one that begins a text among them. Raises AxionError when it is empty or no Unicode."""
    if not prompt:
        raise AxionError("the prompt is empty; give the model something to go on from")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise AxionError("the prompt is not valid Unicode; give it in UTF-8") from None
    return tokenizer(prompt).input_ids


def _steps(
    kind: type[_NativeReader | _TorchReader],
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    sampling: Sampling,
    stop: Callable[[], bool],
    forced: Sequence[int],
) -> Iterator[Step]:
    start = time.perf_counter()
    reader: _Reader = kind(model, sampling, len(ids), end_tokens(model, tokenizer))
    decoder = DecodeStream(skip_special_tokens=True)
    names: dict[int, str] = {}

    def name(token: int) -> str:
        if token not in names:
            names[token] = tokenizer.decode([token])
        return names[token]

    for position, (token, routing) in enumerate(zip(ids, reader.read(ids), strict=True)):
        text = decoder.step(tokenizer.backend_tokenizer, token) or ""
        seconds = time.perf_counter() - start
        yield Step(position, token, text, True, None, [], **routing, seconds=seconds)

    room = model.config.max_position_embeddings - len(ids)
    for index in range(min(sampling.max_new_tokens, room)):
        if stop():
            return
        drawn = reader.draw(forced[index] if index < len(forced) else None)
        if drawn is None:
            return
        alternatives = [(id_, name(id_), p) for id_, p in zip(drawn.top_ids, drawn.top_probabilities, strict=True)]
        text = decoder.step(tokenizer.backend_tokenizer, drawn.token) or ""
        seconds = time.perf_counter() - start
        position = len(ids) + index
        yield Step(
            position, drawn.token, text, False, drawn.probability, alternatives, **drawn.routing, seconds=seconds
        )


def end_tokens(model: AxionForCausalLM, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of the tokens that end a text."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    return set(ends if isinstance(ends, list) else [ends]) - {None}


# --- What reads the tokens ------------------------------------------------------------------------------------------


class _Drawn(NamedTuple):
    """A token that was drawn and read; the fields are those of Step."""

    token: int
    probability: float
    top_ids: list[int]
    top_probabilities: list[float]
    routing: dict[str, list]


class _Reader(Protocol):
    """A model that has read some tokens, and draws the next ones."""

    def __init__(self, model: AxionForCausalLM, sampling: Sampling, prompt_length: int, end_ids: set[int]): ...

    def read(self, ids: Sequence[int]) -> list[dict[str, list]]:
        """Reads the prompt; returns each token's routing, named as in Step."""

    def draw(self, forced: int | None) -> _Drawn | None:
        """Draws a token, takes the forced one instead if there is one, and reads it; None when it ends the text."""


class _NativeReader:
    """The compiled kernels."""

    def __init__(self, model: AxionForCausalLM, sampling: Sampling, prompt_length: int, end_ids: set[int]):
        self.decoder = NativeDecoder(model)  # one thread: others may be streaming beside this
        self.decoder.set_sampling(
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            sampling.min_p,
            sampling.repetition_penalty,
            first_end=prompt_length + sampling.min_new_tokens,
            ends=sorted(end_ids),
        )
        self.uniforms = _uniforms(sampling)

    def read(self, ids: Sequence[int]) -> list[dict[str, list]]:
        self.decoder.read(ids)
        return [self.decoder.routing(position) for position in range(len(ids))]

    def draw(self, forced: int | None) -> _Drawn | None:
        token = self.decoder.draw(next(self.uniforms), -1 if forced is None else forced)
        if token is None:
            return None
        return _Drawn(token, *self.decoder.chances(), self.decoder.routing(self.decoder.length - 1))


def _uniforms(sampling: Sampling) -> Iterator[float]:
    """The numbers that _Picker takes one at a time; torch gives the same ones many at a time."""
    generator = torch.Generator().manual_seed(sampling.seed)
    while sampling.temperature > 0:
        yield from torch.rand(UNIFORMS_AT_ONCE, dtype=torch.float64, generator=generator).tolist()
    yield from itertools.repeat(0.0)  # nothing is left to chance


class _TorchReader:
    """The model itself, the reference."""

    def __init__(self, model: AxionForCausalLM, sampling: Sampling, prompt_length: int, end_ids: set[int]):
        self.model = model
        self.pick = _Picker(sampling, prompt_length, end_ids)
        self.end_ids = end_ids
        self.cache = DynamicCache(config=model.config)
        self.explain = Explainer(model)
        self.sequence: list[int] = []
        self.logits: torch.Tensor | None = None

    @torch.inference_mode()
    def read(self, ids: Sequence[int]) -> list[dict[str, list]]:
        output = self.model(
            torch.tensor([ids]),
            past_key_values=self.cache,
            use_cache=True,
            output_router_logits=True,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1].float()
        self.sequence.extend(ids)
        return self.explain(output.router_logits, len(ids))

    @torch.inference_mode()
    def draw(self, forced: int | None) -> _Drawn | None:
        token = self.pick(self.sequence, self.logits)
        if forced is not None:
            token = forced
        if token in self.end_ids:
            return None
        probabilities_V = self.logits[0].softmax(-1)
        top = probabilities_V.topk(min(ALTERNATIVES, len(probabilities_V)))
        probability = probabilities_V[token].item()
        return _Drawn(token, probability, top.indices.tolist(), top.values.tolist(), *self.read([token]))


class _Picker:
    """Chooses the next token, with the filters and their order that transformers' `generate` has."""

    def __init__(self, sampling: Sampling, prompt_length: int, end_ids: set[int]):
        filters = LogitsProcessorList()
        if sampling.repetition_penalty != 1:
            filters.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if sampling.min_new_tokens > 0 and end_ids:
            filters.append(MinNewTokensLengthLogitsProcessor(prompt_length, sampling.min_new_tokens, sorted(end_ids)))
        self.greedy = sampling.temperature == 0
        if not self.greedy:
            filters.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k > 0:
                filters.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                filters.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p > 0:
                filters.append(MinPLogitsWarper(sampling.min_p))
        self.filters = filters
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, sequence: Sequence[int], logits: torch.Tensor) -> int:
        """One token id from logits [1, V] after the sequence."""
        scores = self.filters(torch.tensor([sequence]), logits.clone())[0]
        if self.greedy:
            return scores.argmax().item()
        # Inverse of the cumulative distribution in token order, at one uniform number a token: any other implementation
        # that draws from the same generator picks the same tokens.
        cumulative_V = scores.double().softmax(-1).cumsum(-1)
        uniform = torch.rand((), dtype=torch.float64, generator=self.generator)
        return torch.searchsorted(cumulative_V, uniform * cumulative_V[-1], right=True).item()


def make_trace(
    release_name: str,
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    sampling: Sampling,
    documents: Sequence[Sequence[int]] = (),
) -> dict:
    """A release's trace.json: one generation with its routing, and each expert's favourite tokens in the documents."""
    return {
        "format": 1,
        "model": release_name,
        "prompt": prompt,
        "sampling": asdict(sampling),
        "layers": len(routers(model)),
        "experts": model.config.n_routed_experts,
        "experts_per_token": model.config.num_experts_per_tok,
        "steps": [step.to_record() for step in stream(model, tokenizer, prompt, sampling)],
        "favourites": expert_favourites(model, tokenizer, documents) if documents else [],
    }
