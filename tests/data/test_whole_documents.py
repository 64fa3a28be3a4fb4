"""Windows of whole documents."""

import numpy as np
import pytest
import torch

from axion.data.shards import Shard, TokenDocuments
from axion.data.whole_documents import WholeDocuments
from axion.errors import AxionError
from axion.labels import IGNORED

PAD = 0


def conversation(number: int, *answers: int) -> tuple[list[int], list[bool]]:
    """`<bos>`, then for each answer three tokens of the user and so many learned ones, then `<eos>`."""
    ids, loss = [1], [False]
    for length in answers:
        ids += [3, 3, 3, *[10 + number] * length]
        loss += [False] * 3 + [True] * length
    return [*ids, 2], [*loss, False]


def windows_of(conversations, window=16, epochs=2, seed=0) -> WholeDocuments:
    documents = TokenDocuments.in_memory(*zip(*conversations, strict=True))
    (shard,) = documents.shards
    documents.shards = [Shard(shard.tokens.astype(np.uint16), shard.loss)]  # as on disk
    return WholeDocuments(documents, window, epochs, seed, PAD)


def test_every_document_stands_whole_once_in_each_epoch():
    rng = np.random.default_rng(1)
    windows = windows_of([conversation(n, int(rng.integers(1, 9))) for n in range(50)])
    orders = []
    for epoch in range(2):
        seen = []
        for index in range(windows.windows_per_epoch):
            item = windows[epoch * windows.windows_per_epoch + index]
            assert {part.shape for part in item.values()} == {(16,)}
            ids, labels, places = (item[name].numpy() for name in ("input_ids", "labels", "position_ids"))
            starts = np.flatnonzero(ids == 1)
            assert (places[starts] == 0).all() and (np.diff(places)[np.diff(places) != 1] < 0).all()
            assert (labels[(ids < 10)] == IGNORED).all() and (labels[ids >= 10] == ids[ids >= 10]).all()
            ends = [*starts[1:], int(np.flatnonzero(ids == 2)[-1]) + 1]
            seen += [tuple(ids[start:end]) for start, end in zip(starts, ends, strict=True)]
            assert (ids[ends[-1] :] == PAD).all() and (ends[-1] == 16 or places[ends[-1]] == 0)
        orders.append(seen)
        assert sorted(seen) == sorted(tuple(conversation(n, len(doc) - 5)[0]) for n, doc in enumerate(sorted_by(seen)))
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    filled = sum(map(len, orders[0])) / (16 * windows.windows_per_epoch)
    assert filled > 0.8  # best fit leaves little padding, although windows are short here


def sorted_by(documents):
    """The documents by the number that `conversation` gave them."""
    return sorted(documents, key=lambda document: document[4])


def test_an_item_is_a_function_of_seed_and_index():
    made = [conversation(n, n % 7 + 1) for n in range(30)]
    first, again = windows_of(made), windows_of(made)
    last = len(first) - 1
    assert torch.equal(first[last]["input_ids"], again[last]["input_ids"])
    first[0]
    assert torch.equal(first[last]["input_ids"], again[last]["input_ids"])
    assert any(
        not torch.equal(first[index]["input_ids"], windows_of(made, seed=1)[index]["input_ids"]) for index in range(4)
    )
    with pytest.raises(IndexError):
        first[len(first)]


def test_what_is_too_long_ends_with_the_last_answer_that_fits():
    windows = windows_of([conversation(0, 4, 20), conversation(1, 14), conversation(2, 2)])
    assert (windows.cut, windows.left_out) == (1, 1)
    learned = torch.cat([windows[index]["labels"] for index in range(windows.windows_per_epoch)])
    assert sorted(learned[learned != IGNORED].tolist()) == [10] * 4 + [12] * 2
    with pytest.raises(AxionError, match="no document fits into a window of 16 tokens"):
        windows_of([conversation(1, 14)])
