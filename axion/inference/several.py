"""Writing many texts that nobody watches: on the kernels a batch at a time, in PyTorch with transformers' `generate`.

On the kernels each of torch's threads writes a batch of its own, and a text that ends makes room for the next one. The
tokens of a text depend on its prompt, the sampling settings and its seed alone, not on what is written beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList

from axion.data.batches import batches_by_length
from axion.inference.readers import pick_backend, set_sampling
from axion.inference.sampling import Sampling, Uniforms
from axion.inference.torch_reader import Sampler
from axion.inference.variants import with_loops
from axion.kernels.decoder import NativeDecoder, draw_several
from axion.model.modeling_axion import AxionForCausalLM

TEXTS_AT_ONCE = 48
"""How many texts one thread writes together, at most."""
CACHE_BYTES = 2**28
"""The most memory for the caches of one thread's texts; at least one text is written."""
PROMPT_TOKENS_PER_BATCH = 32_768
"""Of a batch in PyTorch, padding included."""

Done = Callable[[int], object]
"""Called from any thread with the number of texts that were finished since its last call."""


def write_texts(
    model: AxionForCausalLM,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    ends: set[int],
    seeds: Sequence[int] | None = None,
    backend: str = "auto",
    done: Done = lambda count: None,
) -> list[list[int]]:
    """The new tokens of each text: those that `stream` draws, up to rounding, without the one that ends the text.

    Args:
        prompts: token ids; a prompt without tokens, or one that leaves no room in the context, is not continued.
        sampling: of all texts; its seed is used where there are no `seeds`.
        ends: the tokens that end a text; see `axion.inference.stream.end_tokens`.
        seeds: one for each text.
        backend: see `axion.inference.readers.pick_backend`.

    Raises:
        AxionError: the backend cannot be used, the model cannot be looped, or a token is not in the vocabulary.
    """
    model = with_loops(model, sampling.num_loops)
    context = model.config.max_position_embeddings
    given = [sampling.seed] * len(prompts) if seeds is None else seeds
    texts = [_Text(prompt, seed, []) for prompt, seed in zip(prompts, given, strict=True)]
    asked = [text for text in texts if 0 < len(text.prompt) < context]
    done(len(texts) - len(asked))
    write = _write_native if pick_backend(model, backend).name == "native" else _write_torch
    write(model, asked, sampling, ends, done)
    return [text.tokens for text in texts]


@dataclass(frozen=True)
class _Text:
    prompt: Sequence[int]
    seed: int
    tokens: list[int]
    """Those that were written."""

    def room(self, sampling: Sampling, context: int) -> int:
        """How many more tokens may be written."""
        return min(sampling.max_new_tokens, context - len(self.prompt)) - len(self.tokens)


# --- On the kernels ---------------------------------------------------------------------------------------------------


