"""Shards: tokens and masks are read back exactly, for any vocabulary, and memory is bounded."""

from pathlib import Path

import numpy as np
import pytest

from axion.data.shards import Encoded, ShardCounts, ShardWriter, TokenDocuments, token_type
from axion.errors import AxionError
from axion.labels import IGNORED


def write(folder, documents, vocab_size=300, shard_tokens=8):
    with ShardWriter(folder, "train", vocab_size, shard_tokens) as writer:
        for document in documents:
            writer.write(document)
    return TokenDocuments.open(folder, "train", writer.counts)


def test_documents_come_back_from_many_shards(tmp_path):
    documents = [Encoded(list(range(size)), None, 10 * size, size % 3) for size in (3, 9, 1, 0, 20, 2)]
    read = write(tmp_path, documents)
    assert len(read) == 6 and len(read.shards) == 3
    for index, (document, expected) in enumerate(zip(read, documents, strict=True)):
        assert document.ids.tolist() == expected.ids == read[index].ids.tolist()
        assert (document.loss, document.num_bytes, document.source) == (None, expected.num_bytes, expected.source)
    assert all(isinstance(shard.tokens, np.memmap) for shard in read.shards) and not read.is_masked
    with pytest.raises(IndexError):
        read[6]
    tokens = np.load(tmp_path / "train-00000.tokens.npy")
    assert tokens.dtype == np.uint16 and tokens.tolist() == [0, 1, 2, *range(9)]
    assert sorted(path.name for path in tmp_path.glob("*-00000*")) == [
        "train-00000.documents.npy",
        "train-00000.tokens.npy",
    ]


@pytest.mark.parametrize(("vocab_size", "bits"), [(1024, 16), (65_536, 16), (65_537, 32), (70_000, 32)])
def test_ids_do_not_overflow(tmp_path, vocab_size, bits):
    ids = [0, 65_535 if vocab_size > 65_535 else 1000, vocab_size - 1]
    read = write(tmp_path, [Encoded(ids)], vocab_size)
    assert read[0].ids.tolist() == ids
    assert read[0].ids.dtype == token_type(vocab_size) and read[0].ids.itemsize * 8 == bits
    for wrong in (vocab_size, -1):
        with pytest.raises(AxionError, match=f"a vocabulary of {vocab_size} does not have"):
            write(tmp_path, [Encoded([wrong])], vocab_size)


def test_masks(tmp_path):
    documents = [Encoded([5, 6, 7], [False, True, True], 2), *[Encoded([8, 9])] * 4, Encoded([4], [False])]
    read = write(tmp_path, documents)
    assert read.is_masked and [shard.loss is not None for shard in read.shards] == [True, True]
    assert [document.labels().tolist() for document in read] == [[IGNORED, 6, 7], *[[8, 9]] * 4, [IGNORED]]
    with pytest.raises(ValueError, match="2 tokens, but 1 entries"):
        write(tmp_path, [Encoded([1, 2], [True])])


def test_nothing(tmp_path):
    assert write(tmp_path, []).counts == ShardCounts(1, 0, 0, 0)
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "gone", "train", 10) as writer:
        writer.write(Encoded([1]))
        raise RuntimeError  # if the caller fails, nothing is written


def change(*columns: str):
    """Damages a shard's table of documents."""

    def damage(path):
        table = np.load(path)
        for column in columns:
            table[column] += 1
        np.save(path, table)

    return damage


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    ("part", "damage"),
    [
        *[(part, Path.unlink) for part in ("tokens", "documents", "loss")],
        *[(part, lambda path: path.write_bytes(path.read_bytes()[:-1])) for part in ("tokens", "documents", "loss")],
        ("tokens", lambda path: np.save(path, np.arange(99))),
        ("loss", lambda path: np.save(path, np.ones(99, bool))),
        ("documents", change("tokens")),
        ("documents", lambda path: np.save(path, np.load(path)["tokens"])),
    ],
)
def test_a_shard_that_is_lost_or_damaged_is_noticed(tmp_path, number, part, damage):
    counts = write(tmp_path, [Encoded([5, 6, 7, 8, 9, 1, 2, 3], [False] + [True] * 7)] * 3).counts
    assert counts == ShardCounts(3, 3, 3, 24)
    damage(tmp_path / f"train-{number:05d}.{part}.npy")
    with pytest.raises((OSError, ValueError)):
        TokenDocuments.open(tmp_path, "train", counts)
