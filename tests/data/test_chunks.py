"""Texts that are cut at spaces give the tokens of the whole text, in this process and in others."""

import random
from collections import Counter

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from axion.data import chunks, encoding
from axion.data.chunks import ChunkEncoder, can_cut
from axion.data.encoding import DocumentEncoder
from axion.data.sources.base import Document, Span
from axion.data.split import Side
from axion.errors import AxionError
from axion.pretrained_tokenizer import ENCODINGS
from axion.split_patterns import QWEN2
from axion.tokenizer import bos_and_eos, encode_texts, train_tokenizer

SPACES = [
    *" \t\n\r\v\f\x1c\x1d\x85\xa0",
    "\u1680",
    "\u2003",
    "\u2028",
    "\u202f",
    "\u3000",
    "\u200b",
    "\ufeff",
    "\u180e",
]
PIECES = [
    *SPACES,
    *"aZ1,.'\"<é€ªß²½",
    "\0",
    "'s",
    "'LL",
    "the",
    "Ça",
    "中文",
    "e\u0301",
    "\U0001f999",
    "<|end|>",
    "<eos>",
]


@pytest.fixture(scope="module")
def tokenizer():
    words = "the cat's hat isn't here, and the other cat sat on 12 mats.\n\n  They're we'll I'd\t\tÇa é\u00a0bom"
    return train_tokenizer([words] * 50, 500)


@pytest.fixture(scope="module")
def texts():
    """Random texts of letters, signs and of every kind of space."""
    rng = random.Random(1)
    mixed = ["".join(rng.choices(PIECES, k=rng.randrange(30))) for _ in range(3000)]
    spaced = ["".join(rng.choices([*" \n\u00a0"] * 8 + PIECES, k=20)) for _ in range(3000)]
    return ["", " ", "  ", *mixed, *spaced]


def ids(encoded: list[bytes]) -> list[list[int]]:
    return [np.frombuffer(each, np.uint16).tolist() for each in encoded]


def test_the_tokens_are_those_of_the_whole_text(tokenizer, texts, monkeypatch):
    content = tokenizer.backend_tokenizer.to_str()
    expected = encode_texts(tokenizer, texts)
    encoder = ChunkEncoder(content, "<u2")
    assert ids(encoder.encode(texts)) == expected == ids(encoder.encode(texts))
    assert len(encoder._table) > 100
    monkeypatch.setattr(chunks, "MAX_CHUNKS", 50)
    small = ChunkEncoder(content, "<u2")
    assert ids(small.encode(texts[:200])) + ids(small.encode(texts[200:])) == expected and len(small._table) == 50


def test_long_texts_are_encoded_in_pieces(tokenizer, texts, monkeypatch):
    long = ["".join(texts[start : start + 40]) for start in range(0, 3000, 40)]
    encoder = ChunkEncoder(tokenizer.backend_tokenizer.to_str(), "<u2")
    whole = encoder.encode(long)
    monkeypatch.setattr(chunks, "PIECE_CHARACTERS", 50)
    assert encoder.encode(long) == whole
    assert all("".join(chunks.pieces(text)) == text for text in long)
    assert sum(len(list(chunks.pieces(text))) for text in long) > 200


@pytest.mark.parametrize("pattern", sorted(chunks._SPLITS))
def test_texts_may_be_cut_for_every_known_pattern(tokenizer, texts, pattern):
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    assert can_cut(backend.to_str())
    encoder = ChunkEncoder(backend.to_str(), "<u2")
    assert encoder.encode(texts) == encoder._encode(texts)


def test_the_patterns_of_all_encodings_are_known():
    assert {QWEN2, *(each.pattern for each in ENCODINGS.values())} == chunks._SPLITS


def test_a_chunk_is_encoded_once(tokenizer, monkeypatch):
    encoder = ChunkEncoder(tokenizer.backend_tokenizer.to_str(), "<u2")
    encoded, encode = Counter(), encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda texts: encoded.update(texts) or encode(texts))
    for _ in range(3):
        encoder.encode(["the cat sat on the mat", "the hat"])
    assert encoded == Counter(["the", " cat", " sat", " on", " the", " mat", " hat"])


def test_only_known_tokenizers_are_cut(tokenizer, texts):
    def changed(change) -> str:
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        change(backend)
        return backend.to_str()

    assert can_cut(tokenizer.backend_tokenizer.to_str())
    strip = changed(lambda backend: setattr(backend, "normalizer", normalizers.Strip()))
    whole = changed(lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.ByteLevel(use_regex=False)))
    assert not can_cut(strip) and not can_cut(whole)
    encoded = ids(ChunkEncoder(strip, "<u2").encode([" the cat "]))
    assert encoded == encode_texts(tokenizer, ["the cat"])


# --- Documents --------------------------------------------------------------------------------------------------------


def document(*spans: Span) -> Document:
    return Document(spans, "text", Side.TRAIN)


def test_documents_are_the_same_from_other_processes(tokenizer, texts, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 40)
    chat = (
        Span("<|user|>", special=True, has_loss=False),
        Span("the cat", has_loss=False),
        Span("<|end|>", special=True),
    )
    documents = [document(Span(text)) for text in texts[:400]] + [document(*chat)]
    bos, eos = bos_and_eos(tokenizer)
    expected = [[bos, *each, eos] for each in encode_texts(tokenizer, texts[:400])]
    for parallel_from in (2**40, 1):
        with DocumentEncoder(tokenizer, parallel_from) as encoder:
            found = list(encoder.encode((each, True) for each in documents))
            assert (encoder._pool is None) == (parallel_from > 1)
        assert [each for each, _ in found] == documents
        assert [encoded.ids.tolist() for _, encoded in found[:-1]] == expected
        assert all(encoded.loss is None for _, encoded in found[:-1])
        _, last = found[-1]
        assert tokenizer.decode(last.ids) == "<bos><|user|>the cat<|end|><eos>"
        assert last.loss.tolist() == [False] * (len(last.ids) - 2) + [True, False]


def test_a_process_that_ends_is_one_line(tokenizer, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 2)
    monkeypatch.setattr(encoding, "_cores", lambda: 1)
    documents = [document(Span(f"the cat {number}")) for number in range(40)]
    with DocumentEncoder(tokenizer, 1) as encoder, pytest.raises(AxionError, match="has ended, perhaps for lack of"):
        for place, _ in enumerate(encoder.encode((each, True) for each in documents)):
            if place == 2:
                encoder._pool._processes[0].kill()


def test_a_process_whose_parent_was_killed_says_nothing(tokenizer, capfd):
    process = encoding.start_module("axion.data.chunks")
    encoding.send(process, (tokenizer.backend_tokenizer.to_str(), "<u2"))
    encoding.opened(process.stdout).close()
    encoding.send(process, ["the cat"])
    encoding.opened(process.stdin).close()
    assert process.wait() == 1 and capfd.readouterr().err == ""
