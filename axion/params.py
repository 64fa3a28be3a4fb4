"""Parameter counts, in total and by component, and the size of the key-value cache.

A mixture of experts has three sizes, which are always shown together: all of its parameters, those that one token
passes through, and the embedding table among them.
"""

from __future__ import annotations

import re
from collections import Counter
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import chain

import torch
from torch import nn

from axion.errors import AxionError, one_line
from axion.families import ROUTED_EXPERTS, Family, family_of
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM

BYTES_PER_VALUE = 4
"""Releases are opened in fp32, and so are the values of their cache."""


def first_non_finite(model: nn.Module) -> str | None:
    """The name of the first parameter or buffer with a NaN or infinite value; None if all values are finite."""
    tensors = chain(model.named_parameters(), model.named_buffers())
    return next((name for name, tensor in tensors if not torch.isfinite(tensor).all()), None)


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


def count_parameters(config: AxionConfig, family: Family | None = None) -> ParameterCounts:
    """Counts the weights of a model of any size, without allocating them.

    Args:
        config: the model's configuration.
        family: names its components; by default the family that describes `config`.

    Raises:
        AxionError: a single weight has more values than 64 bits can count.
    """
    family = family or family_of(config)
    # one layer of each kind stands for all: thousands of layers would take minutes to build
    dense, mixtures = config.first_k_dense_replace, len(config.mixture_layers)
    layers = [count for count in (dense, mixtures) if count]
    small = deepcopy(config)
    small.first_k_dense_replace, small.num_hidden_layers = min(dense, 1), len(layers)
    try:
        with torch.device("meta"):
            model = AxionForCausalLM(small)
    except RuntimeError as error:
        raise AxionError(f"the model is too large to be built: {one_line(error)}") from None
    components: Counter[str] = Counter()
    active: Counter[str] = Counter()
    for name, weight in model.named_parameters():  # names a tied weight once
        component = family.component(name)
        layer = re.search(r"\blayers\.(\d+)\.", name)
        times = layers[int(layer[1])] if layer else 1
        components[component] += times * weight.numel()
        read = weight[: config.num_experts_per_tok] if component == ROUTED_EXPERTS else weight
        active[component] += times * read.numel()
    embedding = components["embedding"]
    return ParameterCounts(
        total=components.total(),
        active=active.total(),
        embedding=embedding,
        active_without_embedding=active.total() - embedding,
        components=dict(components),
        active_components=dict(active),
    )


def report(name: str, config: AxionConfig, family: Family | None = None) -> dict:
    """Counts and cache sizes as one JSON object, which `axion params NAME --json` prints."""
    family = family or family_of(config)
    kept, plain = family.cache_values(config)
    per_token = config.num_hidden_layers * BYTES_PER_VALUE
    return {
        "version": name,
        **asdict(count_parameters(config, family)),
        "cache": {
            "values_per_token_and_layer": kept,
            "plain_values_per_token_and_layer": plain,
            "bytes_per_token": kept * per_token,
            "plain_bytes_per_token": plain * per_token,
            "bytes_per_value": BYTES_PER_VALUE,
        },
    }


def table(report: dict) -> str:
    """The report as a table: the three sizes, every component, the cache."""
    rows = [(name, size, report["active_components"][name]) for name, size in report["components"].items()]
    whole = ("all", report["total"], report["active"])
    bare = ("without embedding", report["total"] - report["embedding"], report["active_without_embedding"])
    width = max(len(name) for name, *_ in [*rows, whole, bare])
    rule = "─" * (width + 31)

    def line(row: tuple[str, int, int]) -> str:
        return f"{row[0]:{width}}  {row[1]:>11,}  {row[2]:>16,}"

    cache = report["cache"]
    values, plain_values = cache["values_per_token_and_layer"], cache["plain_values_per_token_and_layer"]
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
            "",
            f"cache per token and layer   {values:>7,} values   plain multi-head attention {plain_values:>7,}",
            f"cache per token, fp32       {cache['bytes_per_token']:>7,} bytes "
            f"   plain multi-head attention {cache['plain_bytes_per_token']:>7,}",
        ]
    )
