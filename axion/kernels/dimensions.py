"""What is constant in the compiled code: the sizes of one model and the kernels' own constants, as dimensions.h.

Constants that Python and C++ share are defined here and nowhere else.
"""

from __future__ import annotations

import math

from axion.errors import AxionError
from axion.model.shape_axion import LATENT_NORM_EPS, AxionShape, softmax_scale

LOG2_E = math.log2(math.e)
"""Part of the decoder's scale of queries, because the kernels turn scores into probabilities by powers of two."""

ALTERNATIVES = 5
"""How many of the likeliest next tokens a draw reports, at most."""

WEIGHT_BITS = {"fp32": 32, "bf16": 16, "int8": 8}
"""The kinds of weights that the decoder multiplies by → their size."""

ROWS_AT_ONCE = 96
"""How many tokens of a text, or texts, one thread of the decoder takes through all layers together, at most."""

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton–Schulz iteration in Muon (Keller Jordan, 2024)."""

NEWTON_SCHULZ_STEPS = 5


def check_weights(weights: str) -> None:
    """Raises AxionError for a kind of weights that is not in `WEIGHT_BITS`."""
    if weights not in WEIGHT_BITS:
        raise AxionError(f"weights must be one of {', '.join(WEIGHT_BITS)}, not {weights!r}")


def absorbs_keys(config: AxionShape) -> bool:
    """Whether the decoder multiplies W_uk into the query weights: where that needs fewer products than applying it."""
    if config.attention == "gqa":
        return False
    query_input = config.q_lora_rank or config.hidden_size
    latent, nope = config.kv_lora_rank, config.qk_nope_head_dim
    return query_input * latent <= query_input * nope + nope * latent


def absorbs_values(config: AxionShape) -> bool:
    """Whether the decoder multiplies W_uv into the output weights: where that needs fewer products than applying it."""
    if config.attention == "gqa":
        return False
    hidden, latent, value = config.hidden_size, config.kv_lora_rank, config.v_head_dim
    return latent * hidden <= latent * value + value * hidden


def kept_rank(config: AxionShape) -> int:
    """The rank of the factors that the decoder multiplies by; 0 where it multiplies by their products.

    Those are used where they need fewer multiplications, and fewer bytes of weights.
    """
    if config.projection_rank is None:
        return 0
    hidden, width = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    full = 2 * hidden * (queries + keys) + 3 * hidden * width
    factors = config.projection_rank * (2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + width))
    return config.projection_rank if factors < full else 0


def dimensions(config: AxionShape) -> dict[str, int | bool | float]:
    """The dimensions of a model by name.

    With grouped queries a head is all rotary, `kNope` and the sizes of the latents are 0, and its queries, keys and
    values are `kHeadDim` wide.
    """
    grouped = config.attention == "gqa"
    scale = config.head_dim**-0.5 if grouped else softmax_scale(config)
    return {
        "kVocabulary": config.vocab_size,
        "kHidden": config.hidden_size,
        "kLayers": config.num_hidden_layers,
        "kDenseLayers": config.first_k_dense_replace,
        "kDenseWidth": config.intermediate_size,
        "kEntryLayers": config.shared_layers.start,  # before the layers that are looped
        "kSharedLayers": config.num_shared_layers,
        "kPredictionLayers": config.num_nextn_predict_layers,  # of multi-token prediction
        "kProjectionRank": config.projection_rank or 0,  # 0: full matrices
        "kKeptRank": kept_rank(config),
        "kHeads": config.num_attention_heads,
        "kKeyValueHeads": config.num_key_value_heads,
        "kHeadDim": config.qk_head_dim,  # of a query and a key
        "kQueryRank": config.q_lora_rank or 0,  # 0: queries are projected by one full matrix
        "kLatent": config.kv_lora_rank or 0,
        "kNope": config.qk_nope_head_dim or 0,
        "kRope": config.head_dim,
        "kValue": config.head_dim if grouped else config.v_head_dim,
        "kExperts": config.n_routed_experts,
        "kChosen": config.num_experts_per_tok,
        "kExpertWidth": config.moe_intermediate_size,
        "kSharedWidth": config.moe_intermediate_size * config.n_shared_experts,
        "kGroups": config.n_group,
        "kTopGroups": config.topk_group,
        "kGroupedQuery": grouped,
        "kNormalise": config.norm_topk_prob,
        "kInterleave": config.rope_interleave,
        "kAbsorbKeys": absorbs_keys(config),
        "kAbsorbValues": absorbs_values(config),
        "kRoutedScale": float(config.routed_scaling_factor),
        "kSoftmaxScale": float(scale),
        "kQueryScale": scale * LOG2_E,  # of the decoder
        "kNormEpsilon": float(config.rms_norm_eps),
    }


def constants(weights: str, alternatives: int = ALTERNATIVES) -> dict[str, int | float]:
    """What is the same for every model, by name; for decoding with one of the kinds of WEIGHT_BITS."""
    return {
        "kWeightBits": WEIGHT_BITS[weights],
        "kAlternatives": alternatives,
        "kRowsAtOnce": ROWS_AT_ONCE,
        "kNewtonSchulzSteps": NEWTON_SCHULZ_STEPS,
        "kLatentEpsilon": LATENT_NORM_EPS,
        **{f"kNewtonSchulz{name}": value for name, value in zip("ABC", NEWTON_SCHULZ, strict=True)},
    }


def dimensions_header(config: AxionShape, weights: str = "fp32") -> str:
    """The text of dimensions.h for a model, and for decoding with one of the kinds of WEIGHT_BITS."""
    lines = map(_constant, *zip(*dimensions(config).items(), strict=True))
    return _header("for one model", [*lines, *_constant_lines(weights, min(ALTERNATIVES, config.vocab_size))])


def variables_header(weights: str = "fp32") -> str:
    """The text of dimensions.h for the decoder of all models, whose dimensions are set where it runs.

    A model needs a vocabulary of at least ALTERNATIVES tokens there.
    """
    names = dimensions(AxionShape())
    lines = [f"inline {_kind(name, value)} {name} = 0;" for name, value in names.items()]
    listed = " ".join(f"V({name})" for name in names)
    return _header("for all models", [*lines, f"#define AXION_DIMENSIONS(V) {listed}", *_constant_lines(weights)])


def _constant_lines(weights: str, alternatives: int = ALTERNATIVES) -> list[str]:
    return [_constant(name, value) for name, value in constants(weights, alternatives).items()]


def _constant(name: str, value: int | bool | float) -> str:
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"inline constexpr {_kind(name, value)} {name} = {shown};"


def _kind(name: str, value: int | bool | float) -> str:
    """The C++ type. The scale of the queries is multiplied with weights in fp64."""
    return "double" if name == "kQueryScale" else type(value).__name__


def _header(purpose: str, lines: list[str]) -> str:
    return "\n".join([f"// Written by axion/kernels/dimensions.py {purpose}.", "#pragma once", *lines, ""])
