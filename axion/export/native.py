"""Writes a release as a checkpoint that transformers loads without remote code.

The configuration decides the architecture: `deepseek_v3` for latent attention, `llama` for dense models with
grouped-query attention. In memory, the model's weights have transformers' own names and shapes. Its checkpoints of
`deepseek_v3` store each expert separately (`mlp.experts.0.gate_proj.weight` …), which saving through its own class
takes care of.

There the output head is always stored, also where it equals the embeddings: DeepSeek-V3 has a head of its own, and
mlx-lm, vLLM and SGLang read it from the file whatever `tie_word_embeddings` says. All of them tie a `llama`.

A layer of multi-token prediction is stored after the decoder's layers, where vLLM and SGLang look for it. transformers'
own `DeepseekV3ForCausalLM` expects it after 61 layers, DeepSeek-V3's own number, unless one line before loading names
another place; see `drafting_line`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM

from axion.export.rules import ONE_PASS, check_rules, llama_rules
from axion.files import read_json, write_json
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import AxionShape
from axion.release import Release
from axion.tokenizer import generation_config, save_tokenizer

OLDEST_DRAFTING_TRANSFORMERS = "5.15"
"""The oldest version that drafts with a layer of multi-token prediction, whether or not the first layers are dense."""

DEEPSEEK_SWITCHES = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}
"""Settings of the router in DeepSeek-V3's own config.json. vLLM, SGLang and llama.cpp read them, transformers ignores
them."""

OWN_FIELDS = {"attention", "num_shared_layers", "num_loops", "projection_rank", "dropout"}
"""Fields that transformers' models do not have, or call by another name."""

LLAMA_FIELDS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rope_parameters", "rms_norm_eps"),
    *("attention_bias", "attention_dropout", "initializer_range", "tie_word_embeddings"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
)
"""Fields of a dense model with grouped-query attention that `LlamaConfig` has too."""


def write_native(release: Release, folder: Path) -> None:
    """Writes config.json, generation_config.json, model.safetensors and the tokenizer's files into `folder`.

    Raises:
        AxionError: transformers has no architecture of this model's kind, or the release is broken.
    """
    config = native_config(release.config)
    release.family.architecture("native")
    model = LlamaForCausalLM(config) if isinstance(config, LlamaConfig) else DeepseekV3ForCausalLM(config)
    model.load_state_dict(release.model.state_dict(), strict=True)
    model.generation_config = generation_config(config, release.tokenizer)
    model.save_pretrained(folder, state_dict=model.state_dict() | _mtp_weights(release))
    _add_old_rotary_fields(folder / "config.json")
    release.tokenizer.model_max_length = config.max_position_embeddings
    save_tokenizer(release.tokenizer, folder)


def native_config(config: AxionConfig) -> DeepseekV3Config | LlamaConfig:
    """The configuration of the same model in transformers' own DeepSeek-V3 or Llama.

    Raises:
        AxionError: neither can express this model.
    """
    if config.attention == "gqa":
        check_rules(config, llama_rules(config), "transformers' llama")
        fields = {name: getattr(config, name) for name in LLAMA_FIELDS}
        return LlamaConfig(**fields, use_cache=True)  # training turns the cache off
    rules = {
        "num_shared_layers": (not config.num_shared_layers, ONE_PASS),
        "n_routed_experts": (
            not config.mixture_layers or config.n_routed_experts > 1,
            "must be at least 2: the two best experts of a group are added up",
        ),
    }
    check_rules(config, rules, "transformers' deepseek_v3")
    fields = {name: getattr(config, name) for name in AxionShape.__annotations__.keys() - OWN_FIELDS - {"head_dim"}}
    return DeepseekV3Config(**fields | {"use_cache": True, "tie_word_embeddings": False}, **DEEPSEEK_SWITCHES)


def drafting_line(config: AxionConfig) -> str | None:
    """The line of Python after which transformers loads an export for `generate(use_mtp=True)`; None without MTP.

    It also keeps transformers from reporting the layer's weights as unexpected. Source: `MtpModel` in its
    modeling_layers.py.
    """
    if not config.num_nextn_predict_layers:
        return None
    pattern = rf"model\.layers\.{config.num_hidden_layers}\."
    return f'DeepseekV3ForCausalLM._keys_to_ignore_on_load_unexpected = [r"{pattern}"]'


def _mtp_weights(release: Release) -> dict[str, torch.Tensor]:
    """The weights of the layer of multi-token prediction, with copies of the embeddings and the head as in DeepSeek's.

    Raises:
        AxionError: model.safetensors lacks them.
    """
    if not release.config.num_nextn_predict_layers:
        return {}
    prefix = f"model.layers.{release.config.num_hidden_layers}."
    weights = release.mtp_model.state_dict()
    return {name: weight for name, weight in weights.items() if name.startswith(prefix)} | {
        f"{prefix}embed_tokens.weight": weights["model.embed_tokens.weight"].clone(),
        f"{prefix}shared_head.head.weight": weights["lm_head.weight"].clone(),
    }


def _add_old_rotary_fields(path: Path) -> None:
    """Adds `rope_theta` and `rope_scaling`, the field names that transformers 4 and other engines read."""
    fields = read_json(path)
    rope = dict(fields["rope_parameters"])
    fields["rope_theta"] = rope.pop("rope_theta")
    fields["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    write_json(path, dict(sorted(fields.items())))
