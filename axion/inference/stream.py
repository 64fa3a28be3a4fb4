"""Text from a model, one step per token: the token, its probability, the alternatives, and the experts that read it.

Command line, page and API all read this one stream, so that the same prompt, sampling and seed give the same text and
routing everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from axion.errors import AxionError
from axion.inference.readers import NativeReader, Reader, TorchReader, pick_backend
from axion.inference.routing import expert_favourites, routers
from axion.inference.sampling import Sampling
from axion.model.modeling_axion import AxionForCausalLM


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
    kind = NativeReader if pick_backend(model, backend).name == "native" else TorchReader
    return _steps(kind, model, tokenizer, ids, sampling, stop or (lambda: False), forced)


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
    kind: type[NativeReader | TorchReader],
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    sampling: Sampling,
    stop: Callable[[], bool],
    forced: Sequence[int],
) -> Iterator[Step]:
    start = time.perf_counter()
    reader: Reader = kind(model, sampling, len(ids), end_tokens(model, tokenizer))
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
