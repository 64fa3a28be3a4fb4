"""How likely a model finds given texts, token by token; on the kernels, where they can be used, or in PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from axion.data.batches import TOKENS_PER_BATCH, batches_by_length
from axion.inference.readers import pick_backend
from axion.kernels.decoder import NativeDecoder, check_tokens
from axion.model.modeling_axion import AxionForCausalLM

TOGETHER = 64
"""Texts that a thread takes at a time."""


class Scores(NamedTuple):
    """How likely a model finds a text."""

    log_probabilities_T: np.ndarray
    """[T − 1], in nats, of each token but the first, after those before it."""
    right_T: np.ndarray
    """[T − 1]: whether the token is the likeliest one there."""


def log_probabilities(
    model: AxionForCausalLM, texts: Sequence[Sequence[int] | np.ndarray], backend: str = "auto"
) -> list[np.ndarray]:
    """The log probability [T − 1], in nats, of each token of each text but the first, after those before it.

    Args:
        model: in eval mode.
        texts: token ids, at least one in each text and at most the context.
        backend: see `axion.inference.readers.pick_backend`.

    Raises:
        AxionError: a text is empty or too long, or has a token outside of the vocabulary; the backend cannot be used.
    """
    return [scores.log_probabilities_T for scores in _score(model, texts, backend, predict=False)]


def score_texts(
    model: AxionForCausalLM, texts: Sequence[Sequence[int] | np.ndarray], backend: str = "auto"
) -> list[Scores]:
    """As `log_probabilities`, and which of the tokens the model would have predicted."""
    return _score(model, texts, backend, predict=True)


def _score(
    model: AxionForCausalLM, texts: Sequence[Sequence[int] | np.ndarray], backend: str, predict: bool
) -> list[Scores]:
    """Without `predict` no token counts as right, which saves looking for the likeliest ones."""
    lists: list[list[int]] = [ids.tolist() if isinstance(ids, np.ndarray) else [*ids] for ids in texts]
    if pick_backend(model, backend).name == "native":
        return _score_native(model, lists, predict)
    return _score_torch(model, lists)


_NONE = Scores(np.empty(0, np.float32), np.empty(0, bool))


def _score_native(model: AxionForCausalLM, texts: list[list[int]], predict: bool) -> list[Scores]:
    """Each of torch's threads scores some of the texts. Of those that begin alike the beginning is read once."""
    scores = [_NONE] * len(texts)
    order = sorted(range(len(texts)), key=lambda index: texts[index])  # those that begin alike follow each other
    waiting = deque(order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER))

    def read(decoder: NativeDecoder, ids: list[int]) -> Scores:
        if not predict:
            scores_T = decoder.score(ids)
            return Scores(scores_T, np.zeros(len(scores_T), bool))
        scores_T, likeliest_T = decoder.score_and_predict(ids)
        return Scores(scores_T, likeliest_T == ids[1:])

    def work() -> None:
        decoder = NativeDecoder(model)
        while waiting:
            try:
                indices = waiting.popleft()
            except IndexError:  # another thread took them
                return
            before, last = list[int](), _NONE  # which text a thread had last must not matter
            for index in indices:
                ids = texts[index]
                # the last token of the shared beginning is read again, because it predicts what follows
                known = max(0, min(_shared_length(before, ids), len(ids) - 1) - 1)
                decoder.rewind(known)
                rest = read(decoder, ids[known:])
                last = Scores(*(np.concatenate([old[:known], new]) for old, new in zip(last, rest, strict=True)))
                before, scores[index] = ids, last

    threads = max(1, min(torch.get_num_threads(), len(waiting)))
    with ThreadPoolExecutor(threads) as pool:
        for working in [pool.submit(work) for _ in range(threads)]:
            working.result()
    return scores


def _shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    shortest = min(len(first), len(second))
    return next((place for place in range(shortest) if first[place] != second[place]), shortest)


@torch.inference_mode()
def _score_torch(model: AxionForCausalLM, texts: Sequence[Sequence[int]]) -> list[Scores]:
    for ids in texts:
        check_tokens(ids, model.config.max_position_embeddings, model.config.vocab_size)
    scores = [_NONE] * len(texts)
    for batch in batches_by_length(texts, TOKENS_PER_BATCH):
        # Right padding needs no mask: with causal attention no real token sees it.
        rows = [torch.as_tensor(texts[index], dtype=torch.long) for index in batch]
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        logits_BSV = model(input_ids, use_cache=False).logits[:, :-1]
        losses_BS = torch.nn.functional.cross_entropy(
            logits_BSV.float().transpose(1, 2), input_ids[:, 1:], reduction="none"
        )
        right_BS = (logits_BSV.argmax(-1) == input_ids[:, 1:]).cpu().numpy()
        for index, losses_S, right_S in zip(batch, losses_BS.cpu().numpy(), right_BS, strict=True):
            length = len(texts[index]) - 1
            scores[index] = Scores(-losses_S[:length], right_S[:length])
    return scores
