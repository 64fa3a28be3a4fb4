"""The fixed windows that training reads, cut from documents that stand one after the other.

Each document is `<bos>` … `<eos>`; one that is longer than what is left of a window continues in the next.
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from axion.data.shards import TokenDocuments
from axion.errors import AxionError
from axion.labels import IGNORED


class PackedWindows(Dataset):
    """All windows of all epochs: item i belongs to epoch `i // windows_per_epoch`.

    Every epoch is a new permutation of the documents, made from (seed, epoch) alone, so an item is a function of seed
    and index: a resumed run reads exactly what it would have read. What is left over at an epoch's end, less than a
    window, is dropped. Only the permutation of one epoch is in memory; the tokens are read from the shards.

    Where the documents may still grow, the first epoch permutes those of each shard, from (seed, epoch, shard), and
    reads the shards in their order. Its items are the same whether later shards are there or not. Documents of several
    sources, of which the last may still grow, are mixed: each shard of the last source gets its share of a permutation
    of all documents before.

    An item is {"input_ids": LongTensor[window], "labels": LongTensor[window]}. Labels are the ids, not shifted, and
    −100 where a token carries no loss. With `document_mask`, "position_ids" count from 0 in every document, by which a
    model knows that the documents of a window must not attend to each other.

    Args:
        documents: to read. If `extend` adds to them, the items that are there already stay the same.
        window: tokens of an item.
        epochs: how often to read all documents.
        seed: of the order.
        document_mask: see above.
        epoch_tokens: the tokens of an epoch, of which the first reads one shard after the other; None for all that the
            documents have, permuted in every epoch.
        last_source_begins: how many documents come before those of the last source, and do not grow.

    Raises:
        AxionError: the documents have fewer tokens than one window.
    """

    def __init__(
        self,
        documents: TokenDocuments,
        window: int,
        epochs: int,
        seed: int,
        document_mask: bool = False,
        epoch_tokens: int | None = None,
        last_source_begins: int = 0,
    ):
        self.documents = documents
        self.document_mask = document_mask
        self.window, self.epochs, self.seed = window, epochs, seed
        self.by_shard = epoch_tokens is not None
        tokens = int(documents.lengths.sum()) if epoch_tokens is None else epoch_tokens
        self.windows_per_epoch = tokens // window
        if self.windows_per_epoch == 0:
            raise AxionError(f"the training set has {tokens} tokens, less than one window of {window}; give more data")
        self._tokens, self._last_source_begins = tokens, last_source_begins
        self._mixed: list[np.ndarray] = []  # the orders of the shards in the first epoch
        self._given = 0  # how many documents of the earlier sources are in them
        self._shuffled: tuple[int, int] | None = None
        self._order = self._ends = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.epochs * self.windows_per_epoch

    @property
    def ready(self) -> int:
        """How many windows of the first epoch can be read."""
        self._shuffle(0)
        return min(int(self._ends[-1]) // self.window, self.windows_per_epoch)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, position = divmod(index, self.windows_per_epoch)
        self._shuffle(epoch)
        tokens_S, loss_S, places_S = self._read(position * self.window)
        input_ids = torch.from_numpy(tokens_S)
        labels = torch.from_numpy(np.where(loss_S, tokens_S, IGNORED)) if self.documents.is_masked else input_ids
        item = {"input_ids": input_ids, "labels": labels}
        return item | {"position_ids": torch.from_numpy(places_S)} if self.document_mask else item

    def _shuffle(self, epoch: int) -> None:
        """Sets the order of the documents in an epoch, and where in its stream of tokens each of them ends."""
        if self._shuffled != (epoch, len(self.documents)):
            shuffles_shards = self.by_shard and epoch == 0
            self._order = self._shard_order() if shuffles_shards else self._permutation(len(self.documents), epoch)
            self._ends = np.cumsum(self.documents.lengths[self._order])
            self._shuffled = (epoch, len(self.documents))

    def _shard_order(self) -> np.ndarray:
        """The order of the first epoch: by shards of the last source, among its documents a share of those before."""
        first, begin = self.documents.first_documents, self._last_source_begins
        earlier = self._permutation(begin, 0)
        earlier_ends, ends = np.cumsum(self.documents.lengths[earlier]), np.cumsum(self.documents.lengths)
        before = int(ends[begin - 1]) if begin else 0  # tokens
        for shard in range(len(self._mixed), len(first) - 1):
            own = np.arange(max(first[shard], begin), max(first[shard + 1], begin))
            # up to here, as large a part of the earlier sources as of the last one
            last = max(int(ends[first[shard + 1] - 1]) - before, 0)
            due = -(-before * min(last, self._tokens - before) // (self._tokens - before))
            given = int(np.searchsorted(earlier_ends, due)) + 1 if due else 0
            mixed = np.concatenate([earlier[self._given : given], own])
            self._mixed.append(mixed[self._permutation(len(mixed), 0, shard)])
            self._given = given
        return np.concatenate(self._mixed)

    def _permutation(self, size: int, *numbers: int) -> np.ndarray:
        return np.random.default_rng([self.seed, *numbers]).permutation(size)

    def _read(self, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The window that begins at token `start` of the epoch: ids, loss mask and positions, each `[window]`.

        Positions count from 0 in what the window holds of a document, so that they never exceed the context.
        """
        tokens_S, loss_S = np.empty(self.window, np.int64), np.ones(self.window, bool)
        places_S = np.empty(self.window, np.int64)
        place = int(np.searchsorted(self._ends, start, side="right"))
        filled = 0
        while filled < self.window:
            document = int(self._order[place])
            length = int(self.documents.lengths[document])
            first = start + filled - (int(self._ends[place]) - length)
            part = slice(filled, filled + min(length - first, self.window - filled))
            tokens, loss = self.documents.read(document, first, first + part.stop - part.start)
            tokens_S[part] = tokens
            places_S[part] = np.arange(len(tokens))
            if loss is not None:
                loss_S[part] = loss
            filled, place = part.stop, place + 1
        return tokens_S, loss_S, places_S
