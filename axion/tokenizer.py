"""The tokenizer: byte-level BPE over Qwen2's pre-tokenizer, trained on the project's own text.

Digits stay single tokens, every byte is a token, and nothing is normalised, so that `decode(encode(x)) == x` for any
text. llama.cpp knows the same split as `pre = qwen2`.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from axion.errors import AxionError
from axion.files import read_json, staged_folder, write_json, write_text

# Their order gives them the ids 0 to 10 in every Axion model.
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
NUM_BYTES = 256

# Qwen2's, to the letter (transformers.models.qwen2.tokenization_qwen2.PRETOKENIZE_REGEX): llama.cpp recognises it.
SPLIT_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn the merges from `texts`; encoding then puts `<bos>` first by default.

    The vocabulary is the special tokens, the 256 bytes, and as many merges as fit (fewer only where the texts are too
    few to offer them). Raises AxionError where `vocab_size` has no room for the first two.
    """
    smallest = len(SPECIAL_TOKENS) + NUM_BYTES
    if vocab_size < smallest:
        raise AxionError(f"tokenizer.vocab_size is {vocab_size}; {smallest} or more is needed for bytes and specials")

    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_REGEX), behavior="isolated"),
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
    """Write tokenizer.json and tokenizer_config.json so that transformers v4 and v5 load them."""
    with staged_folder(Path(folder)) as staging:
        tokenizer.save_pretrained(staging)
        config_file = staging / "tokenizer_config.json"
        config = read_json(config_file)
        # v5 writes its own new class name and where it loaded from; v4 knows only the old name.
        config = {key: value for key, value in config.items() if key not in ("backend", "is_local", "local_files_only")}
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_json(config_file, config)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Open the tokenizer of a run or release folder. Raises AxionError where there is none."""
    if not Path(folder, "tokenizer.json").is_file():
        raise AxionError(f"no tokenizer.json in {Path(folder).name}; give a folder that training or publishing wrote")
    return PreTrainedTokenizerFast.from_pretrained(folder)


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """`<bos>` … `<eos>` for each text; whatever in it looks like a special token stays plain text."""
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False)
    return [[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id] for ids in encoded["input_ids"]]


def encode_document(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """`encode_documents` for one text."""
    return encode_documents(tokenizer, [text])[0]


def write_legacy_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the two files that a release's `BPETokenizer.load("model.vocab", "model.model")` reads.

    model.vocab is one JSON object, token → id; model.model has the merges, one a line, in their order.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in backend["model"]["merges"]]
    write_text(Path(folder, "model.vocab"), json.dumps(vocab, ensure_ascii=False, indent=0) + "\n")
    write_text(Path(folder, "model.model"), "".join(f"{merge}\n" for merge in merges))
