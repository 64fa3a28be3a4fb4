"""Writes a release as a `deepseek_v3` checkpoint, which transformers loads without remote code.

In memory, the model's weights have transformers' own names and shapes. Its checkpoints store each expert separately
(`mlp.experts.0.gate_proj.weight` …), which saving through its own class takes care of.

The output head is always stored, also where it equals the embeddings: DeepSeek-V3 has a head of its own, and mlx-lm,
vLLM and SGLang read it from the file whatever `tie_word_embeddings` says.
"""

from __future__ import annotations

from pathlib import Path

from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from axion.errors import AxionError
from axion.files import read_json, write_json
from axion.model.configuration_axion import AxionConfig
from axion.release import Release
from axion.tokenizer import generation_config, save_tokenizer

DEEPSEEK_SWITCHES = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}
"""Settings of the router in DeepSeek-V3's own config.json. vLLM, SGLang and llama.cpp read them, transformers ignores
them."""

OWN_FIELDS = {"attention", "head_dim", "num_shared_layers", "num_loops", "projection_rank", "dropout"}
"""Fields that DeepSeek-V3 does not have. Its family of models leaves them at their defaults."""


def write_native(release: Release, folder: Path) -> None:
    """Writes config.json, generation_config.json, model.safetensors and the tokenizer's files into `folder`.

    Raises:
        AxionError: transformers' DeepSeek-V3 cannot express this model, or the release is broken.
    """
    release.family.architecture("native")
    config = native_config(release.config)
    model = DeepseekV3ForCausalLM(config)
    model.load_state_dict(release.model.state_dict(), strict=True)
    model.generation_config = generation_config(config, release.tokenizer)
    model.save_pretrained(folder)
    _add_old_rotary_fields(folder / "config.json")
    release.tokenizer.model_max_length = config.max_position_embeddings
    save_tokenizer(release.tokenizer, folder)


def native_config(config: AxionConfig) -> DeepseekV3Config:
    """The configuration of the same model in transformers' own DeepSeek-V3.

    Raises:
        AxionError: transformers' DeepSeek-V3 cannot express this model.
    """
    if config.mixture_layers and config.n_routed_experts < 2:
        raise AxionError(
            "n_routed_experts is 1; transformers' deepseek_v3 adds up the two best experts of a group, so it needs 2"
        )
    fields = {name: getattr(config, name) for name in AxionConfig.__annotations__.keys() - OWN_FIELDS}
    # training turns the cache off; whoever loads a checkpoint wants it on
    return DeepseekV3Config(**fields | {"use_cache": True, "tie_word_embeddings": False}, **DEEPSEEK_SWITCHES)


def _add_old_rotary_fields(path: Path) -> None:
    """Adds `rope_theta` and `rope_scaling`, the field names that transformers 4 and other engines read."""
    fields = read_json(path)
    rope = dict(fields["rope_parameters"])
    fields["rope_theta"] = rope.pop("rope_theta")
    fields["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    write_json(path, dict(sorted(fields.items())))
