"""Windows over all epochs: every token appears exactly once, items are reproducible, and labels are masked."""

import hashlib
import itertools

import numpy as np
import pytest
import torch

from axion.data.packing import PackedWindows
from axion.data.shards import Encoded, ShardCounts, ShardWriter, TokenDocuments
from axion.errors import AxionError
from axion.labels import IGNORED

BOS, EOS = 1, 2
DOCUMENTS = [
    [BOS, *[10 + index] * int(length), EOS]
    for index, length in enumerate(np.random.default_rng(0).integers(1, 30, size=40))
]
"""Documents of many lengths, some longer than the windows below, each with a number of its own inside."""


def windows(epochs: int = 3, seed: int = 5, documents: TokenDocuments | None = None) -> PackedWindows:
    return PackedWindows(documents or TokenDocuments.in_memory(DOCUMENTS), window=16, epochs=epochs, seed=seed)


def stream(packed: PackedWindows, epoch: int, name: str = "input_ids") -> list[int]:
    items = range(epoch * packed.windows_per_epoch, (epoch + 1) * packed.windows_per_epoch)
    return torch.cat([packed[item][name] for item in items]).tolist()


def test_an_epoch_is_the_documents_in_a_new_order():
    packed = windows()
    assert packed.windows_per_epoch == sum(map(len, DOCUMENTS)) // 16
    assert len(packed) == 3 * packed.windows_per_epoch == len(list(packed))
    orders = []
    for epoch in range(3):
        tokens = stream(packed, epoch)
        order = [token - 10 for before, token in itertools.pairwise(tokens) if before == BOS]
        orders.append(order)
        expected = [token for index in order for token in DOCUMENTS[index]]
        assert tokens[: len(expected)] == expected[: len(tokens)]
        assert len(set(order)) == len(order) >= len(DOCUMENTS) - 15
    assert orders[0] != orders[1] != orders[2]
    with pytest.raises(IndexError):
        packed[len(packed)]


def test_an_item_is_a_function_of_seed_and_index(tmp_path):
    in_order = [item["input_ids"] for item in windows(epochs=4)]
    with ShardWriter(tmp_path, "train", 300, shard_tokens=50) as writer:  # on disk, in many shards
        for document in DOCUMENTS:
            writer.write(Encoded(document))
    fresh = windows(epochs=9, documents=TokenDocuments.open(tmp_path, "train", writer.counts))
    assert len(fresh.documents.shards) > 5
    for item in np.random.default_rng(1).permutation(len(in_order)):
        assert torch.equal(fresh[int(item)]["input_ids"], in_order[item])
    assert not all(torch.equal(a["input_ids"], b) for a, b in zip(windows(4, seed=6), in_order, strict=True))


def test_the_order_matches_earlier_versions():
    """If this changes, runs of earlier versions can no longer be resumed."""
    tokens = b"".join(item["input_ids"].numpy().tobytes() for item in windows())
    assert hashlib.sha256(tokens).hexdigest().startswith("ae338734f1b00efb")


def test_labels_are_the_tokens_that_carry_loss():
    item = windows()[0]
    assert item["input_ids"].dtype == torch.long and item["input_ids"].shape == (16,)
    assert torch.equal(item["labels"], item["input_ids"])
    masks = [[token % 2 == 0 for token in document] for document in DOCUMENTS]
    masked = windows(documents=TokenDocuments.in_memory(DOCUMENTS, masks))
    for epoch in range(2):
        ids, labels = stream(masked, epoch), stream(masked, epoch, "labels")
        assert ids == stream(windows(), epoch)
        assert labels == [token if token % 2 == 0 else IGNORED for token in ids]


def test_positions_restart_in_every_document():
    packed = PackedWindows(TokenDocuments.in_memory(DOCUMENTS), window=16, epochs=1, seed=5, document_mask=True)
    assert "position_ids" not in windows()[0]
    for item, plain in zip(packed, windows(epochs=1), strict=True):
        assert torch.equal(item["input_ids"], plain["input_ids"])
        expected, place = [], 0
        for token in item["input_ids"].tolist():
            place = 0 if token == BOS else place
            expected.append(place)
            place += 1
        assert item["position_ids"].tolist() == expected


