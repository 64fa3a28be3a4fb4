"""The model's tokenizer for code that does not use transformers' own: two plain files, one small class.

    from tokenizer import BPETokenizer

    tok = BPETokenizer.load("model.vocab", "model.model")
    ids = tok.encode("Quanto é 5 + 3?", add_bos=True, add_eos=False)
    tok.decode(ids)

`model.vocab` is one JSON object, token → id. `model.model` has the merges of the byte-level BPE, one a line. The ids
are those of `AutoTokenizer.from_pretrained(...)`. It needs the `tokenizers` package, which comes with transformers.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

SPLIT_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class BPETokenizer:
    """Text to token ids and back, without loss."""

    def __init__(self, token2id, merges):
        self.token2id = dict(token2id)
        self.id2token = {index: token for token, index in self.token2id.items()}
        self._backend = Tokenizer(BPE(vocab=self.token2id, merges=merges))
        self._backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLIT_REGEX), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._backend.decoder = decoders.ByteLevel()
        # What is neither a byte nor made by a merge is a special token.
        merged = {left + right for left, right in merges}
        specials = [token for token in self.token2id if len(token) > 1 and token not in merged]
        self._backend.add_special_tokens(sorted(specials, key=self.token2id.get))

    @classmethod
    def load(cls, vocab_file, merges_file):
        """Read the two files: `BPETokenizer.load("model.vocab", "model.model")`."""
        token2id = json.loads(Path(vocab_file).read_text(encoding="utf-8"))
        lines = Path(merges_file).read_text(encoding="utf-8").split("\n")
        return cls(token2id, [tuple(line.split(" ")) for line in lines if line])

    def __len__(self):
        return len(self.token2id)

    def encode(self, text, add_bos=False, add_eos=False):
        """The token ids of `text`, with `<bos>` before and `<eos>` after where asked."""
        ids = self._backend.encode(text, add_special_tokens=False).ids
        if add_bos:
            ids = [self.token2id["<bos>"], *ids]
        if add_eos:
            ids = [*ids, self.token2id["<eos>"]]
        return ids

    def decode(self, ids, skip_special_tokens=True):
        """The text of a list of ids; special tokens are left out unless asked for."""
        return self._backend.decode([int(index) for index in ids], skip_special_tokens=skip_special_tokens)
