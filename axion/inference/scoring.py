"""How likely a model finds given texts, token by token; on the kernels, where they can be used, or in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import torch

from axion.data.batches import TOKENS_PER_BATCH, batches_by_length
from axion.inference.readers import pick_backend
from axion.kernels.decoder import NativeDecoder, check_tokens
from axion.model.modeling_axion import AxionForCausalLM


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
    texts = [ids.tolist() if isinstance(ids, np.ndarray) else ids for ids in texts]
    if pick_backend(model, backend).name == "native":
        return _score_native(model, texts)
    return _score_torch(model, texts)


def _score_native(model: AxionForCausalLM, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
    threads = max(1, min(torch.get_num_threads(), len(texts)))
    free: SimpleQueue[NativeDecoder] = SimpleQueue()  # a decoder for each thread
    for _ in range(threads):
        free.put(NativeDecoder(model))

    def score(ids: Sequence[int]) -> np.ndarray:
        decoder = free.get()
        try:
            decoder.rewind(0)
            return decoder.score(ids)
        finally:
            free.put(decoder)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(score, texts))


@torch.inference_mode()
def _score_torch(model: AxionForCausalLM, texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
    for ids in texts:
        check_tokens(ids, model.config.max_position_embeddings, model.config.vocab_size)
    scores = [np.empty(0, np.float32)] * len(texts)
    for batch in batches_by_length(texts, TOKENS_PER_BATCH):
        # Right padding needs no mask: with causal attention no real token sees it.
        rows = [torch.as_tensor(texts[index], dtype=torch.long) for index in batch]
        input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        logits_BSV = model(input_ids, use_cache=False).logits[:, :-1]
        losses_BS = torch.nn.functional.cross_entropy(
            logits_BSV.float().transpose(1, 2), input_ids[:, 1:], reduction="none"
        )
        for index, losses_S in zip(batch, losses_BS.cpu().numpy(), strict=True):
            scores[index] = -losses_S[: len(texts[index]) - 1]
    return scores
