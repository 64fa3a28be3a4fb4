"""Which configs the kernels compute: an allow-list of fields and values, for training and for decoding.

The kernels cover a config when every field that changes the computation is listed in `COVERED` with a value that its
rule accepts. A field that is listed nowhere may change anything, so it means PyTorch. Extend the lists together with
the kernels, and only with a test that compares the two.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from axion.errors import one_line
from axion.model.shape_axion import LATENT_SIZES, AxionShape

if TYPE_CHECKING:
    from transformers.configuration_utils import PreTrainedConfig

Use = Literal["training", "decoding"]
"""The two halves of the kernels: `axion.kernels.blocks` with the optimizer, and `axion.kernels.decoder`."""

Rule = Callable[[Any], bool]


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # pyright: ignore[reportArgumentType]


def _is_rate(value: object) -> bool:
    return _is_number(value) and 0 <= value < 1  # pyright: ignore[reportOperatorIssue]


def _is_one_of(*allowed: object) -> Rule:
    return lambda value: value in allowed


ROPE_FIELDS = {
    "default": {"rope_type", "rope_theta"},
    "yarn": {
        *("rope_type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor"),
        *("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    },
}
"""Rotary positions whose frequencies do not depend on the text's length, and what may be set of them."""


def _is_static_rope(value: object) -> bool:
    return isinstance(value, dict) and set(value) <= ROPE_FIELDS.get(value.get("rope_type", ""), set())


LATENT_RULES: dict[str, Rule] = {
    **dict.fromkeys(LATENT_SIZES, _is_size),
    "q_lora_rank": lambda value: value is None or _is_size(value),
}
"""Sizes of latent attention; with grouped queries all of them are None."""

_BOTH: dict[str, Rule] = {
    "attention": _is_one_of("mla", "gqa"),
    **dict.fromkeys(
        (
            *("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "intermediate_size"),
            *("num_attention_heads", "num_key_value_heads", "qk_head_dim", "head_dim"),
            *("moe_intermediate_size", "n_shared_experts", "n_routed_experts", "num_experts_per_tok"),
            *("n_group", "topk_group"),
        ),
        _is_size,
    ),
    "projection_rank": lambda value: value is None or _is_size(value),
    "num_shared_layers": _is_count,
    "num_loops": _is_size,
    "dropout": _is_rate,
    "first_k_dense_replace": _is_count,
    "routed_scaling_factor": _is_number,
    "rms_norm_eps": _is_number,
    "norm_topk_prob": _is_one_of(True, False),
    "rope_interleave": _is_one_of(True, False),
    "tie_word_embeddings": _is_one_of(True, False),
    "rope_parameters": _is_static_rope,
    "hidden_act": _is_one_of("silu"),
    "attention_bias": _is_one_of(False),
    "num_nextn_predict_layers": _is_one_of(0, 1),
}

_OUTPUTS: dict[str, Rule] = {
    "output_hidden_states": _is_one_of(False, None),
    "_output_attentions": _is_one_of(False, None),
    "return_dict": _is_one_of(True),
}
"""What a forward pass returns besides logits and loss; a shape without PyTorch has none of these fields."""

COVERED: dict[Use, dict[str, Rule]] = {
    "training": _BOTH | _OUTPUTS | {"attention_dropout": _is_one_of(0), "n_shared_experts": _is_count},
    "decoding": _BOTH | _OUTPUTS | {"attention_dropout": _is_rate},  # only training drops anything out
}
"""Fields that change the result, each with the values for which the kernels give it; besides them `LATENT_RULES`."""

NOT_COMPUTED = {
    *("pad_token_id", "bos_token_id", "eos_token_id", "initializer_range", "use_cache", "output_router_logits"),
    "auto_map",
}
"""Fields of a release's config that do not change the computation, besides those of transformers' base config."""


def unsupported_reason(config: AxionShape | PreTrainedConfig, use: Use) -> str | None:
    """Why the kernels cannot train, or decode with, a model of this config, in one line; None where they can."""
    values = vars(config)
    grouped = values.get("attention") == "gqa"
    rules = COVERED[use] | (dict.fromkeys(LATENT_SIZES, _is_one_of(None)) if grouped else LATENT_RULES)
    if type(config) is AxionShape:
        rules = {name: rule for name, rule in rules.items() if name not in _OUTPUTS}
    for name, is_covered in rules.items():
        if name not in values:
            return f"the kernels need {name}, which the config lacks"
        if not is_covered(values[name]):
            return _not_covered(name, values[name])
    for name, expected in (_implied_by_groups if grouped else _implied_by_latents)(values).items():
        if values[name] != expected:
            return _not_covered(name, values[name])
    unknown = [name for name in values if name not in rules.keys() | NOT_COMPUTED]
    further = next((name for name in unknown if name not in _base_fields()), None)
    return _contradiction(config) if further is None else _not_covered(further, values[further])


def settings(config: AxionShape | PreTrainedConfig) -> dict[str, Any]:
    """A copy of the values that decide what a model computes, but for `num_loops`, which every pass reads.

    Kernels that are built for a config compute something else once one of these has changed.
    """
    values, names = vars(config), _BOTH.keys() | LATENT_RULES.keys() | {"attention_dropout"}
    return {name: copy.copy(values.get(name)) for name in names - {"num_loops"}}


def _implied_by_latents(values: dict[str, Any]) -> dict[str, int]:
    """Fields whose value follows from others in latent attention."""
    return {
        "num_key_value_heads": values["num_attention_heads"],
        "qk_head_dim": values["qk_nope_head_dim"] + values["qk_rope_head_dim"],
        "head_dim": values["qk_rope_head_dim"],
    }


def _implied_by_groups(values: dict[str, Any]) -> dict[str, int | bool]:
    """Fields whose value follows from others in grouped-query attention."""
    heads, keys = values["num_attention_heads"], values["num_key_value_heads"]
    return {
        "num_key_value_heads": keys if heads % keys == 0 else heads,
        "qk_head_dim": values["head_dim"],
        "rope_interleave": False,
    }


def _contradiction(config: AxionShape | PreTrainedConfig) -> str | None:
    """Why no model can have this config: it is checked when it is made, and its values may have changed since."""
    if isinstance(config, AxionShape):
        try:
            config._check_shapes()
        except ValueError as error:
            return one_line(error)
    return None


def _not_covered(name: str, value: object) -> str:
    shown = repr(value)
    return f"the kernels do not cover {name.lstrip('_')}={shown if len(shown) <= 80 else shown[:77] + '...'}"


@cache
def _base_fields() -> frozenset[str]:
    """What every config of the installed transformers has: names, dtype, labels and other bookkeeping."""
    from transformers.configuration_utils import PreTrainedConfig

    return frozenset(vars(PreTrainedConfig())) | frozenset(PreTrainedConfig.__annotations__)
