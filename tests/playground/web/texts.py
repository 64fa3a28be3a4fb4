"""Texts for which tokenizers differ easily."""

from __future__ import annotations

import random

HOSTILE = [
    "",
    " ",
    "\n\n \r\n\t x",
    "it's IT'S we'Ll they'RE 'ſ 'K ſs",
    "a\u0085b\u00a0c\u1680d\u2028e\u3000f\ufeffg\u200bh\u180ei",
    "  two  spaces   three\n\n  lines  \n",
    "12345678 ½ ² ٣٤٥ 一二三 Ⅻ",
    "ação coração NFD: ação naïve",
    "👩‍👩‍👧‍👦🇧🇷🏳️‍🌈 👍🏽",
    "שלום עולם مرحبا بالعالم नमस्ते สวัสดี",
    "\u0000\u0001\x7f\u0080\u009f\ufffd\ufffe\uffff\U0001f600\U0010ffff\U000e0001",
    "</script><script>alert(1)</script>",
    "<bos><eos><THINK>x</THINK><STEP><|user|><|end|><|endoftext|>",
    "<bo<bos>s><|us<|user|>er|>",
    "ĠĊ Ā a\u0300\u0301\u0302b",
    "a" * 500,
    "ab" * 300 + "\n" * 50 + " " * 70,
    "____----====!!!!????....,,,,;;;;\n\n\r\n",
    "x\u0378\u0379y \U0003ffff \ue000",
]


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of characters from many blocks, and of pieces of words, spaces and signs."""
    source = random.Random(seed)
    ranges = [
        (32, 127),
        (0, 256),
        (0x300, 0x370),
        (0x370, 0x2000),
        (0x2000, 0x2100),
        (0x3000, 0xD800),
        (0x1F300, 0x1FB00),
    ]
    pieces = [
        "a",
        "the",
        " de",
        "ção",
        "'s",
        "'LL",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "1",
        "234",
        "é",
        "<bos>",
        "?",
        "...",
        "ß",
        "\u00a0",
    ]
    texts = []
    for index in range(count):
        if index % 2:
            texts.append("".join(source.choices(pieces, k=source.randint(1, 30))))
        else:
            low, high = source.choice(ranges)
            texts.append("".join(chr(source.randrange(low, high)) for _ in range(source.randint(1, 24))))
    return texts
