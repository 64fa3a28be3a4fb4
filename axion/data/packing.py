"""Documents as tokens, and the fixed windows that training reads.

Documents stand one after the other, `<bos>` … `<eos>` each, and are cut into windows; one that is longer than its
window goes on in the next.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch.utils.data import Dataset

from axion.errors import AxionError


class TokenDocuments(Sequence):
    """Many token-id lists in one flat array: `documents[i]` is a view of document i."""

    def __init__(self, documents: Iterable[Sequence[int]], dtype=np.uint16):
        arrays = [np.asarray(document, dtype=dtype) for document in documents]
        self.lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        self.flat = np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)

    @classmethod
    def from_flat(cls, flat: np.ndarray, lengths: np.ndarray) -> "TokenDocuments":
        """Documents from their tokens in a row and each one's number of tokens."""
        documents = cls(())
        documents.flat, documents.lengths = flat, lengths
        return documents

    @cached_property
    def starts(self) -> np.ndarray:
        """Where in `flat` each document begins."""
        return np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        start = self.starts[index]
        return self.flat[start : start + self.lengths[index]]

    def concatenated(self, order: np.ndarray) -> np.ndarray:
        """All documents as one array of tokens, in the given order of indices."""
        lengths = self.lengths[order]
        shift = self.starts[order] - (np.cumsum(lengths) - lengths)
        return self.flat[np.repeat(shift, lengths) + np.arange(lengths.sum())]


class PackedWindows(Dataset):
    """All windows of all epochs: item i belongs to epoch `i // windows_per_epoch`.

    Every epoch is a fresh permutation of the documents, made from (seed, epoch) alone, so that any item can be asked
    for at any time and a resumed run sees exactly what it would have seen. What is left over at an epoch's end, less
    than a window, is dropped. Read it in order: the stream of one epoch is kept at a time.

    An item is {"input_ids": LongTensor[window], "labels": the same}.
    """

    def __init__(self, documents: Sequence[Sequence[int]], window: int, epochs: int, seed: int):
        self.documents = documents if isinstance(documents, TokenDocuments) else TokenDocuments(documents, np.int64)
        self.window, self.epochs, self.seed = window, epochs, seed
        tokens = int(self.documents.lengths.sum())
        self.windows_per_epoch = tokens // window
        if self.windows_per_epoch == 0:
            raise AxionError(f"the training set has {tokens} tokens, less than one window of {window}; give more data")
        self._epoch, self._stream = None, None

    def __len__(self) -> int:
        return self.epochs * self.windows_per_epoch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, position = divmod(index, self.windows_per_epoch)
        start = position * self.window
        tokens_S = torch.from_numpy(self._epoch_stream(epoch)[start : start + self.window].astype(np.int64))
        return {"input_ids": tokens_S, "labels": tokens_S}

    def _epoch_stream(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.documents))
            self._epoch, self._stream = epoch, self.documents.concatenated(order)
        return self._stream
