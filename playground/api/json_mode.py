"""JSON mode: sampling is restricted to tokens that continue one JSON object.

The grammar is RFC 8259's without white space between tokens, which a small model might repeat forever.
"""

from collections.abc import Sequence

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
    """What has to come after the first character of a value; empty where no value starts so."""
    if char in LITERALS:
        return tuple(LITERALS[char][1:])
    if char in "0123456789":
        return ("zero" if char == "0" else "digits",)
    return {'"': ("string",), "{": ("members",), "[": ("elements",), "-": ("minus",)}.get(char, ())


def read(stack: Stack, text: str) -> Stack | None:
    """`step` over all characters of the text."""
    for char in text:
        if (following := step(stack, char)) is None:
            return None
        stack = following
    return stack


class JsonOnly(LogitsProcessor):
    """Allows tokens that continue a JSON object, and those that end the text only once it is complete.

    Args:
        prompt_length: tokens before the first new one.
        ends: the tokens that end a text, at least one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int, ends: Sequence[int]) -> None:
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        # Bytes as Latin-1: every byte from 128 on is part of a character that may stand in a string.
        self._texts = {
            token: token_bytes(tokenizer, token).decode("latin-1")
            for token in range(len(tokenizer))
            if token not in special
        }
        self._ends, self._prompt_length = sorted(ends), prompt_length
        self._stack, self._read = START, 0
        self._allowed: dict[Stack, list[int]] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """As transformers calls it: ids [1, T] and logits [1, V]; a call follows every new token."""
        new = input_ids[0, self._prompt_length :].tolist()
        for token in new[self._read :]:
            self._stack = read(self._stack, self._texts.get(token, "")) or ()
        self._read = len(new)
        allowed = self._find_allowed() if self._stack else self._ends
        mask_V = torch.full_like(scores[0], -torch.inf)
        mask_V[allowed] = 0
        return scores + mask_V  # pyright: ignore[reportReturnType]

    def _find_allowed(self) -> list[int]:
        if self._stack not in self._allowed:
            self._allowed[self._stack] = [
                token for token, text in self._texts.items() if text and read(self._stack, text) is not None
            ]
        return self._allowed[self._stack]
