"""Writes a release as one GGUF file (architecture `deepseek2`) for llama.cpp and programs built on it.

llama.cpp stores latent attention in absorbed form: the up-projection of the latents becomes two tensors per layer, W_uk
transposed and W_uv. Experts are stacked, with gate and up separate. Rotary pairs are adjacent. Norms, biases and
routers stay in fp32: they are small, and rounding a router can change the choice of experts.

Source: llama.cpp's own converter (conversion/deepseek.py) and loader (src/models/deepseek2.cpp).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import gguf
import torch
from gguf import GGMLQuantizationType as Kind

from axion.errors import AxionError
from axion.model.attention_axion import AxionRotaryEmbedding, softmax_scale
from axion.model.configuration_axion import LATENT_NORM_EPS, AxionConfig
from axion.release import Release
from axion.split_patterns import QWEN2
from axion.tokenizer import END_OF_TURN

DTYPES = {
    "f32": (Kind.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Kind.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
"""How matrices may be stored. q8_0 packs 32 values of a row; rows that 32 does not divide are stored as f16."""

LITE_LAYERS = (26, 27)
"""llama.cpp takes a model with this many layers for DeepSeek-V2-Lite, whose queries have no low-rank path."""

MOST_LAYERS, MOST_EXPERTS = 512, 1024
"""llama.cpp's own limits (LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS)."""

AUTHOR = "Axion contributors"


def write_gguf(release: Release, path: Path, dtype: str, repo_id: str | None = None) -> None:
    """Writes the model and its tokenizer to `path`.

    Args:
        release: the release to write.
        path: the file to write, in a folder that exists.
        dtype: how matrices are stored, a key of `DTYPES`.
        repo_id: USER/NAME of the original on the Hub; by default the one in release.json.

    Raises:
        AxionError: llama.cpp cannot run this model, or the release is broken.
    """
    architecture = release.family.architecture("gguf")
    check_model(release.config)
    tokenizer = json.loads(release.tokenizer.backend_tokenizer.to_str())
    check_tokenizer(tokenizer)
    kind, file_type = DTYPES[dtype]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    metadata(release, repo_id).set_gguf_meta_model(writer)
    _add_shapes(writer, release.config)
    _add_rotary(writer, release.config)
    _add_tokenizer(writer, release, tokenizer)
    for name, weight in tensors(release):
        stored_as = storage_kind(name, weight, kind)
        data = gguf.quants.quantize(weight.contiguous().numpy(), stored_as)
        writer.add_tensor(name, data, raw_dtype=stored_as)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


# --- What llama.cpp cannot run ----------------------------------------------------------------------------------------


def check_model(config: AxionConfig) -> None:
    """Raises AxionError for the first field of the configuration that llama.cpp's `deepseek2` cannot express."""
    layers, rope = config.num_hidden_layers, config.rope_parameters or {}
    rules = {
        "attention_bias": (not config.attention_bias, "must be false: deepseek2 has no attention biases"),
        "rms_norm_eps": (
            config.rms_norm_eps == LATENT_NORM_EPS,
            f"must be {LATENT_NORM_EPS}: deepseek2 has one epsilon for all norms, and that of the latents is fixed",
        ),
        "routed_scaling_factor": (config.routed_scaling_factor != 0, "must not be 0: llama.cpp reads 0 as 1"),
        "num_hidden_layers": (
            layers <= MOST_LAYERS and not (layers in LITE_LAYERS and config.q_lora_rank),
            f"must be at most {MOST_LAYERS}, and with a q_lora_rank not {' or '.join(map(str, LITE_LAYERS))}: "
            "llama.cpp takes models with this many layers for DeepSeek-V2-Lite",
        ),
        "n_routed_experts": (config.n_routed_experts <= MOST_EXPERTS, f"must be at most {MOST_EXPERTS}"),
        "rope_parameters": (
            rope.get("truncate", True) and (rope.get("factor", 2) > 1 or rope.get("attention_factor", 1) == 1),
            "must have truncate true, and a factor above 1 where there is an attention_factor",
        ),
    }
    for name, (holds, rule) in rules.items():
        if not holds:
            raise AxionError(f"llama.cpp cannot run this model: {name} is {getattr(config, name)!r}; it {rule}")


