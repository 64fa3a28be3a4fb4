"""Rules for the JSON files: config, generation config and tokenizer agree, and every version can read them."""

import logging
from collections.abc import Iterator

from transformers import GenerationConfig

from axion.errors import one_line
from axion.pretrained_tokenizer import ENCODINGS, END_OF_TEXT
from publish.check.folder import Folder, Problem, shown

TOKENS = ("bos", "eos", "pad")
_MODEL_FIELDS = {
    *("bos_token_id", "eos_token_id", "pad_token_id"),
    *("output_attentions", "output_hidden_states", "transformers_version", "use_cache"),
}
GENERATION_PARAMETERS = set(GenerationConfig().to_dict()) - _MODEL_FIELDS
OUTDATED = {"torch_dtype": "dtype", "rope_scaling": "rope_parameters"}
"""Field in transformers 4 → its name in transformers 5."""


def config_fields(folder: Folder) -> Iterator[Problem]:
    """config.json has the model type, the version of transformers and the architecture, and no local path."""
    config = folder.data("config.json")
    if not config:
        return
    for name in ("model_type", "transformers_version"):
        if not isinstance(config.get(name), str):
            yield Problem("config.json", None, f"has no {name}", "write config.json with save_pretrained")
    architectures, auto_map = config.get("architectures"), config.get("auto_map")
    target = auto_map.get("AutoModelForCausalLM") if isinstance(auto_map, dict) else None
    expected = [target.rpartition(".")[2]] if isinstance(target, str) else architectures
    if not architectures or architectures != expected:
        what = f"has the architectures {shown(architectures)}"
        yield Problem("config.json", None, what, f"name the class of AutoModelForCausalLM, {shown(expected)}")
    if config.get("_name_or_path"):
        what = f"has _name_or_path {shown(config['_name_or_path'])}"
        yield Problem("config.json", None, what, "remove it, since it is a path of this machine")


def outdated_fields(folder: Folder) -> Iterator[Problem]:
    """config.json has no field names of transformers 4: version 5 warns about them, or reads only some."""
    for old, new in OUTDATED.items():
        if old in folder.data("config.json"):
            yield Problem("config.json", None, f"has {old}", f"transformers 5 calls it {new}")


def generation_parameters(folder: Folder) -> Iterator[Problem]:
    """Generation parameters are in generation_config.json; transformers 5 drops them from config.json."""
    for name in sorted(GENERATION_PARAMETERS & set(folder.data("config.json"))):
        yield Problem("config.json", None, f"has the generation parameter {name}", "move it to generation_config.json")


def generation_valid(folder: Folder) -> Iterator[Problem]:
    """transformers accepts generation_config.json: it ignores a temperature beside `do_sample: false`, for example, and
    warns whoever loads the model."""
    name, log = "generation_config.json", logging.getLogger("transformers.generation.configuration_utils")
    enabled, log.disabled = not log.disabled, True  # it also warns while it reads
    try:
        GenerationConfig.from_dict(folder.data(name)).validate(strict=True)
    except Exception as error:  # each invalid field raises its own
        reason = str(error).partition("\n- ")[2].partition("\n")[0] or str(error)
        yield Problem(name, None, f"is not valid ({one_line(reason, 200)})", "correct or remove what it names")
    finally:
        log.disabled = not enabled


def special_tokens(folder: Folder) -> Iterator[Problem]:
    """bos, eos and pad are the same in all files, and pad differs from eos; else output is empty or endless
    (open-r1#663)."""
    config, generation = folder.data("config.json"), folder.data("generation_config.json")
    names, ids = folder.data("tokenizer_config.json"), _token_ids(folder)
    if not (config and names and ids):
        return
    end = names.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    for token in TOKENS:
        content = names.get(f"{token}_token")
        content = content.get("content") if isinstance(content, dict) else content
        tokenizers = ids.get(content) if isinstance(content, str) else None
        if tokenizers is None:
            what = f"has the {token}_token {shown(content)}, which is not in tokenizer.json"
            yield Problem("tokenizer_config.json", None, what, "use one of its tokens")
            continue
        for file, other in (("config.json", config), ("generation_config.json", generation)):
            value = other.get(f"{token}_token_id")
            # A text's end that also pads is no padding of the model's: its embedding would never be trained.
            unused = token == "pad" and file == "config.json" and content == end and value is None
            if other and not unused and not _names(value, tokenizers, many=token == "eos" and other is generation):
                what = f"has the {token}_token_id {shown(value)}"
                yield Problem(file, None, what, f"the tokenizer's {token} is {shown(content)}, {tokenizers}")
    if config.get("pad_token_id") is not None and config.get("pad_token_id") == config.get("eos_token_id"):
        what = f"has {shown(config['pad_token_id'])} as both pad_token_id and eos_token_id"
        yield Problem("config.json", None, what, "output would be endless or empty; use a separate token for padding")


