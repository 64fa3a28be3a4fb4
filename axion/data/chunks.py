"""Token ids of many texts: each stretch between two spaces is encoded once, then looked up in a table.

A byte-level BPE encodes pieces of a text on their own, and its pre-tokenizer never puts a space into the same piece as
the character before it, unless that is whitespace too. A text can therefore be cut before every space that follows
something else, and its ids are those of the chunks in a row. Words repeat, so nearly all chunks are in the table: ten
times as fast as encoding every text anew.

This module imports no more than it needs: it is also the program that the processes of `axion.data.encoding` run.
"""

import json
import os
import pickle
import re
import signal
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from axion.split_patterns import CL100K_BASE, GPT2, QWEN2

MAX_CHUNKS = 2**17
"""The table keeps this many chunks, the first ones; it then takes 25 MB. Others are encoded each time."""

PIECE_CHARACTERS = 2**20
"""Longer texts are encoded piece by piece: the chunks of a text take many times its memory."""

_CUT = "\0"
_SPACE_AFTER_TEXT = re.compile(r"(?<=\S) ")
_SPACE_AFTER_SPACE = [f"{chr(code)} " for code in range(0x3001) if chr(code).isspace()]
_IN_ASCII = [pair for pair in _SPACE_AFTER_SPACE if pair.isascii()]

_SPLITS = {QWEN2, GPT2, CL100K_BASE}
"""Patterns of pre-tokenizers whose pieces never hold a space that follows anything but whitespace."""


class ChunkEncoder:
    """Encodes texts without special tokens; what looks like one in a text is plain text.

    Args:
        tokenizer: the content of a tokenizer.json.
        ids: the type of the ids, as `numpy.dtype` reads it.
    """

    def __init__(self, tokenizer: str, ids: str):
        self._backend = Tokenizer.from_str(tokenizer)
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self._type = np.dtype(ids)
        self._has_chunks = can_cut(tokenizer)
        self._table: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of each text, as the bytes of an array."""
        if not self._has_chunks:
            return self._encode(texts)
        if any(len(text) > PIECE_CHARACTERS for text in texts):
            return [b"".join(self._look_up([piece])[0] for piece in pieces(text)) for text in texts]
        return self._look_up(texts)

    def _look_up(self, texts: Sequence[str]) -> list[bytes]:
        cut = [_cut(text) for text in texts]
        known = self._table
        unknown = list(set().union(*cut).difference(known))
        if unknown:
            found = dict(zip(unknown, self._encode(unknown), strict=True))
            room = MAX_CHUNKS - len(known)
            known.update(list(found.items())[: max(room, 0)])
            if len(found) > room:
                return [b"".join([known[chunk] if chunk in known else found[chunk] for chunk in each]) for each in cut]
        return [b"".join(map(known.__getitem__, chunks)) for chunks in cut]

    def _encode(self, texts: Sequence[str]) -> list[bytes]:
        encoded = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(each.ids, self._type).tobytes() for each in encoded]


def can_cut(tokenizer: str) -> bool:
    """Whether texts may be cut at spaces: the tokenizer is a byte-level BPE, and its pre-tokenizer is a known one."""
    content = json.loads(tokenizer)
    model, steps = content["model"], (content["pre_tokenizer"] or {}).get("pretokenizers", [])
    if content["normalizer"] or model["type"] != "BPE" or model.get("dropout"):
        return False
    if [step["type"] for step in steps] != ["Split", "ByteLevel"]:
        return False
    split, byte_level = steps
    is_known = split["pattern"].get("Regex") in _SPLITS and split["behavior"] == "Isolated" and not split["invert"]
    return is_known and not byte_level["add_prefix_space"] and not byte_level["use_regex"]


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of a little more than `PIECE_CHARACTERS`, cut where it may be cut into chunks."""
    start = 0
    while found := _SPACE_AFTER_TEXT.search(text, start + PIECE_CHARACTERS):
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def _cut(text: str) -> list[str]:
    """The chunks of a text: all but the first begin with a space."""
    if _CUT in text:
        return [text]
    if any(map(text.__contains__, _IN_ASCII if text.isascii() else _SPACE_AFTER_SPACE)):
        return _SPACE_AFTER_TEXT.sub(f"{_CUT} ", text).split(_CUT)
    first, *others = text.replace(" ", f"{_CUT} ").split(_CUT)  # four times as fast
    return [first, *others] if first else others


def main() -> None:
    """Encodes the lists of texts that arrive on standard input, until it ends. The first message has the settings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends this input
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    encoder = ChunkEncoder(*pickle.load(source))
    while True:
        try:
            texts = pickle.load(source)
        except EOFError:
            return
        try:
            pickle.dump(encoder.encode(texts), sink, protocol=pickle.HIGHEST_PROTOCOL)
            sink.flush()
        except BrokenPipeError:
            os._exit(1)  # the parent was killed; at a usual exit, Python would flush once more and complain


if __name__ == "__main__":
    main()