def check_tokenizer(tokenizer: dict) -> None:
    """Raises AxionError unless the content of tokenizer.json is byte-level BPE with Qwen2's pre-tokenizer."""
    split = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
    steps = (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", [])
    is_ours = tokenizer["model"]["type"] == "BPE" and not tokenizer["normalizer"] and len(steps) == 2
    if not (is_ours and steps[0] == split and steps[1]["type"] == "ByteLevel"):
        raise AxionError(
            "llama.cpp does not support this tokenizer; it must be byte-level BPE with Qwen2's pre-tokenizer"
        )


# --- Metadata ---------------------------------------------------------------------------------------------------------


def metadata(release: Release, repo_id: str | None) -> gguf.Metadata:
    """The model's metadata from release.json; without that file, its name alone.

    Raises:
        AxionError: release.json lacks a field, or has one of another type.
    """
    info = release.info
    if not info:
        return gguf.Metadata(name=release.name)
    repo_id = repo_id or _text(release, "repo_id")
    title, version, tag, license_id = (_text(release, name) for name in ("title", "version", "tag", "license"))
    languages = info.get("languages")
    if not isinstance(languages, list) or not all(isinstance(language, str) for language in languages):
        raise _broken(release, "languages", "a list of texts")
    names = info.get("datasets") or ([] if info.get("dataset") is None else [_text(release, "dataset")])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _broken(release, "datasets", "a list of texts")
    url = f"https://huggingface.co/{repo_id}"
    base = {"name": title, "version": version, "organization": repo_id.split("/")[0], "repo_url": url}
    return gguf.Metadata(
        name=f"{title} {tag}",
        author=AUTHOR,
        version=version,
        license=license_id,
        languages=languages,
        source_url=f"{url}/tree/{tag}",
        base_models=[base],
        datasets=[{"name": name, "repo_url": f"https://huggingface.co/datasets/{name}"} for name in names] or None,
    )


def _text(release: Release, name: str) -> str:
    if not isinstance(text := release.info.get(name), str):
        raise _broken(release, name, "text")
    return text


def _broken(release: Release, name: str, wanted: str) -> AxionError:
    found = repr(release.info[name]) if name in release.info else "missing"
    return AxionError(f"{release.name}: release.json is broken: its {name} is {found}; it must be {wanted}")


def _add_shapes(writer: gguf.GGUFWriter, config: AxionConfig) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)

    # absorbed: one key-value head, whose key is latent and rotary key, and whose value is the latent
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1)
    writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_q_lora_rank(config.q_lora_rank or 0)
    writer.add_kv_lora_rank(config.kv_lora_rank)

    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    if config.topk_group < config.n_group:  # llama.cpp accepts groups only where not all are eligible
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)


def _add_rotary(writer: gguf.GGUFWriter, config: AxionConfig) -> None:
    """Rotary positions. With YaRN, llama.cpp derives two factors in another way, and they must equal ours.

    Ours: cosines and sines times A (transformers' `attention_factor`), scores times S (`softmax_scale`). llama.cpp's:
    cosines and sines times a = attn_factor, scores times (a·(1 + 0.1·m·ln factor))², with m from its yarn_log_mul;
    where m is 0, attn_factor is relative to 1 + 0.1·ln factor instead of 1. DeepSeek's own settings, with mscale equal
    to mscale_all_dim, give A = 1 and m = mscale_all_dim.
    """
    rope = config.rope_parameters or {}
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "default":
        return
    factor, original_length = rope["factor"], rope["original_max_position_embeddings"]
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    writer.add_rope_scaling_orig_ctx_len(original_length)
    writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast") or 32)
    writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow") or 1)
    if factor == 1:
        return
    on_rotation = AxionRotaryEmbedding(config).attention_scaling
    on_scores = math.sqrt(softmax_scale(config) * math.sqrt(config.qk_head_dim))
    multiplier = (on_scores / on_rotation - 1) / (0.1 * math.log(factor))
    if abs(multiplier) < 1e-9:
        on_rotation /= 1 + 0.1 * math.log(factor)
    else:
        writer.add_rope_scaling_yarn_log_mul(0.1 * multiplier)
    if on_rotation != 1:
        writer.add_rope_scaling_attn_factors(on_rotation)


