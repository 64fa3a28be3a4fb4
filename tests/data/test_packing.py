"""Windows over all epochs: nothing lost, nothing invented, every item found again."""

import itertools

import numpy as np
import pytest
import torch

from axion.data.packing import PackedWindows, TokenDocuments
from axion.errors import AxionError

BOS, EOS = 1, 2


def make_documents(count=40, seed=0):
    """Documents of many lengths, some longer than the windows below, each with a number of its own inside."""
    rng = np.random.default_rng(seed)
    return [[BOS, *[10 + index] * int(rng.integers(1, 30)), EOS] for index in range(count)]


def test_an_epoch_is_the_documents_in_a_new_order():
    documents = make_documents()
    windows = PackedWindows(documents, window=16, epochs=3, seed=5)
    assert windows.windows_per_epoch == sum(map(len, documents)) // 16
    assert len(windows) == 3 * windows.windows_per_epoch
    orders = []
    for epoch in range(3):
        items = range(epoch * windows.windows_per_epoch, (epoch + 1) * windows.windows_per_epoch)
        stream = torch.cat([windows[item]["input_ids"] for item in items]).tolist()
        order = [token - 10 for before, token in itertools.pairwise(stream) if before == BOS]
        orders.append(order)
        expected = [token for index in order for token in documents[index]]
        assert stream[: len(expected)] == expected[: len(stream)]
        assert len(set(order)) == len(order) >= len(documents) - 15
    assert orders[0] != orders[1] != orders[2]


def test_any_item_in_any_order():
    documents = make_documents()
    windows = PackedWindows(documents, window=16, epochs=4, seed=5)
    in_order = [windows[item]["input_ids"] for item in range(len(windows))]
    fresh = PackedWindows(documents, window=16, epochs=9, seed=5)  # asked for more epochs: the first ones are the same
    for item in np.random.default_rng(1).permutation(len(windows)):
        assert torch.equal(fresh[int(item)]["input_ids"], in_order[item])
    other = PackedWindows(documents, window=16, epochs=4, seed=6)
    assert not all(torch.equal(other[item]["input_ids"], in_order[item]) for item in range(len(windows)))


def test_items_are_what_a_model_takes():
    item = PackedWindows(make_documents(), window=16, epochs=1, seed=0)[0]
    assert item["input_ids"].dtype == torch.long and item["input_ids"].shape == (16,)
    assert torch.equal(item["labels"], item["input_ids"])


def test_the_end_is_an_end():
    windows = PackedWindows(make_documents(), window=16, epochs=1, seed=0)
    with pytest.raises(IndexError):
        windows[len(windows)]
    assert len(list(windows)) == len(windows)


def test_too_little_for_a_window():
    with pytest.raises(AxionError, match="5 tokens, less than one window of 16"):
        PackedWindows([[1, 2, 3], [4, 5]], window=16, epochs=1, seed=0)


def test_token_documents_keep_every_document():
    documents = make_documents()
    packed = TokenDocuments(documents)
    assert len(packed) == len(documents)
    assert [document.tolist() for document in packed] == documents
    again = TokenDocuments.from_flat(packed.flat, packed.lengths)
    assert [document.tolist() for document in again] == documents
    order = np.array([3, 0, 7])
    assert packed.concatenated(order).tolist() == documents[3] + documents[0] + documents[7]
    assert len(TokenDocuments([])) == 0
