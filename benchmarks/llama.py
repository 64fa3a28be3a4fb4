"""llama.cpp through its C API. It samples the tokens itself, so Python adds little overhead."""

from collections.abc import Sequence
from pathlib import Path

import llama_cpp as c  # pyright: ignore[reportMissingImports] (compiled by make bench-llama)

from axion.errors import AxionError


class Llama:
    """One GGUF file, decoded greedily with llama.cpp's defaults for cache and attention.

    Args:
        file: the model.
        threads: for both prefill and decoding.
        batch: how many texts `batch` generates at once.

    Raises:
        AxionError: llama.cpp cannot load it.
    """

    def __init__(self, file: Path, threads: int, batch: int) -> None:
        self._quiet = c.llama_log_callback(lambda *_: None)  # keeps the callback alive: llama.cpp calls it later
        c.llama_log_set(self._quiet, None)
        self._model = c.llama_model_load_from_file(str(file).encode(), c.llama_model_default_params())
        if not self._model:
            raise AxionError(f"llama.cpp cannot load {file.name}")
        self.context = c.llama_model_n_ctx_train(self._model)
        self.vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self._model))
        self._alone = self._new_context(threads, 1)
        self._together = self._new_context(threads, batch)
        self._sampler = c.llama_sampler_init_greedy()
        self._one = (c.llama_token * 1)()

    def read(self, ids: Sequence[int]) -> None:
        """Clear the cache and prefill a prompt."""
        c.llama_memory_clear(c.llama_get_memory(self._alone), False)
        tokens = (c.llama_token * len(ids))(*ids)  # the batch alone would not keep the array alive
        self._decode(self._alone, c.llama_batch_get_one(tokens, len(ids)))

    def continue_text(self, count: int) -> list[int]:
        """Generate and read `count` tokens."""
        tokens = []
        for _ in range(count):
            self._one[0] = c.llama_sampler_sample(self._sampler, self._alone, -1)
            tokens.append(self._one[0])
            self._decode(self._alone, c.llama_batch_get_one(self._one, 1))
        return tokens

    def write(self, prompt: Sequence[int], count: int) -> list[int]:
        """Generate `count` tokens after a prompt; the last one is not read."""
        self.read(prompt)
        return [*self.continue_text(count - 1), c.llama_sampler_sample(self._sampler, self._alone, -1)]

    def batch(self, prompts: list[list[int]], count: int) -> None:
        """Generate several texts at once, each a sequence in the cache; all prompts have the same length."""
        c.llama_memory_clear(c.llama_get_memory(self._together), False)
        length = len(prompts[0])
        batch = c.llama_batch_init(len(prompts) * length, 0, 1)
        try:
            for row, prompt in enumerate(prompts):
                for position, token in enumerate(prompt):
                    self._put(batch, row * length + position, token, position, row, position == length - 1)
            batch.n_tokens = len(prompts) * length
            self._decode(self._together, batch)
            ends = [row * length + length - 1 for row in range(len(prompts))]
            for position in range(length, length + count - 1):
                drawn = [c.llama_sampler_sample(self._sampler, self._together, end) for end in ends]
                for row, token in enumerate(drawn):
                    self._put(batch, row, token, position, row, True)
                batch.n_tokens = len(prompts)
                self._decode(self._together, batch)
                ends = range(len(prompts))
        finally:
            c.llama_batch_free(batch)

    def _new_context(self, threads: int, texts: int) -> c.llama_context_p:
        settings = c.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = self.context * texts
        settings.n_seq_max = texts
        settings.n_threads = settings.n_threads_batch = threads
        context = c.llama_init_from_model(self._model, settings)
        if not context:
            raise AxionError("llama.cpp cannot allocate a context for this model")
        return context

    @staticmethod
    def _put(batch: c.llama_batch, place: int, token: int, position: int, text: int, wants_logits: bool) -> None:
        batch.token[place], batch.pos[place] = token, position
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, text
        batch.logits[place] = wants_logits

    @staticmethod
    def _decode(context: c.llama_context_p, batch: c.llama_batch) -> None:
        if code := c.llama_decode(context, batch):
            raise AxionError(f"llama_decode returned {code}")
