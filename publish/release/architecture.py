"""The architecture's table of a model card: a release beside DeepSeek-V3.

The numbers of DeepSeek-V3 are published; each has its source.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from axion.families import cache_values
from axion.model.shape_axion import AxionShape
from publish.release.templates import quantity

DEEPSEEK_ARXIV = "2412.19437"
DEEPSEEK_V3 = {
    # Technical report, abstract and section 4.2; the rest from config.json of huggingface.co/deepseek-ai/DeepSeek-V3.
    "total": 671e9,
    "active": 37e9,
    "training_tokens": 14.8e12,
    "num_hidden_layers": 61,
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18_432,
    "attention": "mla",
    "num_attention_heads": 128,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "moe_intermediate_size": 2048,
    "routed_scaling_factor": 2.5,
    "num_nextn_predict_layers": 1,
    "vocab_size": 129_280,
    "max_position_embeddings": 163_840,
    "rope_parameters": {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "tie_word_embeddings": False,
}


def shape_of(info: dict) -> SimpleNamespace:
    """The model's config in the content of `release.json`; fields that are newer than it have their defaults."""
    defaults = {name: getattr(AxionShape, name) for name in AxionShape.__annotations__}
    return SimpleNamespace(**defaults | info["architecture"])


def compare_architecture(info: dict) -> list[dict[str, str]]:
    """The rows of the architecture's table: label, ours, and DeepSeek-V3's where it has such a part."""
    parts = {
        "total": info["parameters"]["total"],
        "active": info["parameters"]["active"],
        "training_tokens": info["training"]["tokens"],
    }
    ours, theirs = SimpleNamespace(**vars(shape_of(info)), **parts), SimpleNamespace(**DEEPSEEK_V3)
    return [
        {"label": row.label, "ours": row.value(ours), "theirs": row.value(theirs) if row.applies(theirs) else ""}
        for row in ARCHITECTURE_ROWS
        if row.applies(ours)
    ]


Model = Any
"""A model's config with its parameter counts and training tokens."""


class Row(NamedTuple):
    """A row of the architecture's table."""

    label: str
    value: Callable[[Model], str]
    applies: Callable[[Model], bool] = lambda model: True
    """Whether a model has what the row describes."""


def _field(name: str) -> Callable[[Model], str]:
    return lambda model: quantity(getattr(model, name))


def _is_latent(model: Model) -> bool:
    return model.attention == "mla"


def _is_grouped(model: Model) -> bool:
    return model.attention == "gqa"


def _has_experts(model: Model) -> bool:
    return model.first_k_dense_replace < model.num_hidden_layers


def _is_looped(model: Model) -> bool:
    return getattr(model, "num_shared_layers", 0) > 0


def _cache(model: Model) -> str:
    kept, plain = cache_values(model)
    return f"{kept:,} (plain attention: {plain:,})" if kept < plain else f"{kept:,}"


def _shared_and_routed(model: Model) -> str:
    return f"{model.n_shared_experts} + {model.n_routed_experts}, top {model.num_experts_per_tok}"


def _groups(model: Model) -> str:
    return "none" if model.n_group == 1 else f"{model.n_group}, of which {model.topk_group} are eligible"


def _entry_shared_exit(model: Model) -> str:
    entry = (model.num_hidden_layers - model.num_shared_layers) // 2
    return f"{entry} + {model.num_shared_layers} + {model.num_hidden_layers - entry - model.num_shared_layers}"


def _yarn(model: Model) -> str:
    rope = model.rope_parameters
    return f"factor {rope['factor']:g} from {rope['original_max_position_embeddings']:,} tokens"


ARCHITECTURE_ROWS = (
    Row("parameters", _field("total")),
    Row("active per token", _field("active"), _has_experts),
    Row("tokens seen in training", _field("training_tokens")),
    Row("layers", _field("num_hidden_layers")),
    Row("of which dense", _field("first_k_dense_replace"), _has_experts),
    Row("entry + shared + exit layers", _entry_shared_exit, _is_looped),
    Row("loops of the shared layers, unless a call says otherwise", _field("num_loops"), _is_looped),
    Row("hidden size", _field("hidden_size")),
    Row("attention heads", _field("num_attention_heads")),
    Row("key-value heads", _field("num_key_value_heads"), _is_grouped),
    Row("head width", _field("head_dim"), _is_grouped),
    Row("base of the rotary positions", lambda model: f"{model.rope_parameters['rope_theta']:,.0f}", _is_grouped),
    Row(
        "query-key head, plain + rotary",
        lambda model: f"{model.qk_nope_head_dim} + {model.qk_rope_head_dim}",
        _is_latent,
    ),
    Row("value head", _field("v_head_dim"), _is_latent),
    Row(
        "query latent",
        lambda model: "none" if model.q_lora_rank is None else quantity(model.q_lora_rank),
        _is_latent,
    ),
    Row("key-value latent", _field("kv_lora_rank"), _is_latent),
    Row("cached numbers per token and layer", _cache),
    Row("feed-forward width", _field("intermediate_size"), lambda model: not _has_experts(model)),
    Row(
        "feed-forward width of the dense layers",
        _field("intermediate_size"),
        lambda model: _has_experts(model) and model.first_k_dense_replace > 0,
    ),
    Row(
        "rank of every matrix",
        _field("projection_rank"),
        lambda model: getattr(model, "projection_rank", None) is not None,
    ),
    Row("experts: shared + routed", _shared_and_routed, _has_experts),
    Row("expert groups", _groups, _has_experts),
    Row("expert width", _field("moe_intermediate_size"), _has_experts),
    Row("routed scaling factor", _field("routed_scaling_factor"), _has_experts),
    Row("multi-token prediction depth", _field("num_nextn_predict_layers"), _has_experts),
    Row("vocabulary", _field("vocab_size")),
    Row("context", _field("max_position_embeddings")),
    Row("YaRN", _yarn, lambda model: (model.rope_parameters or {}).get("rope_type") == "yarn"),
    Row("tied embeddings", lambda model: "yes" if model.tie_word_embeddings else "no"),
)