def test_too_few_tokens_for_a_window():
    with pytest.raises(AxionError, match="5 tokens, less than one window of 16"):
        windows(documents=TokenDocuments.in_memory([[1, 2, 3], [4, 5]]))


def test_the_first_epoch_goes_from_shard_to_shard_whether_later_ones_are_there(tmp_path):
    with ShardWriter(tmp_path, "train", 100, shard_tokens=200) as writer:
        for document in DOCUMENTS:
            writer.write(Encoded(document))
    tokens = sum(map(len, DOCUMENTS))
    whole = TokenDocuments.open(tmp_path, "train", writer.counts)
    packed = PackedWindows(whole, 16, 2, seed=5, epoch_tokens=tokens - 7)
    assert writer.counts.shards >= 3 and packed.windows_per_epoch == (tokens - 7) // 16
    first, starts = stream(packed, 0), np.cumsum([0, *(len(shard.tokens) for shard in whole.shards)])
    for shard, start in zip(whole.shards[:-1], starts, strict=False):
        assert sorted(first[start : start + len(shard.tokens)]) == sorted(shard.tokens.tolist())
    assert stream(packed, 1) == stream(PackedWindows(whole, 16, 2, seed=5), 1)[: packed.windows_per_epoch * 16]

    growing = TokenDocuments([], [])
    early = PackedWindows(growing, 16, 2, seed=5, epoch_tokens=tokens - 7)
    item = 0
    for number in range(1, len(whole.shards) + 1):
        documents = int(whole.first_documents[number])
        counts = ShardCounts(number, 0, documents, int(whole.lengths[:documents].sum()))
        with pytest.raises(ValueError, match="train has"):
            growing.extend(tmp_path, "train", counts._replace(tokens=counts.tokens + 1))
        growing.extend(tmp_path, "train", counts)
        assert growing.counts == counts
        while item < min(counts.tokens // 16, packed.windows_per_epoch):
            assert torch.equal(early[item]["input_ids"], packed[item]["input_ids"])
            item += 1
    assert stream(early, 1) == stream(packed, 1)


def test_what_comes_before_the_last_source_is_spread_over_its_shards(tmp_path):
    with ShardWriter(tmp_path, "train", 100, shard_tokens=100) as writer:
        for document in DOCUMENTS:
            writer.write(Encoded(document))
    whole = TokenDocuments.open(tmp_path, "train", writer.counts)
    begins, tokens = 13, sum(map(len, DOCUMENTS))
    before = sum(map(len, DOCUMENTS[:begins]))
    packed = PackedWindows(whole, 16, 1, 5, epoch_tokens=tokens - 7, last_source_begins=begins)
    read = [token - 10 for token in stream(packed, 0) if token > EOS]
    assert len(set(read)) >= len(DOCUMENTS) - 2 and packed.ready == packed.windows_per_epoch == (tokens - 7) // 16
    for part in np.array_split(np.array(read), 3):  # everywhere about as large a share as in all
        assert abs((part < begins).mean() - before / tokens) < 0.12

    growing, item, ready = TokenDocuments([], []), 0, []
    early = PackedWindows(growing, 16, 1, 5, epoch_tokens=tokens - 7, last_source_begins=begins)
    for number in range(1, len(whole.shards) + 1):
        documents = int(whole.first_documents[number])
        growing.extend(tmp_path, "train", ShardCounts(number, 0, documents, int(whole.lengths[:documents].sum())))
        if documents > begins:
            ready.append(early.ready)
            last = int(whole.lengths[begins:documents].sum())
            assert early.ready >= min(last * (tokens - 7) // (tokens - 7 - before) // 16, packed.windows_per_epoch)
            while item < early.ready:
                assert torch.equal(early[item]["input_ids"], packed[item]["input_ids"])
                item += 1
    assert sorted(set(ready)) == ready and len(ready) > 2 and item == len(packed)
