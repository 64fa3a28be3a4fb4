"""How many parameters a model has, where they sit, and what its cache costs.

A mixture of experts has three honest sizes, always shown together: all of its parameters, those that one token passes
through, and the embedding table among them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

import torch

from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM

BYTES_PER_VALUE = 4
"""The cache's values are fp32, as a release is opened."""


@dataclass(frozen=True)
class ParameterCounts:
    total: int
    """Every weight, tied ones once."""
    active: int
    """What one token passes through: the total without the weights of the routed experts that it does not choose."""
    embedding: int
    """The token embeddings (the output head too, where the two are tied)."""
    active_without_embedding: int
    components: dict[str, int]
    """Component → all of its weights; they add up to the total."""
    active_components: dict[str, int]
    """Component → those of its weights that one token passes through; they add up to the active."""


def count_parameters(config: AxionConfig) -> ParameterCounts:
    """Counts the weights of a model built on the meta device: no memory, no formula."""
    with torch.device("meta"):
        model = AxionForCausalLM(config)
    components: Counter[str] = Counter()
    active: Counter[str] = Counter()
    for name, weight in model.named_parameters():  # names a tied weight once
        component = _component(name)
        components[component] += weight.numel()
        read = weight[: config.num_experts_per_tok] if component == "routed experts" else weight  # experts are [E, …]
        active[component] += read.numel()
    embedding = components["embedding"]
    return ParameterCounts(
        total=components.total(),
        active=active.total(),
        embedding=embedding,
        active_without_embedding=active.total() - embedding,
        components=dict(components),
        active_components=dict(active),
    )


def _component(name: str) -> str:
    """The part of the model that a weight of this name belongs to."""
    parts = name.split(".")
    if "embed_tokens" in parts:
        return "embedding"
    if "lm_head" in parts:
        return "output head"
    if any("norm" in part for part in parts):
        return "norms"
    if "self_attn" in parts:
        return "attention"
    if "shared_experts" in parts:
        return "shared experts"
    if "experts" in parts:
        return "routed experts"
    if "gate" in parts and parts[parts.index("gate") - 1] == "mlp":
        return "router"
    if "mlp" in parts:
        return "dense feed-forward"
    raise ValueError(f"no component is known for the weight {name}")


def cache_values(config: AxionConfig) -> tuple[int, int]:
    """Numbers cached per token and layer: latents (kv_lora_rank + rotary key), and plain multi-head attention's.

    Plain attention with the same heads keeps a key and a value of every head.
    """
    latent = config.kv_lora_rank + config.qk_rope_head_dim
    key = config.qk_nope_head_dim + config.qk_rope_head_dim
    plain = config.num_attention_heads * (key + config.v_head_dim)
    return latent, plain


def report(name: str, config: AxionConfig) -> dict:
    """Everything above as one JSON object: what `axion params NAME --json` prints."""
    latent, plain = cache_values(config)
    per_token = config.num_hidden_layers * BYTES_PER_VALUE
    return {
        "version": name,
        **asdict(count_parameters(config)),
        "cache": {
            "values_per_token_and_layer": latent,
            "plain_values_per_token_and_layer": plain,
            "bytes_per_token": latent * per_token,
            "plain_bytes_per_token": plain * per_token,
            "bytes_per_value": BYTES_PER_VALUE,
        },
    }


def table(report: dict) -> str:
    """The report for people: the three sizes together, then every component, then the cache."""
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
