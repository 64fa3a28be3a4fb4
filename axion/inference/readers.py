"""What reads tokens and draws the next ones: the compiled kernels, or the PyTorch model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from transformers.cache_utils import DynamicCache

from axion.inference.routing import Explainer
from axion.inference.sampling import Picker, Sampling, uniforms
from axion.kernels.backend import Choice, choose
from axion.kernels.decoder import ALTERNATIVES, NativeDecoder, hindrance
from axion.model.modeling_axion import AxionForCausalLM


def pick_backend(model: AxionForCausalLM, backend: str = "auto") -> Choice:
    """What reads the tokens: "native" are the compiled kernels, "torch" the model itself, "auto" the faster that can.

    The kernels are compiled here if they never were for a model of these dimensions.

    Raises:
        AxionError: another name, or "native" where the kernels cannot be used.
    """
    obstacle = None if backend == "torch" else hindrance(model)
    return choose(backend, model.config, model.device.type, obstacle)


class Drawn(NamedTuple):
    """A token that was drawn and read; the fields are those of Step."""

    token: int
    probability: float
    top_ids: list[int]
    top_probabilities: list[float]
    routing: dict[str, list]


class Reader(Protocol):
    """A model that has read some tokens, and draws the next ones."""

    def __init__(self, model: AxionForCausalLM, sampling: Sampling, prompt_length: int, end_ids: set[int]): ...

    def read(self, ids: Sequence[int]) -> list[dict[str, list]]:
        """Reads the prompt; returns each token's routing, named as in Step."""

    def draw(self, forced: int | None) -> Drawn | None:
        """Draws a token, takes the forced one instead if there is one, and reads it; None when it ends the text."""


class NativeReader:
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
        self.uniforms = uniforms(sampling)

    def read(self, ids: Sequence[int]) -> list[dict[str, list]]:
        self.decoder.read(ids)
        return [self.decoder.routing(position) for position in range(len(ids))]

    def draw(self, forced: int | None) -> Drawn | None:
        token = self.decoder.draw(next(self.uniforms), -1 if forced is None else forced)
        if token is None:
            return None
        return Drawn(token, *self.decoder.chances(), self.decoder.routing(self.decoder.length - 1))


class TorchReader:
    """The model itself, the reference."""

    def __init__(self, model: AxionForCausalLM, sampling: Sampling, prompt_length: int, end_ids: set[int]):
        self.model = model
        self.pick = Picker(sampling, prompt_length, end_ids)
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
    def draw(self, forced: int | None) -> Drawn | None:
        token = self.pick(self.sequence, self.logits)
        if forced is not None:
            token = forced
        if token in self.end_ids:
            return None
        probabilities_V = self.logits[0].softmax(-1)
        top = probabilities_V.topk(min(ALTERNATIVES, len(probabilities_V)))
        probability = probabilities_V[token].item()
        return Drawn(token, probability, top.indices.tolist(), top.values.tolist(), *self.read([token]))
