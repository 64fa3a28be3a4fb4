"""Generation as a stream of steps, one per token: its text, its probability, the alternatives, and its routing.

The command line, the page and the API all read this stream, so the same prompt, sampling settings and seed give the
same text and routing everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from tokenizers.decoders import DecodeStream

from axion.errors import AxionError
from axion.inference.readers import Drawn, NativeReader, Reader, SharedDraws, pick_backend
from axion.inference.rows import TokenRouting, routing_rows
from axion.inference.sampling import Sampling
from axion.inference.speculative import Acceptance, Drafter, ModelDrafter, NativeMTPDrafter, speculate
from axion.inference.variants import with_loops
from axion.kernels.stored import StoredModel, predicts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
    from transformers.generation.logits_process import LogitsProcessor

    from axion.inference.torch_reader import TorchReader
    from axion.kernels.stored import Decodable
    from axion.model.modeling_axion import AxionForCausalLM
    from axion.stored_tokenizer import StoredTokenizer

    Tokenizer = PreTrainedTokenizerFast | StoredTokenizer


@dataclass(frozen=True)
class Step:
    """One token of the prompt or of the generated text."""

    position: int
    """The token's position in the context, from 0."""
    token_id: int
    text: str
    """What this token adds to the text: empty for special tokens and inside a character of several bytes."""
    is_prompt: bool
    probability: float | None
    """The model's own probability of this token, before temperature and filters; None in the prompt."""
    alternatives: list[tuple[int, str, float]]
    """The model's likeliest tokens here, likeliest first: (id, text, probability); [] in the prompt."""
    routing: TokenRouting
    """The experts that read this token."""
    seconds: float
    """Time since the stream was started."""

    def to_record(self) -> dict:
        """The compact JSON form of the page, the API and trace.json; numbers have four significant digits.

        Each of the lists "e", "g", "a" and "d" has one entry for each of `routing.rows`. These are the same for every
        step, so they are not repeated here.
        """
        return {
            "i": self.position,
            "id": self.token_id,
            "t": self.text,
            "prompt": self.is_prompt,
            "p": None if self.probability is None else _short(self.probability),
            "alt": [[token, text, _short(probability)] for token, text, probability in self.alternatives],
            "e": self.routing.experts,
            "g": [[_short(gate) for gate in gates] for gates in self.routing.gates],
            "a": [[_short(affinity) for affinity in affinities] for affinities in self.routing.affinities],
            "d": self.routing.displaced,
        }


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def stream(
    model: Decodable,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    sampling: Sampling,
    stop: Callable[[], bool] | None = None,
    forced: Sequence[int] = (),
    backend: str = "auto",
    draft_model: Decodable | None = None,
    processors: Sequence[LogitsProcessor] = (),
    mtp: bool = False,
    acceptance: Acceptance | None = None,
    shared: SharedDraws | None = None,
) -> Generator[Step]:
    """Yields the prompt's steps, then one for each new token, until the text, the context or max_new_tokens ends.

    A new token is read by the model before its step is yielded, because the step includes its routing. The token that
    ends the text is not yielded. Closing the generator stops the generation.

    Args:
        model, tokenizer: of a release; see `axion.release.Release.for_generation` for those that need no PyTorch.
        prompt: text, or token ids as returned by `encode_prompt`.
        stop: called before every new token; the stream ends when it returns true.
        forced: the first new tokens, taken in place of drawn ones; they count towards max_new_tokens. Later draws do
            not depend on whether a token was forced or drawn.
        backend: see `pick_backend`. Backends draw the same tokens except where their logits, which differ by rounding,
            are almost tied.
        draft_model: a cheaper model with the same tokenizer that drafts tokens for speculative decoding. It changes the
            speed and, like the backend, the text only where logits are almost tied.
        processors: change the logits before the filters of `sampling`, as in transformers' `generate`. With any of them
            the tokens are drawn in PyTorch, whatever the backend.
        mtp: let the model's layer of multi-token prediction draft; see `axion.inference.variants.with_mtp`. Like a
            draft model, it changes the speed and not the text.
        acceptance: counts the guesses of the draft model or of that layer.
        shared: given to several streams of one model that are read in turns, lets them draw together on the kernels,
            which takes less time. It changes the text only where the backend would.

    Raises:
        AxionError: the prompt is empty, not valid Unicode, or does not fit into the context; a forced token is not in
            the vocabulary; the backend cannot be used; the model cannot be looped; the draft model does not fit, or
            there is nothing that drafts. Raised by the call itself, not by the first step.
    """
    model = with_loops(model, sampling.num_loops)
    ids = encode_prompt(tokenizer, prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        raise AxionError("the prompt has no token; give the model something to continue")
    context, vocabulary = model.config.max_position_embeddings, model.config.vocab_size
    if len(ids) >= context:
        raise AxionError(
            f"the prompt has {len(ids)} tokens, the model's context {context}; shorten it to {context - 1} at most"
        )
    if wrong := [token for token in forced if not 0 <= token < vocabulary]:
        raise AxionError(f"the model has no token {wrong[0]}; its tokens are 0 to {vocabulary - 1}")
    if draft_model is not None:
        _check_draft_model(draft_model, vocabulary, len(ids))
    ends = end_tokens(model, tokenizer)

    def open_reader(of: Decodable) -> NativeReader | TorchReader:
        if not processors and pick_backend(of, backend).name == "native":
            return NativeReader(of, sampling, len(ids), ends)
        if isinstance(of, StoredModel):
            raise AxionError("a stored model is read by the kernels alone; open the release's model for PyTorch")
        from axion.inference.torch_reader import TorchReader

        return TorchReader(of, sampling, len(ids), ends, processors)

    if mtp:
        _check_mtp(model, draft_model)
    reader = open_reader(model)
    drafter = None if draft_model is None else ModelDrafter(open_reader(draft_model))
    if mtp:
        drafter = _mtp_drafter(reader)
    draws = _draws(reader, drafter, ids, forced, acceptance or Acceptance(), shared)
    return _steps(reader, draws, tokenizer, ids, sampling.max_new_tokens, stop or (lambda: False))


def _mtp_drafter(reader: NativeReader | TorchReader) -> Drafter:
    if isinstance(reader, NativeReader):
        return NativeMTPDrafter(reader)
    from axion.inference.torch_reader import MTPDrafter

    return MTPDrafter(reader)


def _check_draft_model(draft_model: Decodable, vocabulary: int, prompt_length: int) -> None:
    config = draft_model.config
    if config.vocab_size != vocabulary:
        raise AxionError(
            f"the draft model has {config.vocab_size} tokens, the model {vocabulary}; both must share a tokenizer"
        )
    if prompt_length > config.max_position_embeddings:
        raise AxionError(
            f"the prompt has {prompt_length} tokens, the draft model's context {config.max_position_embeddings}; "
            "shorten it, or generate without a draft model"
        )


def _check_mtp(model: Decodable, draft_model: Decodable | None) -> None:
    if not predicts(model):
        raise AxionError("the model has no layer of multi-token prediction to draft with; generate without it")
    if draft_model is not None:
        raise AxionError("a draft model and multi-token prediction cannot draft together; choose one of them")


def encode_prompt(tokenizer: PreTrainedTokenizerBase | StoredTokenizer, prompt: str) -> list[int]:
    """The prompt's token ids, including the one that begins a text.

    Raises:
        AxionError: the prompt is empty or not valid Unicode.
    """
    if not prompt:
        raise AxionError("the prompt is empty; give the model something to continue")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise AxionError("the prompt is not valid Unicode; give it in UTF-8") from None
    return tokenizer(prompt).input_ids


def _steps(
    reader: Reader,
    draws: Generator[Drawn],
    tokenizer: Tokenizer,
    ids: list[int],
    max_new_tokens: int,
    stop: Callable[[], bool],
) -> Generator[Step]:
    start = time.perf_counter()
    decoder = DecodeStream(skip_special_tokens=True)
    names: dict[int, str] = {}

    def name(token: int) -> str:
        if token not in names:
            names[token] = cast(str, tokenizer.decode([token]))  # of one list of ids it is one text
        return names[token]

    def text_of(token: int) -> str:
        return decoder.step(tokenizer.backend_tokenizer, token) or ""

    for position, (token, routing) in enumerate(zip(ids, reader.read(ids), strict=True)):
        yield Step(position, token, text_of(token), True, None, [], routing, time.perf_counter() - start)

    with closing(draws):
        for position in range(len(ids), len(ids) + min(max_new_tokens, reader.room)):
            if stop() or (drawn := next(draws, None)) is None:
                return
            alternatives = [(id_, name(id_), p) for id_, p in zip(drawn.top_ids, drawn.top_probabilities, strict=True)]
            text, seconds = text_of(drawn.token), time.perf_counter() - start
            yield Step(position, drawn.token, text, False, drawn.probability, alternatives, drawn.routing, seconds)


def _draws(
    reader: Reader,
    drafter: Drafter | None,
    ids: Sequence[int],
    forced: Sequence[int],
    acceptance: Acceptance,
    shared: SharedDraws | None,
) -> Generator[Drawn]:
    """Draws token after token, the forced ones first, until the text or the context ends.

    Args:
        ids: the prompt, which the reader has read.
    """
    for token in forced:
        if (drawn := reader.draw(token)) is None:
            return
        yield drawn
    if drafter is not None:
        drafter.read([*ids, *forced])
        yield from speculate(reader, drafter, acceptance)
        return
    if shared is not None and isinstance(reader, NativeReader):
        yield from shared.draws(reader)
        return
    while reader.room and (drawn := reader.draw()) is not None:
        yield drawn


def end_tokens(model: Decodable, tokenizer: PreTrainedTokenizerBase | StoredTokenizer) -> set[int]:
    """The ids of the tokens that end a text: the generation config's, else the tokenizer's."""
    if isinstance(model, StoredModel):
        return set(model.end_ids)
    ends = model.generation_config.eos_token_id if model.generation_config else None
    if ends is None:
        ends = cast(int | None, tokenizer.eos_token_id)
    if ends is None:
        return set()
    return set(ends) if isinstance(ends, list) else {ends}


def make_trace(
    release_name: str,
    model: AxionForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    sampling: Sampling,
    documents: Sequence[Sequence[int]] = (),
) -> dict:
    """The contents of a release's trace.json, format 1: one generation, and the experts' favourite tokens.

    A release adds the "language" of the generation, and more of them as "others", each with its "language", "prompt",
    "sampling" and "steps" (`publish.release.examples`).

    A step's lists "e", "g", "a" and "d" have one entry for each of "rows", the [layer, loop] of each pass through a
    layer with routed experts. Traces without "rows" have one for each of the model's last "layers" layers.

    Args:
        documents: token ids in which favourites are counted; none are counted without them.
    """
    from axion.inference.routing import expert_favourites

    model = with_loops(model, sampling.num_loops)
    rows = routing_rows(model.config)
    return {
        "format": 1,
        "model": release_name,
        "prompt": prompt,
        "sampling": asdict(sampling),
        "layers": len(rows),
        "rows": [list(row) for row in rows],
        "experts": model.config.n_routed_experts,
        "experts_per_token": model.config.num_experts_per_tok,
        "steps": [step.to_record() for step in stream(model, tokenizer, prompt, sampling)],
        "favourites": expert_favourites(model, tokenizer, documents) if documents else [],
    }
