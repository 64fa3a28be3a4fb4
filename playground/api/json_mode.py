"""JSON mode: sampling is restricted to tokens that continue one JSON object.

The grammar is RFC 8259's without white space between tokens, which a small model might repeat forever.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from playground.api.responses import token_bytes

Stack = tuple[str, ...]
"""What has to come next, the nearest first; empty once the object is complete."""

START: Stack = ("object",)

NUMBER = {
    "minus": {"0": "zero", "123456789": "digits"},
    "zero": {".": "point", "eE": "exponent"},
    "digits": {"0123456789": "digits", ".": "point", "eE": "exponent"},
    "point": {"0123456789": "decimals"},
    "decimals": {"0123456789": "decimals", "eE": "exponent"},
    "exponent": {"0123456789": "power", "+-": "sign"},
    "sign": {"0123456789": "power"},
    "power": {"0123456789": "power"},
}
"""State within a number → characters → the next state."""
COMPLETE = ("zero", "digits", "decimals", "power")
"""States in which a number may end."""
MAX_STACK = 32
"""The longest stack, which bounds the nesting: a small model might open lists forever."""
LITERALS = {"t": "true", "f": "false", "n": "null"}


def step(stack: Stack, char: str) -> Stack | None:
    """What has to come after this character; None where it is not allowed."""
    if not stack:
        return None
    top, rest = stack[0], stack[1:]
    if top == "string":
        if char == '"':
            return rest
        return ("escape", *stack) if char == "\\" else stack if char >= " " else None
    if top == "escape":
        return ("hex",) * 4 + rest if char == "u" else rest if char in '"\\/bfnrt' else None
    if top == "hex":
        return rest if char in "0123456789abcdefABCDEF" else None
    if top in NUMBER:
        following = next((state for chars, state in NUMBER[top].items() if char in chars), None)
        return (following, *rest) if following else step(rest, char) if top in COMPLETE else None
    if top == "value" and (following := _first_of_value(char)):
        return (*following, *rest)
    if top in ("members", "member") and char == '"':
        return ("string", ":", "value", "next member", *rest)
    if top == "elements" and char != "]":
        return step(("value", "next element", *rest), char)
    if (top, char) in (("object", "{"), ("next member", ",")):
        return ("members" if char == "{" else "member", *rest)
    if (top, char) == ("next element", ","):
        return ("value", "next element", *rest)
    closed = {"members": "}", "next member": "}", "elements": "]", "next element": "]"}.get(top, top)
    return rest if char == closed else None


def _first_of_value(char: str) -> Stack:
    """What has to come after the first character of a value; empty if no value starts with it."""
    if char in LITERALS:
        return tuple(LITERALS[char][1:])
    if char in "0123456789":
        return ("zero" if char == "0" else "digits",)
    return {'"': ("string",), "{": ("members",), "[": ("elements",), "-": ("minus",)}.get(char, ())


def read(stack: Stack, text: str) -> Stack | None:
    """`step` over all characters of the text; None where one is not allowed, or the nesting is too deep."""
    for char in text:
        if (following := step(stack, char)) is None or len(following) > MAX_STACK:
            return None
        stack = following
    return stack


class _Vocabulary:
    """The texts of a tokenizer's tokens, and which of them may follow each stack."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        # Bytes as Latin-1: every byte from 128 on is part of a character that may stand in a string.
        self.texts = {
            token: token_bytes(tokenizer, token).decode("latin-1")
            for token in range(len(tokenizer))
            if token not in special
        }
        self.allowed = lru_cache(maxsize=1024)(self._find_allowed)

    def _find_allowed(self, stack: Stack) -> list[int]:
        return [token for token, text in self.texts.items() if text and read(stack, text) is not None]


_vocabulary = lru_cache(maxsize=8)(_Vocabulary)
"""One for each tokenizer: a request may ask for many texts."""


class JsonOnly(LogitsProcessor):
    """Allows tokens that continue a JSON object, and those that end the text only once it is complete.

    Args:
        prompt_length: tokens before the first new one.
        ends: the tokens that end a text, at least one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int, ends: Sequence[int]) -> None:
        self._vocabulary = _vocabulary(tokenizer)
        self._ends, self._prompt_length = sorted(ends), prompt_length
        self._stack, self._read = START, 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """As transformers calls it: ids [1, T] and logits [1, V]; a call follows every new token."""
        new = input_ids[0, self._prompt_length :].tolist()
        for token in new[self._read :]:
            self._stack = read(self._stack, self._vocabulary.texts.get(token, "")) or ()
        self._read = len(new)
        allowed = self._vocabulary.allowed(self._stack) if self._stack else self._ends
        mask_V = torch.full_like(scores[0], -torch.inf)
        mask_V[allowed] = 0
        return scores + mask_V  # pyright: ignore[reportReturnType]
