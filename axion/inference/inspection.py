"""One token of a text in full: where each head looks, the router's score of every expert, and the distributions of the
token itself and of the next one.

A stream of steps leaves these out, since they are many numbers; they are found again, exactly, by reading the text up
to the token.

Shape suffixes: P passes through all layers (`axion.inference.rows.layer_passes`), H heads, T tokens up to this one, L
routing rows, E experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from axion.errors import AxionError
from axion.inference.readers import pick_backend
from axion.inference.variants import with_loops, with_written_attention
from axion.kernels.decoder import NativeDecoder, check_tokens
from axion.kernels.stored import StoredModel

if TYPE_CHECKING:
    from axion.kernels.stored import Decodable
    from axion.model.modeling_axion import AxionForCausalLM


@dataclass(frozen=True)
class Inspection:
    """What a model computes when it reads one token. Nothing depends on how tokens are drawn."""

    attention_PHT: np.ndarray
    """How much each head looks at each token so far, this one last. Each row sums to 1."""
    affinities_LE: np.ndarray
    """The router's sigmoid score of every expert, before the balancing bias."""
    logits_before_V: np.ndarray | None
    """The logits that the token was drawn from; None for the first token."""
    logits_after_V: np.ndarray
    """The logits of the next token."""


def inspect(
    model: Decodable, ids: Sequence[int], position: int, num_loops: int = 0, backend: str = "auto"
) -> Inspection:
    """What the model computes when it reads the token at a position, counted from 0.

    Args:
        ids: the text; what follows the position changes nothing.
        num_loops: how often a looped model runs its shared layers; 0 for as often as its config says.
        backend: see `pick_backend`.

    Raises:
        AxionError: there is no token at that position, or it lies outside of the context; a token is not in the
            vocabulary; the backend cannot be used; the model cannot be looped.
    """
    if not 0 <= position < len(ids):
        raise AxionError(f"no token at position {position}; the text has {len(ids)} tokens, counted from 0")
    model = with_loops(model, num_loops)
    read = list(ids[: position + 1])
    check_tokens(read, model.config.max_position_embeddings, model.config.vocab_size)
    if pick_backend(model, backend).name == "native":
        return _with_kernels(model, read)
    if isinstance(model, StoredModel):
        raise AxionError("a stored model is read by the kernels alone; open the release's model for PyTorch")
    return _with_torch(model, read)


def _with_kernels(model: Decodable, ids: list[int]) -> Inspection:
    decoder, before_V = NativeDecoder(model), None
    if len(ids) > 1:
        decoder.read(ids[:-1])
        before_V = decoder.logits_array()
    attention_PHT, affinities_LE = decoder.read_watched(ids[-1])
    return Inspection(attention_PHT, affinities_LE, before_V, decoder.logits_array())


def _with_torch(model: AxionForCausalLM, ids: list[int]) -> Inspection:
    import torch

    with torch.inference_mode():
        output = with_written_attention(model)(
            torch.tensor([ids], device=model.device),
            use_cache=False,
            output_attentions=True,
            output_router_logits=True,
            logits_to_keep=2,
        )
        attention_PHT = torch.stack([weights_BHST[0, :, -1] for weights_BHST in output.attentions])
        scores = [logits_TE[-1].sigmoid() for logits_TE in output.router_logits or ()]
        affinities_LE = torch.stack(scores) if scores else torch.empty(0, model.config.n_routed_experts)
        *before, after_V = output.logits[0].float().cpu().numpy()
    return Inspection(
        attention_PHT.float().cpu().numpy(), affinities_LE.float().cpu().numpy(), before[0] if before else None, after_V
    )
