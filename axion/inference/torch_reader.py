"""The reference for readers: how PyTorch reads, draws and drafts, with the filters of transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import DynamicCache
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from axion.errors import AxionError
from axion.inference.readers import Drawn
from axion.inference.routing import RoutingRecorder
from axion.inference.rows import TokenRouting
from axion.inference.sampling import Sampling, Uniforms
from axion.kernels.decoder import check_tokens, check_vocabulary
from axion.kernels.dimensions import ALTERNATIVES
from axion.model.modeling_axion import AxionForCausalLM


class Sampler:
    """Chooses the next token, with the filters of transformers' `generate` in their order.

    Args:
        prompt_length: tokens before the first new one.
        end_ids: the tokens that end a text, which `min_new_tokens` suppresses.
        processors: what changes the logits before all filters.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt_length: int,
        end_ids: set[int],
        processors: Sequence[LogitsProcessor] = (),
    ):
        filters = LogitsProcessorList(processors)
        if sampling.repetition_penalty != 1:
            filters.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
        if sampling.min_new_tokens > 0 and end_ids:
            filters.append(MinNewTokensLengthLogitsProcessor(prompt_length, sampling.min_new_tokens, sorted(end_ids)))
        self._greedy = sampling.temperature == 0
        if not self._greedy:
            filters.append(TemperatureLogitsWarper(sampling.temperature))
            if sampling.top_k > 0:
                filters.append(TopKLogitsWarper(sampling.top_k))
            if sampling.top_p < 1:
                filters.append(TopPLogitsWarper(sampling.top_p))
            if sampling.min_p > 0:
                filters.append(MinPLogitsWarper(sampling.min_p))
        self._filters = filters

    def __call__(self, sequence: Sequence[int], logits_V: torch.Tensor, uniform: float) -> int:
        """The token after `sequence`: the inverse of the cumulative distribution, in token order, at `uniform`.

        Args:
            logits_V: the model's logits [V] after `sequence`, on the CPU.
            uniform: a random number in [0, 1); unused at temperature 0.
        """
        input_ids = torch.LongTensor([list(sequence)])
        scores_V = self._filters(input_ids, logits_V.unsqueeze(0).clone())[0]
        if self._greedy:
            return int(scores_V.argmax())
        cumulative_V = scores_V.double().softmax(-1).cumsum(-1)
        return int(torch.searchsorted(cumulative_V, uniform * cumulative_V[-1], right=True))


