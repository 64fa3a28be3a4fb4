"""Published facts about the projects that Axion's families follow, each with its source.

The model card and the page show them beside a model's own figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AXION1 = {"axion1-v0.1": {"parameters": 343_616, "validation_loss": 3.2, "epochs": 20, "minutes": 115, "threads": 12}}
"""Recipe → what the model card of the original release says."""

NANO_URL = "https://github.com/SamanSathenjeri/nano-deepseekV3"
NANO_COMMIT = "9a27b2b2e6d563b6527ded7a0fa0921683f94405"
NANO_SETTINGS_URL = f"{NANO_URL}/blob/{NANO_COMMIT}/config.yaml"


@dataclass(frozen=True)
class Setting:
    """A key of the original's settings, and where a recipe says the same."""

    section: str
    key: str
    value: float | str
    ours: str = ""
    """The recipe's key, with dots; empty where a recipe has none."""

    @property
    def name(self) -> str:
        """As in the file, with its section."""
        return f"{self.section}.{self.key}"


ABSENT = "–"


def own_value(setting: Setting, architecture: Mapping[str, Any], training: Mapping[str, Any]) -> Any:
    """What a model's recipe has for a setting of the original; ABSENT where it has nothing, or where that is not known.

    Args:
        architecture: the fields of the model's config.
        training: the recipe's training section.
    """
    value: Any = {"architecture": architecture, "training": training}
    for name in setting.ours.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return ABSENT
        value = value[name]
    return value


_ROPE = "architecture.rope_parameters"

NANO_SETTINGS = (
    Setting("model", "num_embd", 128, "architecture.hidden_size"),
    Setting("model", "num_layers", 6, "architecture.num_hidden_layers"),
    Setting("model", "num_dense_layers", 2, "architecture.first_k_dense_replace"),
    Setting("model", "num_attention_heads", 4, "architecture.num_attention_heads"),
    Setting("model", "intermediate_size", 512, "architecture.intermediate_size"),
    Setting("model", "latent_dim", 4, "architecture.kv_lora_rank"),
    Setting("model", "proj_matrix_size", 64),
    Setting("model", "q_lora_rank", 0, "architecture.q_lora_rank"),
    Setting("model", "kv_lora_rank", 0, "architecture.kv_lora_rank"),
    Setting("model", "qk_nope_head_dim", 32, "architecture.qk_nope_head_dim"),
    Setting("model", "qk_rope_head_dim", 32, "architecture.qk_rope_head_dim"),
    Setting("model", "v_head_dim", 32, "architecture.v_head_dim"),
    Setting("model", "num_experts", 4, "architecture.n_routed_experts"),
    Setting("model", "num_shared_experts", 1, "architecture.n_shared_experts"),
    Setting("model", "num_activated_experts", 2, "architecture.num_experts_per_tok"),
    Setting("model", "expert_inter_size", 512, "architecture.moe_intermediate_size"),
    Setting("model", "n_expert_groups", 1, "architecture.n_group"),
    Setting("model", "n_limited_groups", 1, "architecture.topk_group"),
    Setting("model", "route_scale", 1, "architecture.routed_scaling_factor"),
    Setting("model", "score_function", "sigmoid"),
    Setting("model", "original_seq_len", 128, f"{_ROPE}.original_max_position_embeddings"),
    Setting("model", "rope_theta", 10_000, f"{_ROPE}.rope_theta"),
    Setting("model", "rope_factor", 10, f"{_ROPE}.factor"),
    Setting("model", "beta_fast", 16, f"{_ROPE}.beta_fast"),
    Setting("model", "beta_slow", 1, f"{_ROPE}.beta_slow"),
    Setting("model", "mscale", 1, f"{_ROPE}.mscale"),
    Setting("training", "max_batch_size", 32, "training.batch_size"),
    Setting("training", "num_epochs", 10, "training.epochs"),
    Setting("training", "learning_rate", 0.0003, "training.learning_rate"),
    Setting("training", "warmup_steps", 500, "training.warmup_steps"),
    Setting("training", "num_predicted_tokens", 1, "architecture.num_nextn_predict_layers"),
    Setting("training", "max_seq_len", 128, "training.window"),
    Setting("data", "vocab_size", 50_257, "architecture.vocab_size"),
    Setting("data", "max_seq_len", 128, "architecture.max_position_embeddings"),
    Setting("data", "dtype", "bf16", "training.precision"),
    Setting("device", "device", "cpu"),
    Setting("device", "world_size", 1, "training.distributed.fsdp_size"),
)
"""Nano DeepSeek-V3's config.yaml, from NANO_SETTINGS_URL."""

NOTES: Mapping[str, str] = {
    "model.latent_dim": "Its heads project queries, keys and values in full and rotate them; then each head shrinks "
    "its own to 4 numbers, and nothing is cached. That is no latent attention: here one latent, with 4 numbers for "
    "each of 4 heads in the recipe nano-deepseek-v3, stands for the keys and values of all heads and is what the "
    "cache holds.",
    "model.proj_matrix_size": "Its code does not use it.",
    "model.q_lora_rank": "Its code does not use it. Here no low-rank query is written as null.",
    "model.kv_lora_rank": "Its code does not use it; see latent_dim.",
    "model.qk_nope_head_dim": "Its code does not use it: a head of 32 numbers is rotated as a whole. Here a head has a "
    "part without and a part with positions.",
    "model.v_head_dim": "Its code does not use it; its heads have the same width.",
    "model.n_expert_groups": "Its code for groups is commented out; with one group there is no difference.",
    "model.score_function": "Always sigmoid here. Its router has no bias at this width, so its load is not balanced; "
    "here biases balance it, as in DeepSeek-V3.",
    "model.rope_factor": "Its code scales positions only where max_seq_len exceeds original_seq_len, so not with these "
    "settings. Here YaRN applies wherever a recipe asks for it.",
    "training.num_predicted_tokens": "It counts the next token itself, so 1 predicts no further token: that is 0 here. "
    "1 here adds a layer of multi-token prediction.",
    "data.dtype": "bf16 on a GPU. On a CPU the kernels train in fp32.",
    "data.vocab_size": "GPT-2's tokenizer, as in the recipe nano-deepseek-v3.",
    "device.device": "Chosen when training starts.",
    "beyond": "Beyond the settings: the original's linear layers have biases and its output head is a matrix of its "
    "own; it has no cache and computes its experts token by token.",
}
"""What to know of a setting, by its name with the section, and at the end what is in no setting. A translation has the
same keys."""
