"""The tokenizer: byte-level BPE over Qwen2's pre-tokenizer, trained on a recipe's own text.

Digits stay single tokens, every byte is a token, and there is no normalizer, so `decode(encode(x)) == x` for any text.
llama.cpp knows the same pre-tokenizer as `pre = qwen2`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from axion.errors import AxionError
from axion.files import read_json, staged_folder, write_json, write_text
from axion.split_patterns import QWEN2

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerFast

# In this order they have the ids 0 to 10 in every Axion model.
SPECIAL_TOKENS = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<unk>",
    "<THINK>",
    "</THINK>",
    "<STEP>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
END_OF_TURN = "<|end|>"
"""Ends every message of a conversation."""
NUM_BYTES = 256

SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""What configs of models and tokenizers call the ids of the special tokens that generation needs."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a tokenizer on `texts`. By default it puts `<bos>` before what it encodes.

    Args:
        texts: read once.
        vocab_size: the special tokens, the 256 bytes, and as many merges as fit. Short texts may have fewer merges.

    Raises:
        AxionError: `vocab_size` has no room for the special tokens and the bytes.
    """
    from transformers import PreTrainedTokenizerFast

    smallest = len(SPECIAL_TOKENS) + NUM_BYTES
    if vocab_size < smallest:
        raise AxionError(f"tokenizer.vocab_size is {vocab_size}; bytes and special tokens need {smallest} or more")

    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],  # v4 would add token_type_ids, which the model doesn't take
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json so that transformers v4 and v5 load them."""
    with staged_folder(Path(folder)) as staging:
        tokenizer.save_pretrained(staging)
        config_file = staging / "tokenizer_config.json"
        config = read_json(config_file)
        # v5 writes a class name that v4 does not know, and where it loaded the tokenizer from.
        config = {key: value for key, value in config.items() if key not in ("backend", "is_local", "local_files_only")}
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_json(config_file, config)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of a run or release folder. Raises AxionError where there is none."""
    if not Path(folder, "tokenizer.json").is_file():
        raise AxionError(f"no tokenizer.json in {Path(folder).name}; give the folder of a run or a release")
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def generation_config(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> GenerationConfig:
    """The generation settings of a model: greedy decoding with the special tokens of its config.

    Where that has no token for padding, the one that ends a text pads batches. `<|end|>` also ends the texts of a model
    that was taught to chat, which has a chat template.
    """
    from transformers import GenerationConfig

    ids = {name: getattr(config, name) for name in SPECIAL_IDS}
    if ids["pad_token_id"] is None:
        ids["pad_token_id"] = ids["eos_token_id"]
    if tokenizer.chat_template and (end := tokenizer.get_vocab().get(END_OF_TURN)) is not None:
        ids["eos_token_id"] = [ids["eos_token_id"], end]
    return GenerationConfig(**ids)


def has_own_form(content: object) -> bool:
    """Whether the content of a tokenizer.json is byte-level BPE as `train_tokenizer` makes it, of any text."""
    try:
        added: dict = {token["id"]: token["content"] for token in content["added_tokens"]}  # type: ignore[index]
        split, _ = content["pre_tokenizer"]["pretokenizers"]  # type: ignore[index]
        model, pattern = content["model"]["type"], split["pattern"]["Regex"]  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return False
    return (model, pattern) == ("BPE", QWEN2) and [*map(added.get, range(len(SPECIAL_TOKENS)))] == [*SPECIAL_TOKENS]


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text. What looks like a special token in a text is encoded as plain text."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,  # texts may be longer than the context of the release that the tokenizer comes from
    )
    return cast("list[list[int]]", encoded["input_ids"])


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """`<bos>`, the text's tokens and `<eos>` for each text."""
    bos, eos = bos_and_eos(tokenizer)
    return [[bos, *ids, eos] for ids in encode_texts(tokenizer, texts)]


def encode_document(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """`<bos>`, the text's tokens and `<eos>`."""
    return encode_documents(tokenizer, [text])[0]


def bos_and_eos(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """The ids that stand before and after a document."""
    return cast("int", tokenizer.bos_token_id), cast("int", tokenizer.eos_token_id)


def special_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of a special token such as `<|end|>`. Raises AxionError where the vocabulary does not have it."""
    if (found := tokenizer.get_vocab().get(token)) is None:
        raise AxionError(f"the tokenizer has no token {token}, which these documents need")
    return found


def write_legacy_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the two files that a release's `BPETokenizer.load("model.vocab", "model.model")` reads.

    model.vocab is one JSON object, token → id; model.model has the merges in their order, one per line.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in backend["model"]["merges"]]
    write_text(Path(folder, "model.vocab"), json.dumps(vocab, ensure_ascii=False, indent=0) + "\n")
    write_text(Path(folder, "model.model"), "".join(f"{merge}\n" for merge in merges))
