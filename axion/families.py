"""The model families: the export formats, model card and tags of each, and what follows from a configuration alone.

All families are configurations of one decoder. The components of a model and the size of its cache follow from its
configuration, whatever its family. The rest is data: callers ask the family of a recipe or a release, and nothing else
in the project compares family names. A new family is one more entry in `FAMILIES`, with its series in configs/series/
and its card in model_cards/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from axion.errors import AxionError

if TYPE_CHECKING:
    from axion.model.shape_axion import AxionShape

ExportFormat = Literal["native", "gguf"]
"""native: a checkpoint that transformers loads without remote code; gguf: a file for llama.cpp."""

# --- What follows from a configuration --------------------------------------------------------------------------------


def is_looped(config: AxionShape) -> bool:
    """Whether some layers run several times."""
    return config.num_shared_layers > 0


def has_experts(config: AxionShape) -> bool:
    """Whether some layers are mixtures of experts, whose routing can be shown."""
    return len(config.mixture_layers) > 0


class CacheValues(NamedTuple):
    """Numbers that the key-value cache holds per token and entry; a layer has an entry for each time it runs."""

    kept: int
    """By this model."""
    plain: int
    """By multi-head attention with the same heads, which keeps a key and a value of every head."""


def cache_values(config: AxionShape) -> CacheValues:
    """The size of a cache entry of a model with this configuration."""
    return latent_cache_values(config) if config.attention == "mla" else grouped_cache_values(config)


def latent_cache_values(config: AxionShape) -> CacheValues:
    """Multi-head latent attention keeps the key-value latent and the rotary key, which all heads share."""
    key = config.qk_nope_head_dim + config.qk_rope_head_dim
    return CacheValues(
        kept=config.kv_lora_rank + config.qk_rope_head_dim,
        plain=config.num_attention_heads * (key + config.v_head_dim),
    )


def grouped_cache_values(config: AxionShape) -> CacheValues:
    """Grouped-query attention keeps a key and a value of each key-value head."""
    return CacheValues(
        kept=2 * config.num_key_value_heads * config.head_dim,
        plain=2 * config.num_attention_heads * config.head_dim,
    )


ROUTED_EXPERTS = "routed experts"
"""The component whose weights are `[E, …]`, of which a token passes through `num_experts_per_tok`."""

COMPONENTS = (
    (r"\bembed_tokens\b", "embedding"),
    (r"\blm_head\b", "output head"),
    (r"\bloop_gate\b", "loop gate"),
    (r"norm", "norms"),
    (r"\bself_attn\b", "attention"),
    (r"\bshared_experts\b", "shared experts"),
    (r"\bexperts\b", ROUTED_EXPERTS),
    (r"\bmlp\.gate\b", "router"),
    (r"\bmlp\b", "dense feed-forward"),
)
"""(pattern, component): a weight belongs to the component of the first pattern that is found in its name. Multi-token
prediction is not among them: its layer is counted apart."""


def component(weight: str) -> str:
    """The part of the model that a weight of this name belongs to."""
    for pattern, name in COMPONENTS:
        if re.search(pattern, weight):
            return name
    raise ValueError(f"{weight} belongs to no component")


# --- Families ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """What is particular to one family of models."""

    name: str
    """As recipes, release.json and configs/series/ write it."""
    describes: Callable[[AxionShape], bool]
    """Whether a model with this configuration can be one of the family."""
    exports: dict[ExportFormat, str]
    """Export format → the architecture that a model of the family is written as."""
    card_template: str
    """The template of the model card, in model_cards/."""
    tags: tuple[str, ...]
    """Tags by which the Hub's search finds a model of the family."""

    def architecture(self, form: ExportFormat) -> str:
        """What its models are written as in an export format. Raises AxionError where there is no such export."""
        if form not in self.exports:
            known = ", ".join(self.exports) or "none"
            raise AxionError(f"models of the family {self.name} have no {form} export; their formats: {known}")
        return self.exports[form]


def _is_deepseek(config: AxionShape) -> bool:
    return config.attention == "mla" and not is_looped(config)


def _is_llama(config: AxionShape) -> bool:
    is_plain = not is_looped(config) and config.projection_rank is None
    return config.attention == "gqa" and is_plain and not has_experts(config)


AS_DEEPSEEK: dict[ExportFormat, str] = {"native": "deepseek_v3", "gguf": "deepseek2"}
MIXTURE_TAGS = ("deepseek_v3", "mixture-of-experts", "moe", "multi-head-latent-attention")

FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="nano-deepseek-v3",
            describes=lambda config: _is_deepseek(config) and config.first_k_dense_replace > 0,
            exports=AS_DEEPSEEK,
            card_template="nano-deepseek-v3.md.j2",
            tags=MIXTURE_TAGS,
        ),
        Family(
            name="axion1",
            describes=_is_deepseek,
            exports=AS_DEEPSEEK,
            card_template="axion1.md.j2",
            tags=MIXTURE_TAGS,
        ),
        Family(
            name="axiom-dense",
            describes=_is_llama,
            exports={"native": "llama", "gguf": "llama"},
            card_template="axiom-dense.md.j2",
            tags=("llama", "grouped-query-attention"),
        ),
        Family(
            name="mini-axion1",
            describes=lambda config: not _is_deepseek(config),
            exports={},
            card_template="mini-axion1.md.j2",
            tags=("grouped-query-attention", "looped-transformer", "low-rank"),
        ),
    )
}
"""The families by name. Where several describe a configuration, the first is the closest."""


def get_family(name: str) -> Family:
    """The family of this name. Raises AxionError, which lists the known ones, where there is none."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise AxionError(f"family is {name!r}; it must be one of: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def family_of(config: AxionShape) -> Family:
    """The family that is the closest to this configuration, for folders that do not name theirs."""
    return families_of(config)[0]


def families_of(config: AxionShape) -> list[Family]:
    """The families that a model with this configuration can be of, the closest first."""
    return [family for family in FAMILIES.values() if family.describes(config)]