class TorchReader:
    """A reader on the PyTorch model, the reference.

    Args:
        processors: see `Sampler`.
    """

    def __init__(
        self,
        model: AxionForCausalLM,
        sampling: Sampling,
        prompt_length: int,
        end_ids: set[int],
        processors: Sequence[LogitsProcessor] = (),
    ):
        self.model = model
        self._sample = Sampler(sampling, prompt_length, end_ids, processors)
        self._uniforms = Uniforms(sampling.seed)
        self._prompt_length = prompt_length
        self._end_ids = end_ids
        self._cache = DynamicCache(config=model.config)
        self._record_routing = RoutingRecorder(model)
        self._sequence: list[int] = []
        self._next_logits_V: torch.Tensor | None = None
        # the layer of multi-token prediction reads what the decoder computed for every token
        shape = (model.config.max_position_embeddings, model.config.hidden_size)
        self._hidden_SD = None if model.mtp is None else torch.empty(shape, dtype=model.dtype, device=model.device)

    @property
    def length(self) -> int:
        return len(self._sequence)

    @property
    def room(self) -> int:
        return self.model.config.max_position_embeddings - self.length

    def read(self, ids: Sequence[int]) -> list[TokenRouting]:
        check_tokens(ids, self.room, self.model.config.vocab_size)
        logits_1V, routing = self._pass(ids, 1)
        self._next_logits_V = logits_1V[0]
        return routing

    def choose(self) -> int | None:
        uniform = self._uniforms[self.length - self._prompt_length]
        token = self._sample(self._sequence, self._find_next_logits(), uniform)
        return None if token in self._end_ids else token

    def choose_after(self, token: int, logits_V: torch.Tensor) -> int | None:
        """The token that would be drawn from these logits after `token`, which was not read; None for an end."""
        uniform = self._uniforms[self.length + 1 - self._prompt_length]
        chosen = self._sample([*self._sequence, token], logits_V, uniform)
        return None if chosen in self._end_ids else chosen

    def read_since(self, start: int) -> tuple[list[int], torch.Tensor]:
        """The tokens from position `start`, and the decoder's normed output `[S, D]` for each.

        Only of a model with its layer of multi-token prediction.
        """
        assert self._hidden_SD is not None
        return self._sequence[start:], self._hidden_SD[start : self.length]

    def draw(self, forced: int | None = None) -> Drawn | None:
        if forced is not None:
            check_vocabulary([forced], self.model.config.vocab_size)
        if self.room == 0:
            raise AxionError("the context is full")
        token = self.choose() if forced is None else forced
        if token is None or token in self._end_ids:
            return None
        probabilities = _probabilities(token, self._find_next_logits())
        return Drawn(token, *probabilities, *self.read([token]))

    def verify(self, draft: Sequence[int]) -> list[Drawn]:
        start, first = self.length, self.length - self._prompt_length
        uniforms = [self._uniforms[first + index] for index in range(len(draft))]
        check_tokens(draft, self.room, self.model.config.vocab_size)
        first_V = self._find_next_logits()
        after_TV, routing = self._pass(draft, len(draft))
        logits = [first_V, *after_TV]  # logits[i] are those that draft[i] is drawn from
        kept: list[Drawn] = []
        for token, logits_V, uniform, token_routing in zip(draft, logits, uniforms, routing, strict=False):
            read = self._sequence[: start + len(kept)]
            if token in self._end_ids or token != self._sample(read, logits_V, uniform):
                break
            kept.append(Drawn(token, *_probabilities(token, logits_V), token_routing))
        self.rewind(start + len(kept))
        self._next_logits_V = logits[len(kept)]
        return kept

    def rewind(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise AxionError(f"cannot rewind to {length} tokens; {self.length} were read")
        if length < self.length:
            self._cache.crop(length - self.length)  # a negative number of tokens is removed from the end
            del self._sequence[length:]
            self._next_logits_V = None

    @torch.inference_mode()
    def _pass(self, ids: Sequence[int], logits_to_keep: int) -> tuple[torch.Tensor, list[TokenRouting]]:
        """Reads tokens; returns the logits [T, V] after the last `logits_to_keep` of them, and the routing of each.

        Tokens are drawn on the CPU, wherever the model is: its results are the same on every machine.
        """
        output = self.model.model(
            torch.tensor([list(ids)], device=self.model.device),
            past_key_values=self._cache,
            use_cache=True,
            output_router_logits=True,
        )
        hidden_TD = output.last_hidden_state[0]
        if self._hidden_SD is not None:
            self._hidden_SD[self.length : self.length + len(ids)] = hidden_TD
        self._sequence.extend(ids)
        logits_TV = self.model.lm_head(hidden_TD[-logits_to_keep:])
        return logits_TV.float().cpu(), self._record_routing(output.router_logits, len(ids))

    def _find_next_logits(self) -> torch.Tensor:
        """The logits [V] of the next token; after a rewind, the last token has to be read again for them."""
        if self._next_logits_V is None:
            if not self._sequence:
                raise AxionError("nothing was read yet; read a prompt first")
            last = self._sequence[-1]
            self.rewind(self.length - 1)
            self.read([last])
            assert self._next_logits_V is not None
        return self._next_logits_V


@torch.inference_mode()
def _probabilities(token: int, logits_V: torch.Tensor) -> tuple[float, list[int], list[float]]:
    """The model's own probability of the token, the likeliest tokens and theirs."""
    probabilities_V = logits_V.softmax(-1)
    top = probabilities_V.topk(min(ALTERNATIVES, len(probabilities_V)))
    return probabilities_V[token].item(), top.indices.tolist(), top.values.tolist()


class MTPDrafter:
    """`NativeMTPDrafter` in PyTorch, with a cache of its own.

    Args:
        reader: the one that verifies, of a model with that layer.
    """

    def __init__(self, reader: TorchReader):
        self._reader = reader
        self._cache = DynamicCache()  # position i is there once token i + 1 is known

    def read(self, ids: Sequence[int]) -> None:
        """Nothing: the next guess starts from what the reader has read."""

    @torch.inference_mode()
    def guess(self, token: int, most: int) -> list[int]:
        if most < 1:
            return []
        model, start = self._reader.model, self._cache.get_seq_length()
        sequence, hidden_SD = self._reader.read_since(start)
        next_ids = torch.tensor([[*sequence[1:], token]], device=model.device)
        predicted_1SD = model.mtp_hidden(next_ids, hidden_SD.unsqueeze(0), cache=self._cache)
        guess = self._reader.choose_after(token, model.lm_head(predicted_1SD[0, -1]).float().cpu())
        return [] if guess is None else [guess]

    def rewind(self, length: int) -> None:
        if (surplus := self._cache.get_seq_length() - max(length - 1, 0)) > 0:
            self._cache.crop(-surplus)
