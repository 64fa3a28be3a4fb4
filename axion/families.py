"""The model families: the components, cache size, export formats and model card of each.

All families are configurations of one decoder, so a family is data and a few functions of a configuration. Callers ask
the family of a recipe or a release; nothing else in the project compares family names. A new family is one more entry
in `FAMILIES`, with its series in configs/series/ and its card in model_cards/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from axion.errors import AxionError

if TYPE_CHECKING:
    from axion.model.configuration_axion import AxionConfig

ExportFormat = Literal["native", "gguf"]
"""native: a checkpoint that transformers loads without remote code; gguf: a file for llama.cpp."""

ROUTED_EXPERTS = "routed experts"
"""The component whose weights are `[E, …]`, of which a token passes through `num_experts_per_tok`."""


class CacheValues(NamedTuple):
    """Numbers that the key-value cache holds per token and layer."""

    kept: int
    """By this model."""
    plain: int
    """By multi-head attention with the same heads, which keeps a key and a value of every head."""


@dataclass(frozen=True)
class Family:
    """What is particular to one family of models."""

    name: str
    """As recipes, release.json and configs/series/ write it."""
    describes: Callable[[AxionConfig], bool]
    """Whether a model with this configuration is one of the family, for folders that do not name theirs."""
    components: tuple[tuple[str, str], ...]
    """(pattern, component): a weight belongs to the component of the first pattern that is found in its name."""
    cache_values: Callable[[AxionConfig], CacheValues]
    exports: dict[ExportFormat, str]
    """Export format → the architecture that a model of the family is written as."""
    card_template: str
    """The template of the model card, in model_cards/."""
    tags: tuple[str, ...]
    """Tags by which the Hub's search finds a model of the family."""

    def component(self, weight: str) -> str:
        """The part of the model that a weight of this name belongs to."""
        for pattern, component in self.components:
            if re.search(pattern, weight):
                return component
        raise ValueError(f"{weight} belongs to no component of the family {self.name}")

    def architecture(self, form: ExportFormat) -> str:
        """What its models are written as in an export format. Raises AxionError where there is no such export."""
        if form not in self.exports:
            known = ", ".join(self.exports) or "none"
            raise AxionError(f"models of the family {self.name} have no {form} export; their formats: {known}")
        return self.exports[form]


def latent_cache_values(config: AxionConfig) -> CacheValues:
    """Multi-head latent attention keeps the key-value latent and the rotary key, which all heads share."""
    key = config.qk_nope_head_dim + config.qk_rope_head_dim
    return CacheValues(
        kept=config.kv_lora_rank + config.qk_rope_head_dim,
        plain=config.num_attention_heads * (key + config.v_head_dim),
    )


LATENT_MIXTURE_COMPONENTS = (
    (r"\bembed_tokens\b", "embedding"),
    (r"\blm_head\b", "output head"),
    (r"norm", "norms"),
    (r"\bself_attn\b", "attention"),
    (r"\bshared_experts\b", "shared experts"),
    (r"\bexperts\b", ROUTED_EXPERTS),
    (r"\bmlp\.gate\b", "router"),
    (r"\bmlp\b", "dense feed-forward"),
)
"""Latent attention with dense layers, then mixtures of shared and routed experts."""

FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="axion1",
            describes=lambda config: config.model_type == "axion",
            components=LATENT_MIXTURE_COMPONENTS,
            cache_values=latent_cache_values,
            exports={"native": "deepseek_v3", "gguf": "deepseek2"},
            card_template="axion1.md.j2",
            tags=("deepseek_v3", "mixture-of-experts", "moe", "multi-head-latent-attention"),
        ),
    )
}


def get_family(name: str) -> Family:
    """The family of this name. Raises AxionError, which lists the known ones, where there is none."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise AxionError(f"family is {name!r}; it must be one of: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def family_of(config: AxionConfig) -> Family:
    """The first family that describes this configuration. Raises AxionError where none does."""
    for family in FAMILIES.values():
        if family.describes(config):
            return family
    raise AxionError(f"no family describes a model of type {config.model_type!r}; known: {', '.join(FAMILIES)}")
