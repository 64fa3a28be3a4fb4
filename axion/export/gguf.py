"""Writes a release as one GGUF file for llama.cpp and programs built on it.

The configuration decides the architecture: `deepseek2` for latent attention, `llama` for dense models with
grouped-query attention. Norms, biases and routers stay in fp32: they are small, and rounding a router can change the
choice of experts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import gguf
import torch
from gguf import GGMLQuantizationType as Kind

from axion.errors import AxionError
from axion.export import deepseek2, llama
from axion.export.rules import Rules, check_rules
from axion.model.configuration_axion import AxionConfig
from axion.release import Release
from axion.split_patterns import CL100K_BASE, GPT2, QWEN2
from axion.tokenizer import END_OF_TURN

DTYPES = {
    "f32": (Kind.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Kind.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
"""How matrices may be stored. q8_0 packs 32 values of a row; rows that 32 does not divide are stored as f16."""

PRE_TOKENIZERS = {QWEN2: "qwen2", GPT2: "gpt-2", CL100K_BASE: "dbrx"}
"""How a text is split → llama.cpp's name for it. DBRX has the tokens of cl100k_base. llama.cpp splits a text as earlier
versions of tiktoken did: spaces at its very end that follow a line break are a piece of their own."""

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
    check_model(release.config)
    release.family.architecture("gguf")
    layout = layout_of(release.config)
    tokenizer = json.loads(release.tokenizer.backend_tokenizer.to_str())
    pre_tokenizer = check_tokenizer(tokenizer)
    kind, file_type = DTYPES[dtype]
    writer = gguf.GGUFWriter(path, layout.ARCHITECTURE)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    metadata(release, repo_id).set_gguf_meta_model(writer)
    _add_shapes(writer, release.config)
    layout.add_shapes(writer, release.config)
    _add_tokenizer(writer, release, tokenizer, pre_tokenizer)
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


class Layout(Protocol):
    """How an architecture of llama.cpp stores a model; a module for each."""

    ARCHITECTURE: str
    TENSORS: gguf.MODEL_ARCH

    def rules(self, config: AxionConfig, /) -> Rules:
        """What holds of every configuration that it can express."""
        ...

    def add_shapes(self, writer: gguf.GGUFWriter, config: AxionConfig, /) -> None:
        """Writes what its loader reads of the model's shapes."""
        ...

    def parts(self, name: str, weight: torch.Tensor, config: AxionConfig, /) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors that it needs for one of the model's weights."""
        ...


def layout_of(config: AxionConfig) -> Layout:
    """The layout of the architecture that has the model's kind of attention."""
    return llama if config.attention == "gqa" else deepseek2


def check_model(config: AxionConfig) -> None:
    """Raises AxionError for the first field of the configuration that llama.cpp cannot express."""
    check_rules(config, layout_of(config).rules(config), "llama.cpp")


def check_tokenizer(tokenizer: dict) -> str:
    """llama.cpp's name for how a tokenizer splits a text.

    Args:
        tokenizer: the content of tokenizer.json.

    Raises:
        AxionError: it is not byte-level BPE, or splits in a way that llama.cpp does not know.
    """
    first = tokenizer["pre_tokenizer"] or {}
    *splits, last = first.get("pretokenizers") or [first]
    pattern = None
    if last.get("type") == "ByteLevel" and not last["add_prefix_space"]:
        own = {"type": "Split", "behavior": "Isolated", "invert": False}
        if last["use_regex"]:  # this step then splits by GPT-2's own pattern
            pattern = None if splits else GPT2
        elif len(splits) == 1 and own.items() <= splits[0].items():
            pattern = splits[0]["pattern"].get("Regex")
    if tokenizer["model"]["type"] != "BPE" or tokenizer["normalizer"] or pattern not in PRE_TOKENIZERS:
        raise AxionError(
            "llama.cpp does not support this tokenizer; it must be byte-level BPE without a normalizer that splits a "
            "text as Qwen2's, GPT-2's or cl100k_base's does"
        )
    return PRE_TOKENIZERS[pattern]


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
    """The shapes that all architectures have."""
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


# --- Tokenizer --------------------------------------------------------------------------------------------------------


def _add_tokenizer(writer: gguf.GGUFWriter, release: Release, content: dict, pre_tokenizer: str) -> None:
    tokenizer = release.tokenizer
    tokens = [f"[PAD{index}]" for index in range(release.config.vocab_size)]  # embedding rows that have no token
    types = [gguf.TokenType.UNUSED] * len(tokens)
    for token, index in tokenizer.get_vocab().items():
        tokens[index], types[index] = token, gguf.TokenType.NORMAL
    for added in content["added_tokens"]:
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]])
    for name in ("bos_token_id", "eos_token_id", "unk_token_id", "pad_token_id"):
        if (index := getattr(tokenizer, name)) is not None:
            getattr(writer, f"add_{name}")(index)
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
    config, layout = release.config, layout_of(release.config)
    names = gguf.get_tensor_name_map(layout.TENSORS, config.num_hidden_layers)
    for own_name, weight in release.model.state_dict().items():
        if own_name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for name, part in layout.parts(own_name, weight, config):
            known_as = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known_as is None:
                raise ValueError(f"llama.cpp's {layout.ARCHITECTURE} has no tensor for {name}")
            yield known_as, part


def storage_kind(name: str, weight: torch.Tensor, wanted: Kind) -> Kind:
    """How a tensor is stored in a file of the wanted kind."""
    if weight.ndim == 1 or "ffn_gate_inp" in name:
        return Kind.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if weight.shape[-1] % block == 0 else Kind.F16
