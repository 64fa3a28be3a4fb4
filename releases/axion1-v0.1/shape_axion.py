"""The shape of a model: DeepSeek-V3's field names with their defaults, checks of their values, and what they imply.

This file is copied verbatim into every release as remote code. It imports neither torch nor transformers: the kernels
decode a model of this shape without them.
"""

import math
from dataclasses import dataclass
from typing import Literal

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "max_position_embeddings", "num_loops"),
    *("n_routed_experts", "num_experts_per_tok", "n_group", "topk_group"),
)
"""Fields that must be integers of at least 1."""

LATENT_SIZES = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
"""Fields of latent attention that must be integers of at least 1 (`q_lora_rank` may be None)."""

LATENT_NORM_EPS = 1e-6
"""Epsilon of the norms of the query's and the key-value latent, the same in every DeepSeek-V3."""


@dataclass(kw_only=True, repr=False)
class AxionShape:
    """The shape of a model; the defaults are Axion1 v0.1.

    Fields carry the names of transformers' `DeepseekV3Config` (of `LlamaConfig` for grouped-query attention), so that a
    model can be exported without translation. Balancing speeds and loss weights are training settings: they belong to
    the recipe.

    Args:
        vocab_size: tokens in the vocabulary (V).
        hidden_size: width of the residual stream (D).
        intermediate_size: width of the dense SwiGLU in the first `first_k_dense_replace` layers.
        moe_intermediate_size: width of one expert (F).
        num_hidden_layers: decoder layers (L).
        num_attention_heads: attention heads (H).
        attention: "mla" for multi-head latent attention, "gqa" for grouped-query attention with rotary positions.
        num_key_value_heads: heads that have a key and a value (G); all of them by default, as latent attention needs.
        head_dim: with "gqa" the width of a head, by default hidden_size / num_attention_heads. With "mla" always
            `qk_rope_head_dim`, the part that is rotated.
        n_shared_experts: experts that read every token, computed as one SwiGLU of width n_shared_experts · F; may be 0.
        n_routed_experts: experts that the router chooses from (E).
        num_experts_per_tok: routed experts that read a token (K).
        n_group, topk_group: the routed experts form `n_group` groups, of which `topk_group` are eligible per token.
        norm_topk_prob: normalise the weights of the chosen experts to a sum of one.
        routed_scaling_factor: factor on those weights afterwards.
        first_k_dense_replace: number of first layers that have a dense SwiGLU instead of experts.
        num_shared_layers: how many layers in the middle of the stack are looped; the layers before them (entry) and
            after them (exit) run once.
        num_loops: how often the shared layers run, where a call does not say so itself.
        projection_rank: every matrix of attention and feed-forward parts is a product of two of this rank; None for
            full matrices. Needs "gqa" and dense layers.
        num_nextn_predict_layers: layers for multi-token prediction, 0 or 1. They are stored after the decoder's layers
            and loaded only for training and speculative decoding.
        q_lora_rank: rank of the query's low-rank path; None for a single full matrix.
        kv_lora_rank: width of the cached key-value latent (R).
        qk_nope_head_dim, qk_rope_head_dim: the parts of a query-key head without and with rotary positions.
        v_head_dim: width of a value head. This and the four before it are None with "gqa".
        rope_parameters: transformers' own: `rope_type` "default" or "yarn", `rope_theta`, YaRN's `factor`, `mscale` …
        rope_interleave: rotary pairs are neighbours (0, 1), (2, 3), … as in DeepSeek's weights, the default with
            "mla"; with "gqa" they are the halves of a head, as in Llama's.
        max_position_embeddings: the longest context (S).
        attention_dropout: dropout of the attention weights in training.
        dropout: dropout of the embeddings and of every attention's and feed-forward's output in training.
        output_router_logits: return the logits of each router with every forward pass.

    Raises:
        ValueError: a field has a value that cannot be built; the message names it and says what is allowed.

    Source: DeepSeek-V3 technical report, arXiv 2412.19437, sections 2.1, 2.2 and 4.2. Grouped queries: arXiv
    2305.13245.
    """

    vocab_size: int = 1024
    hidden_size: int = 64
    intermediate_size: int = 256
    moe_intermediate_size: int = 64
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    attention: Literal["mla", "gqa"] = "mla"
    num_key_value_heads: int = None  # pyright: ignore[reportAssignmentType] (filled in by __post_init__)
    head_dim: int = None  # pyright: ignore[reportAssignmentType] (filled in by __post_init__)
    n_shared_experts: int = 1
    n_routed_experts: int = 4
    num_experts_per_tok: int = 2
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 1.0
    first_k_dense_replace: int = 0
    num_shared_layers: int = 0
    num_loops: int = 1
    projection_rank: int | None = None
    num_nextn_predict_layers: int = 0
    q_lora_rank: int | None = 16
    kv_lora_rank: int = 8
    qk_nope_head_dim: int = 12
    qk_rope_head_dim: int = 4
    v_head_dim: int = 16
    hidden_act: str = "silu"
    max_position_embeddings: int = 512
    rope_parameters: dict = None  # pyright: ignore[reportAssignmentType] (filled in by __post_init__)
    rope_interleave: bool = None  # pyright: ignore[reportAssignmentType] (filled in by __post_init__)
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    attention_dropout: float = 0.0
    dropout: float = 0.0
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    use_cache: bool = True
    output_router_logits: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self):
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.rope_parameters is None:
            self.rope_parameters = {"rope_type": "default"}
        self.rope_parameters = {"rope_theta": 10000.0, **self.rope_parameters}
        if self.rope_interleave is None:
            self.rope_interleave = self.attention == "mla"
        self._check_sizes()
        if self.attention == "mla":
            self.qk_head_dim = self.qk_nope_head_dim + self.qk_rope_head_dim
            # transformers computes YaRN's frequencies over `head_dim` dimensions; only the rotary part is rotated here
            self.head_dim = self.qk_rope_head_dim
        else:
            for name in LATENT_SIZES:
                setattr(self, name, None)
            self.head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
            self.qk_head_dim = self.head_dim
        self._check_shapes()

    @property
    def mixture_layers(self) -> range:
        """Indices of the layers that have experts; the layers before them are dense."""
        return range(self.first_k_dense_replace, self.num_hidden_layers)

    @property
    def shared_layers(self) -> range:
        """Indices of the layers that are looped, in the middle of the stack; empty without loops."""
        start = (self.num_hidden_layers - self.num_shared_layers) // 2
        return range(start, start + self.num_shared_layers)

    def depth(self, num_loops: int | None = None) -> int:
        """How many layers a token passes through, which is also how many the cache has, with so many loops.

        Raises:
            ValueError: `num_loops` is not an integer of at least 1, or the model has no layers to loop.
        """
        loops = self.num_loops if num_loops is None else num_loops
        if isinstance(loops, bool) or not isinstance(loops, int) or loops < 1:
            raise ValueError(f"num_loops is {loops!r}; it must be an integer of at least 1")
        if loops > 1 and not self.num_shared_layers:
            raise ValueError(f"num_loops is {loops}; this model has no shared layers to loop, so it must be 1")
        return self.num_hidden_layers + (loops - 1) * self.num_shared_layers

    def first_slot(self, loop: int) -> int:
        """The entry in the cache of the first shared layer in a loop, counted from 0; the other layers' follow it.

        The entries of further loops come after those of the last layer, so that a layer's entry in the first loop is
        always that of its index.
        """
        if loop == 0:
            return self.shared_layers.start
        return self.num_hidden_layers + (loop - 1) * self.num_shared_layers

    def _check_sizes(self) -> None:
        if self.attention not in ("mla", "gqa"):
            raise ValueError(f'attention is {self.attention!r}; it must be "mla" or "gqa"')
        optional = {"q_lora_rank", "projection_rank", "head_dim"}
        latent = LATENT_SIZES if self.attention == "mla" else ("head_dim",)
        for name in (*SIZES, *latent, "projection_rank", "n_shared_experts"):
            value, least = getattr(self, name), int(name != "n_shared_experts")
            if name in optional and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}")

    def _check_shapes(self) -> None:
        has_experts = self.first_k_dense_replace < self.num_hidden_layers
        rules = {
            **(self._latent_rules() if self.attention == "mla" else self._grouped_rules()),
            "n_group": (
                self.n_routed_experts % self.n_group == 0,
                f"must divide n_routed_experts ({self.n_routed_experts})",
            ),
            "topk_group": (self.topk_group <= self.n_group, f"must be at most n_group ({self.n_group})"),
            "num_experts_per_tok": (
                self.num_experts_per_tok <= self.n_routed_experts // self.n_group * self.topk_group,
                f"must be at most the {self.n_routed_experts // self.n_group * self.topk_group} experts that "
                "n_routed_experts, n_group and topk_group leave to choose from",
            ),
            "first_k_dense_replace": (
                0 <= self.first_k_dense_replace <= self.num_hidden_layers,
                f"must be between 0 and num_hidden_layers ({self.num_hidden_layers})",
            ),
            "num_shared_layers": (
                0 <= self.num_shared_layers <= self.num_hidden_layers,
                f"must be between 0 and num_hidden_layers ({self.num_hidden_layers})",
            ),
            "num_loops": (
                self.num_loops == 1 or self.num_shared_layers > 0,
                "must be 1 without num_shared_layers: there are no layers to loop",
            ),
            "projection_rank": (
                self.projection_rank is None or (self.attention == "gqa" and not has_experts),
                'needs attention "gqa" and only dense layers (first_k_dense_replace equal to num_hidden_layers)',
            ),
            "dropout": (0 <= self.dropout < 1, "must be at least 0 and less than 1"),
            "rope_parameters": (
                _rope_can_be_built(self.rope_parameters),
                'needs rope_type "default" or "yarn", numbers for the rest, and for yarn a factor of at least 1',
            ),
            "hidden_act": (self.hidden_act == "silu", 'must be "silu": the feed-forward parts are SwiGLU'),
            "num_nextn_predict_layers": (
                self.num_nextn_predict_layers == 0 or (self.num_nextn_predict_layers == 1 and has_experts),
                "must be 0, or 1 in a model whose last layers have experts",
            ),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it {rule}")
        if self.n_group > 1 and self.n_routed_experts // self.n_group < 2:
            raise ValueError(f"n_group is {self.n_group}; a group needs at least two experts, whose scores it adds")

    def _latent_rules(self) -> dict[str, tuple[bool, str]]:
        return {
            "qk_rope_head_dim": (self.head_dim % 2 == 0, "must be even: rotary positions rotate pairs"),
            "num_key_value_heads": (
                self.num_key_value_heads == self.num_attention_heads,
                f"must be num_attention_heads ({self.num_attention_heads}): latent attention has a key per head",
            ),
        }

    def _grouped_rules(self) -> dict[str, tuple[bool, str]]:
        return {
            "head_dim": (
                self.head_dim > 0 and self.head_dim % 2 == 0,
                "must be even and at least 2: rotary positions rotate pairs",
            ),
            "num_key_value_heads": (
                self.num_attention_heads % self.num_key_value_heads == 0,
                f"must divide num_attention_heads ({self.num_attention_heads})",
            ),
            "rope_interleave": (not self.rope_interleave, 'must be false with attention "gqa"'),
        }


def _rope_can_be_built(rope: dict) -> bool:
    numbers = [value for key, value in rope.items() if key not in {"rope_type", "type", "truncate"}]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 for value in numbers):
        return False
    kind = rope.get("rope_type")
    return rope["rope_theta"] > 0 and (kind == "default" or (kind == "yarn" and rope.get("factor", 0) >= 1))


def softmax_scale(config: AxionShape) -> float:
    """1/√(head dimension), times YaRN's mscale(mscale_all_dim)² where that is set, as in DeepSeek's own code."""
    scale = config.qk_head_dim**-0.5
    rope = config.rope_parameters
    if rope["rope_type"] != "default" and rope.get("mscale_all_dim") and rope["factor"] > 1:
        scale *= (0.1 * rope["mscale_all_dim"] * math.log(rope["factor"]) + 1.0) ** 2
    return scale
