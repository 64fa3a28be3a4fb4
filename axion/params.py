"""Parameter counts, in total and by component, and the size of the key-value cache.

A mixture of experts has three sizes, which are always shown together: all of its parameters, those that one token
passes through, and the embedding table among them. A layer of multi-token prediction is in none of them: DeepSeek, too,
counts it apart from the main model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING

from axion.errors import AxionError
from axion.families import ROUTED_EXPERTS, cache_values, component
from axion.weights import (
    ROUTING_BIAS,
    Shapes,
    layer_shapes,
    prediction_shapes,
    shapes_after_layers,
    shapes_before_layers,
)

if TYPE_CHECKING:
    from torch import nn

    from axion.model.shape_axion import AxionShape

MOST_VALUES = 2**63 - 1
"""The most values of a tensor, which PyTorch counts with 64 bits."""

BYTES_PER_VALUE = 4
"""Releases are opened in fp32, and so are the values of their cache."""


def first_non_finite(model: nn.Module) -> str | None:
    """The name of the first parameter or buffer with a NaN or infinite value; None if all values are finite."""
    tensors = chain(model.named_parameters(), model.named_buffers())
    return next((name for name, tensor in tensors if not tensor.isfinite().all()), None)


@dataclass(frozen=True)
class ParameterCounts:
    total: int
    """All weights; tied ones count once."""
    active: int
    """What one token passes through: the total without the routed experts that were not chosen for it."""
    embedding: int
    """The token embeddings (the output head too, where the two are tied)."""
    active_without_embedding: int
    components: dict[str, int]
    """Component → all of its weights; they add up to the total."""
    active_components: dict[str, int]
    """Component → those of its weights that one token passes through; they add up to the active."""
    multi_token_prediction: int
    """Weights of the layer that predicts the token after the next, which are in none of the other counts."""


def count_parameters(config: AxionShape) -> ParameterCounts:
    """Counts the weights of a model of any size, without allocating them.

    Raises:
        AxionError: a single weight has more values than 64 bits can count.
    """
    components: Counter[str] = Counter()
    active: Counter[str] = Counter()
    for times, shapes in _parts(config):
        for name, shape in shapes.items():
            if name.endswith(ROUTING_BIAS):
                continue
            size, part = math.prod(shape), component(name)
            if size > MOST_VALUES:
                raise AxionError(f"the model is too large to be built: {name} would have {size:,} values")
            components[part] += times * size
            if part == ROUTED_EXPERTS:  # as large as all experts together
                size = size // config.n_routed_experts * config.num_experts_per_tok
            active[part] += times * size
    after = prediction_shapes(config) if config.num_nextn_predict_layers else {}
    embedding = components["embedding"]
    return ParameterCounts(
        total=components.total(),
        active=active.total(),
        embedding=embedding,
        active_without_embedding=active.total() - embedding,
        components=dict(components),
        active_components=dict(active),
        multi_token_prediction=sum(math.prod(after[name]) for name in after if not name.endswith(ROUTING_BIAS)),
    )


def _parts(config: AxionShape) -> Iterator[tuple[int, Shapes]]:
    """How often each part of a model is there, and its weights; all layers of a kind have the same."""
    dense, mixtures = config.first_k_dense_replace, len(config.mixture_layers)
    yield 1, shapes_before_layers(config)
    if dense:
        yield dense, layer_shapes(config, 0)
    if mixtures:
        yield mixtures, layer_shapes(config, dense)
    yield 1, shapes_after_layers(config)


def report(name: str, config: AxionShape) -> dict:
    """Counts and cache sizes as one JSON object, which `axion params NAME --json` prints."""
    kept, plain = cache_values(config)
    depth = config.depth()
    per_token = depth * BYTES_PER_VALUE
    return {
        "version": name,
        **asdict(count_parameters(config)),
        "layers": config.num_hidden_layers,
        "depth": depth,  # layers that a token passes through, where some are looped
        "cache": {
            "values_per_token_and_layer": kept,
            "plain_values_per_token_and_layer": plain,
            "bytes_per_token": kept * per_token,
            "plain_bytes_per_token": plain * per_token,
            "bytes_per_value": BYTES_PER_VALUE,
        },
    }


def table(report: dict) -> str:
    """The report as a table: the three sizes, every component, multi-token prediction, depth and cache."""
    rows = [(name, size, report["active_components"][name]) for name, size in report["components"].items()]
    whole = ("all", report["total"], report["active"])
    bare = ("without embedding", report["total"] - report["embedding"], report["active_without_embedding"])
    width = max(len(name) for name, *_ in [*rows, whole, bare])
    rule = "─" * (width + 31)

    def line(row: tuple[str, int, int]) -> str:
        return f"{row[0]:{width}}  {row[1]:>11,}  {row[2]:>16,}"

    cache = report["cache"]
    values, plain_values = cache["values_per_token_and_layer"], cache["plain_values_per_token_and_layer"]
    looped = f"; with its loops, a token passes through {report['depth']}" if report["depth"] > report["layers"] else ""
    further = report["multi_token_prediction"]
    return "\n".join(
        [
            f"{report['version']}: {report['total']:,} parameters, {report['active']:,} active per token, "
            f"{report['embedding']:,} of these in the embedding",
            "",
            f"{'':{width}}  {'total':>11}  {'active per token':>16}",
            rule,
            *map(line, rows),
            rule,
            line(whole),
            line(bare),
            *([f"counted apart: multi-token prediction with {further:,} parameters"] if further else []),
            "",
            f"{report['layers']} layers{looped}",
            f"cache per token and layer   {values:>7,} values   plain multi-head attention {plain_values:>7,}",
            f"cache per token, fp32       {cache['bytes_per_token']:>7,} bytes "
            f"   plain multi-head attention {cache['plain_bytes_per_token']:>7,}",
        ]
    )
