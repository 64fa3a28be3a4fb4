"""Text from a model, one step per token: the token, its probability, the alternatives, and the experts that read it.

Command line, page and API all read this one stream, so that the same prompt, sampling and seed give the same text and
routing everywhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields

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
from axion.modeling_axion import AxionForCausalLM
from axion.routing import Explainer, expert_favourites, routers

ALTERNATIVES = 5
"""How many of the likeliest next tokens a step names."""

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
) -> Iterator[Step]:
    """Yields the prompt's steps, then one step per new token, until the text, the context or max_new_tokens ends.

    A sampled token is read by the model before it is yielded, so that its experts are known; the end-of-text token is
    not yielded. Closing the generator stops the work; `stop` is asked before every token.

    Args:
        prompt: text, or token ids as `encode_prompt` gives them.
        forced: the first new tokens, taken in place of drawn ones; they count among max_new_tokens. Every draw is made
            all the same, so that to force the tokens that would have been drawn changes nothing.

    Raises:
        AxionError: the prompt is empty, no Unicode, or leaves no room in the context, or a forced token is no token of
            the model; at the call, not the first step.
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
    return _steps(model, tokenizer, ids, sampling, stop or (lambda: False), forced)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The prompt's tokens, the one that begins a text among them. Raises AxionError when it is empty or no Unicode."""
    if not prompt:
        raise AxionError("the prompt is empty; give the model something to go on from")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise AxionError("the prompt is not valid Unicode; give it in UTF-8") from None
    return tokenizer(prompt).input_ids


@torch.inference_mode()
def _steps(
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    sampling: Sampling,
    stop: Callable[[], bool],
    forced: Sequence[int],
) -> Iterator[Step]:
    start = time.perf_counter()
    end_ids = end_tokens(model, tokenizer)
    pick = _Picker(sampling, len(ids), end_ids)
    decoder = DecodeStream(skip_special_tokens=True)
    cache = DynamicCache(config=model.config)
    explain = Explainer(model)

    def read(tokens: list[int]) -> tuple[torch.Tensor, list[dict]]:
        """Feeds tokens; returns the logits [1, V] after the last one, and each token's routing, named as in Step."""
        output = model(
            torch.tensor([tokens]), past_key_values=cache, use_cache=True, output_router_logits=True, logits_to_keep=1
        )
        return output.logits[:, -1].float(), explain(output.router_logits, len(tokens))

    logits, routing = read(ids)
    for position, token in enumerate(ids):
        text = decoder.step(tokenizer.backend_tokenizer, token) or ""
        seconds = time.perf_counter() - start
        yield Step(position, token, text, True, None, [], **routing[position], seconds=seconds)

    sequence = list(ids)
    room = model.config.max_position_embeddings - len(ids)
    for index in range(min(sampling.max_new_tokens, room)):
        if stop():
            return
        token = pick(sequence, logits)
        if index < len(forced):
            token = forced[index]
        if token in end_ids:
            return
        probability, alternatives = _chances(tokenizer, logits[0], token)
        logits, [read_by] = read([token])
        sequence.append(token)
        text = decoder.step(tokenizer.backend_tokenizer, token) or ""
        seconds = time.perf_counter() - start
        yield Step(len(sequence) - 1, token, text, False, probability, alternatives, **read_by, seconds=seconds)


def end_tokens(model: AxionForCausalLM, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of the tokens that end a text."""
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = tokenizer.eos_token_id
    return set(ends if isinstance(ends, list) else [ends]) - {None}


def _chances(
    tokenizer: PreTrainedTokenizerBase, logits_V: torch.Tensor, token: int
) -> tuple[float, list[tuple[int, str, float]]]:
    """The model's own probability of the token, and of its likeliest alternatives."""
    probabilities_V = logits_V.softmax(-1)
    top = probabilities_V.topk(min(ALTERNATIVES, len(probabilities_V)))
    alternatives = [
        (id_, tokenizer.decode([id_]), p) for id_, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    return probabilities_V[token].item(), alternatives


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
