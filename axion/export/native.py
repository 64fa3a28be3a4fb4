"""A release as a `deepseek_v3` checkpoint, which transformers loads with no code but its own.

The names and shapes of the weights in memory are transformers' own already; its checkpoints keep every expert apart
(`mlp.experts.0.gate_proj.weight` …), and saving through its own class writes them so.
"""

from __future__ import annotations

from pathlib import Path

from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, GenerationConfig

from axion.errors import AxionError
from axion.export import require_export
from axion.files import read_json, write_json
from axion.model.configuration_axion import AxionConfig
from axion.release import Release
from axion.tokenizer import save_tokenizer

DEEPSEEK_SWITCHES = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1}
"""What config.json of DeepSeek-V3 itself says of its router: vLLM, SGLang and llama.cpp read it, transformers knows."""


def write_native(release: Release, folder: Path) -> None:
    """Write config.json, generation_config.json, model.safetensors and the tokenizer's files into `folder`.

    Raises:
        AxionError: transformers' DeepSeek-V3 cannot express this model, or the release is broken.
    """
    require_export(release.family, "native")
    config = native_config(release.config)
    model = DeepseekV3ForCausalLM(config)
    model.load_state_dict(release.model.state_dict(), strict=True)
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    model.generation_config = GenerationConfig(**{name: getattr(config, name) for name in ids})
    model.save_pretrained(folder)
    _name_rotary_fields_of_old(folder / "config.json")
    release.tokenizer.model_max_length = config.max_position_embeddings
    save_tokenizer(release.tokenizer, folder)


def native_config(config: AxionConfig) -> DeepseekV3Config:
    """The same model as transformers' own DeepSeek-V3 configures it.

    Raises:
        AxionError: transformers' DeepSeek-V3 cannot express this model.
    """
    if config.mixture_layers and config.n_routed_experts < 2:
        raise AxionError(
            "n_routed_experts is 1; transformers' deepseek_v3 adds up the two best experts of a group, so it needs 2"
        )
    fields = {name: getattr(config, name) for name in AxionConfig.__annotations__}
    # a run in training keeps no cache; whoever loads a checkpoint wants one
    return DeepseekV3Config(**fields | {"use_cache": True}, **DEEPSEEK_SWITCHES)


def _name_rotary_fields_of_old(path: Path) -> None:
    """Add `rope_theta` and `rope_scaling`, the names that transformers 4 and other engines read."""
    fields = read_json(path)
    rope = dict(fields["rope_parameters"])
    fields["rope_theta"] = rope.pop("rope_theta")
    fields["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    write_json(path, dict(sorted(fields.items())))
