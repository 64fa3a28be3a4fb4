"""The patterns by which pre-tokenizers split a text, in the syntax of `tokenizers`. This module imports nothing."""

_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r"[^\s\p{L}\p{N}]+"
_SPACES = r"\s+(?!\S)|\s+"
_CONTRACTIONS = "[sdmt]|ll|ve|re"

# An exact copy of transformers.models.qwen2.tokenization_qwen2.PRETOKENIZE_REGEX, which llama.cpp recognises.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# These split as those of `tiktoken_ext.openai_public`, whose syntax has possessive quantifiers.
GPT2 = rf"'(?:{_CONTRACTIONS})| ?\p{{L}}+| ?\p{{N}}+| ?{_SIGNS}|{_SPACES}"
CL100K_BASE = rf"'(?i:{_CONTRACTIONS})|{_LETTERS}|\p{{N}}{{1,3}}| ?{_SIGNS}[\r\n]*|\s+(?![\s\S])|\s*[\r\n]+|{_SPACES}"