# --- Tokenizer --------------------------------------------------------------------------------------------------------


def _add_tokenizer(writer: gguf.GGUFWriter, release: Release, content: dict) -> None:
    tokenizer = release.tokenizer
    tokens = [f"[PAD{index}]" for index in range(release.config.vocab_size)]  # embedding rows that have no token
    types = [gguf.TokenType.UNUSED] * len(tokens)
    for token, index in tokenizer.get_vocab().items():
        tokens[index], types[index] = token, gguf.TokenType.NORMAL
    for added in content["added_tokens"]:
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]])
    for name in ("bos_token_id", "eos_token_id", "unk_token_id", "pad_token_id"):
        getattr(writer, f"add_{name}")(getattr(tokenizer, name))
    if tokenizer.chat_template and (end := tokenizer.get_vocab().get(END_OF_TURN)) is not None:
        writer.add_eot_token_id(end)  # llama.cpp ends an answer there
    encoded = tokenizer("1")["input_ids"]
    writer.add_add_bos_token(encoded[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(encoded[-1] == tokenizer.eos_token_id)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.get_chat_template())  # the default one, where there are several


# --- Tensors ----------------------------------------------------------------------------------------------------------


def tensors(release: Release) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the file: llama.cpp's name, and the value in fp32 in llama.cpp's layout."""
    config = release.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.DEEPSEEK2, config.num_hidden_layers)
    for own_name, weight in release.model.state_dict().items():
        for name, part in _parts(own_name, weight, config):
            known_as = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known_as is None:
                raise ValueError(f"llama.cpp's deepseek2 has no tensor for {name}")
            yield known_as, part


def storage_kind(name: str, weight: torch.Tensor, wanted: Kind) -> Kind:
    """How a tensor is stored in a file of the wanted kind."""
    if weight.ndim == 1 or "ffn_gate_inp" in name:
        return Kind.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if weight.shape[-1] % block == 0 else Kind.F16


def _parts(name: str, weight: torch.Tensor, config: AxionConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that llama.cpp needs for one of the model's weights, under DeepSeek's names."""
    before, _, last = name.removesuffix(".weight").rpartition(".")
    if last == "lm_head" and config.tie_word_embeddings:
        return
    if last == "gate_up_proj":
        gate, up = weight.chunk(2, dim=1)
        yield f"{before}.gate_proj.weight", gate
        yield f"{before}.up_proj.weight", up
    elif before.endswith("mlp.experts"):
        yield f"{name}.weight", weight
    elif last == "e_score_correction_bias":
        yield f"{before}.e_score_correction.bias", weight
    elif last == "kv_b_proj":
        weight_HxR = weight.unflatten(0, (config.num_attention_heads, -1))
        key_up, value_up = weight_HxR.split([config.qk_nope_head_dim, config.v_head_dim], dim=1)
        yield f"{before}.k_b_proj.weight", key_up.transpose(1, 2)
        yield f"{before}.v_b_proj.weight", value_up
    elif last in ("q_proj", "q_b_proj"):
        rows = weight.unflatten(0, (config.num_attention_heads, -1))
        yield name, _pair_rows(rows, config).flatten(0, 1)
    elif last == "kv_a_proj_with_mqa":
        yield name, _pair_rows(weight.unsqueeze(0), config).squeeze(0)
    else:
        yield name, weight


def _pair_rows(rows_HxD: torch.Tensor, config: AxionConfig) -> torch.Tensor:
    """Reorders the rotary rows, which are the last of each head, so that the two rows of a pair are adjacent."""
    if config.rope_interleave:
        return rows_HxD
    plain, rotary = rows_HxD.split([rows_HxD.shape[1] - config.qk_rope_head_dim, config.qk_rope_head_dim], dim=1)
    paired = rotary.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
    return torch.cat([plain, paired], dim=1)