def _write_native(
    model: AxionForCausalLM, texts: Sequence[_Text], sampling: Sampling, ends: set[int], done: Done
) -> None:
    # The longest prompts first, so that no thread starts a long text when the others have nothing left to do.
    waiting = deque(sorted(texts, key=lambda text: -len(text.prompt)))
    threads = max(1, min(torch.get_num_threads(), len(texts)))
    at_once = min(texts_at_once(model), -(-len(texts) // threads))
    with ThreadPoolExecutor(threads) as pool:
        working = [pool.submit(_write_share, model, waiting, at_once, sampling, ends, done) for _ in range(threads)]
        try:
            for work in working:
                work.result()
        finally:
            waiting.clear()  # after an error or Ctrl-C the other threads end soon


def texts_at_once(model: AxionForCausalLM) -> int:
    """How many texts one thread writes together, so that their caches take at most CACHE_BYTES."""
    config = model.config
    grouped = config.attention == "gqa"
    numbers = 2 * config.num_key_value_heads * config.head_dim if grouped else config.kv_lora_rank + config.head_dim
    of_text = 4 * (numbers * config.depth() + config.hidden_size) * config.max_position_embeddings
    return max(1, min(TEXTS_AT_ONCE, CACHE_BYTES // of_text))


class _Running(NamedTuple):
    text: _Text
    decoder: NativeDecoder
    uniforms: Uniforms


def _write_share(
    model: AxionForCausalLM, waiting: deque[_Text], at_once: int, sampling: Sampling, ends: set[int], done: Done
) -> None:
    """Takes texts from `waiting` and writes them, `at_once` together, until there are none left."""
    context = model.config.max_position_embeddings
    free = [NativeDecoder(model) for _ in range(at_once)]
    running: list[_Running] = []
    while True:
        while free and (text := _next(waiting)) is not None:
            decoder = free.pop()
            decoder.rewind(0)
            decoder.read(text.prompt)
            set_sampling(decoder, sampling, len(text.prompt), ends)
            running.append(_Running(text, decoder, Uniforms(text.seed)))
        if not running:
            return
        numbers = [one.uniforms[len(one.text.tokens)] if sampling.temperature else 0.0 for one in running]
        unfinished = []
        for one, token in zip(running, draw_several([one.decoder for one in running], numbers), strict=True):
            if token is not None:
                one.text.tokens.append(token)
            if token is None or not one.text.room(sampling, context):
                free.append(one.decoder)
            else:
                unfinished.append(one)
        if len(unfinished) < len(running):
            done(len(running) - len(unfinished))
        running = unfinished


def _next(waiting: deque[_Text]) -> _Text | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


# --- In PyTorch -------------------------------------------------------------------------------------------------------


def _write_torch(
    model: AxionForCausalLM, texts: Sequence[_Text], sampling: Sampling, ends: set[int], done: Done
) -> None:
    for batch in batches_by_length([text.prompt for text in texts], PROMPT_TOKENS_PER_BATCH):
        _write_batch(model, [texts[index] for index in batch], sampling, ends)
        done(len(batch))


@torch.inference_mode()
def _write_batch(model: AxionForCausalLM, texts: Sequence[_Text], sampling: Sampling, ends: set[int]) -> None:
    width, context = max(len(text.prompt) for text in texts), model.config.max_position_embeddings
    ids_BS = torch.zeros(len(texts), width, dtype=torch.long)
    mask_BS = torch.zeros_like(ids_BS)
    for text, ids_S, mask_S in zip(texts, ids_BS, mask_BS, strict=True):
        ids_S[width - len(text.prompt) :] = torch.as_tensor(text.prompt)
        mask_S[width - len(text.prompt) :] = 1
    draws = LogitsProcessorList([_Draws(texts, sampling, ends, width)])
    is_plain = (sampling.temperature, sampling.repetition_penalty, sampling.min_new_tokens) == (0, 1, 0)
    written_BS = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (hidden by transformers' lazy imports)
        input_ids=ids_BS.to(model.device),
        attention_mask=mask_BS.to(model.device),
        do_sample=False,
        max_new_tokens=max(text.room(sampling, context) for text in texts),
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends, default=0),
        logits_processor=None if is_plain else draws,
    )[:, width:].tolist()
    for text, tokens in zip(texts, written_BS, strict=True):
        end = next((index for index, token in enumerate(tokens) if token in ends), len(tokens))
        text.tokens.extend(tokens[: min(end, text.room(sampling, context))])


class _Draws(LogitsProcessor):
    """Leaves each text the token alone that its own sampler draws, for greedy search to take."""

    def __init__(self, texts: Sequence[_Text], sampling: Sampling, ends: set[int], width: int):
        self._width = width
        self._padding = [width - len(text.prompt) for text in texts]
        self._samplers = [Sampler(sampling, len(text.prompt), ends) for text in texts]
        self._uniforms = [Uniforms(text.seed) for text in texts]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """As transformers calls it: ids [B, S] and logits [B, V]."""
        index = input_ids.shape[1] - self._width
        drawn = [
            sample(sequence[padding:], logits_V, uniforms[index])
            for sample, sequence, padding, logits_V, uniforms in zip(
                self._samplers, input_ids.tolist(), self._padding, scores.float().cpu(), self._uniforms, strict=True
            )
        ]
        chosen_B1 = torch.tensor(drawn, device=scores.device).unsqueeze(-1)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen_B1, 0.0)  # pyright: ignore[reportReturnType]
