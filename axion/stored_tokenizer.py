"""A release's tokenizer without transformers: its tokenizer.json alone, where tokenizer_config.json adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from axion.files import read_json

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")

OTHER_FILES = ("added_tokens.json", "special_tokens_map.json")
"""What else transformers reads of a tokenizer, besides templates."""

TEMPLATES = ("chat_template.jinja", "additional_chat_templates")
"""Where a folder has chat templates."""

LARGEST_VOCABULARY = 100_000
"""transformers looks for a known fault, and mends it, in tokenizers with more tokens."""


class Encoded(NamedTuple):
    """What `PreTrainedTokenizerFast` returns, as far as generation reads it."""

    input_ids: list[int]


class StoredTokenizer:
    """Encodes and decodes like the `PreTrainedTokenizerFast` of the same files."""

    chat_template = None
    """transformers renders templates, so they are left out."""

    def __init__(self, backend_tokenizer: Tokenizer, eos_token_id: int | None):
        self.backend_tokenizer, self.eos_token_id = backend_tokenizer, eos_token_id

    def __call__(self, text: str) -> Encoded:
        return Encoded(self.backend_tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return self.backend_tokenizer.decode(ids, skip_special_tokens=False)


def open_stored_tokenizer(folder: Path, chats: bool = False) -> StoredTokenizer | None:
    """The tokenizer of a release, as `axion.tokenizer` writes it.

    Args:
        folder: has tokenizer.json and tokenizer_config.json.
        chats: whether a chat template is needed where there is one.

    Returns:
        None where transformers would change what tokenizer.json does or has to render a template, or a file is broken.
    """
    try:
        config, content = (read_json(folder / name) for name in ("tokenizer_config.json", "tokenizer.json"))
        names = {token["content"] for token in content["added_tokens"] if token["special"]}
        fixed = {"clean_up_tokenization_spaces": False, "tokenizer_class": "PreTrainedTokenizerFast"}
        adds_nothing = (
            config.keys() <= {*fixed, *SPECIAL, "model_input_names", "model_max_length", "chat_template"}
            and all(config[name] == value for name, value in fixed.items())
            and all(config[name] in names for name in SPECIAL if name in config)
            and content["truncation"] is content["padding"] is None
            and content["post_processor"] is not None
            and not any((folder / name).exists() for name in OTHER_FILES)
            and not (chats and ("chat_template" in config or any((folder / name).exists() for name in TEMPLATES)))
        )
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # a broken file; tokenizers raises bare Exceptions
        return None
    if not adds_nothing or backend.get_vocab_size() > LARGEST_VOCABULARY:
        return None
    return StoredTokenizer(backend, backend.token_to_id(config.get("eos_token", "")))
