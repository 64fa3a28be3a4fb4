"""Small tokenizers that are built as well-known ones are."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from axion import split_patterns
from axion.pretrained_tokenizer import END_OF_TEXT, _fast
from tests.conftest import tiny_documents


def like_gpt2(pattern: str = split_patterns.GPT2, special_tokens: tuple[str, ...] = (END_OF_TEXT,)):
    """Byte-level BPE with a pattern of `axion.split_patterns` and special tokens at the end of its vocabulary."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(tiny_documents(), trainer)
    backend.add_special_tokens(list(special_tokens))
    tokenizer: PreTrainedTokenizerFast = _fast(backend, END_OF_TEXT, END_OF_TEXT, END_OF_TEXT)
    return tokenizer