def _names(value: object, token: int, many: bool) -> bool:
    """Whether a configuration's value is this token. With `many` there may be others: what ends a turn ends a text."""
    return token in value if many and isinstance(value, list) else value in (token, [token])


def tokenizer_class(folder: Folder) -> Iterator[Problem]:
    """The tokenizer class is PreTrainedTokenizerFast: transformers 4, llama.cpp and mlx_lm cannot load the
    TokenizersBackend that version 5 writes (unsloth#8444, GPTQModel#2403)."""
    config = folder.data("tokenizer_config.json")
    if config and config.get("tokenizer_class") != "PreTrainedTokenizerFast":
        what = f"has the tokenizer_class {shown(config.get('tokenizer_class'))}"
        yield Problem("tokenizer_config.json", None, what, "write PreTrainedTokenizerFast, which all programs can load")


def sizes(folder: Folder) -> Iterator[Problem]:
    """Every token has a row in the embeddings, and the tokenizer truncates at the model's context length.

    Rows without a token are allowed: a small corpus gives fewer tokens than requested.
    """
    config, tokenizer = folder.data("config.json"), folder.data("tokenizer_config.json")
    needed = 1 + max((number for number in _token_ids(folder).values() if isinstance(number, int)), default=-1)
    rows, context = config.get("vocab_size"), config.get("max_position_embeddings")
    if config and not (isinstance(rows, int) and rows >= needed):
        yield Problem("config.json", None, f"has the vocab_size {shown(rows)}", f"tokenizer.json needs {needed}")
    if config and tokenizer and tokenizer.get("model_max_length") != context:
        what = f"has the model_max_length {shown(tokenizer.get('model_max_length'))}"
        yield Problem("tokenizer_config.json", None, what, f"the model's max_position_embeddings is {shown(context)}")


def encoding(folder: Folder) -> Iterator[Problem]:
    """Where the tokenizer is one of tiktoken's encodings, its entries are exactly that one's, and the token that ends a
    text also begins and pads it: a model with other ids or more rows is no longer interchangeable with others."""
    made = folder.data("release.json").get("tokenizer")
    name = str(made.get("encoding")) if isinstance(made, dict) else ""
    known = ENCODINGS.get(name)
    config, names, ids = folder.data("config.json"), folder.data("tokenizer_config.json"), _token_ids(folder)
    if known is None or not (config and names and ids):
        return
    if config.get("vocab_size") != known.size:
        what = f"has the vocab_size {shown(config.get('vocab_size'))}"
        yield Problem("config.json", None, what, f"{name} has {known.size} entries")
    special = {token: ids.get(token) for token in known.special_tokens}
    if {*ids.values()} != {*range(known.size)} or special != known.special_tokens:
        yield Problem("tokenizer.json", None, f"does not have the ids of {name}", "build the release again")
    for token in TOKENS:
        content = names.get(f"{token}_token")
        if (content.get("content") if isinstance(content, dict) else content) != END_OF_TEXT:
            yield Problem(
                "tokenizer_config.json", None, f"has the {token}_token {shown(content)}", f"use {END_OF_TEXT}"
            )


def _token_ids(folder: Folder) -> dict[str, int]:
    """Token → id of everything in tokenizer.json; empty if the file is invalid."""
    tokenizer = folder.data("tokenizer.json")
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = dict(vocabulary) if isinstance(vocabulary, dict) else {}
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            ids[token["content"]] = token.get("id")
    return ids
