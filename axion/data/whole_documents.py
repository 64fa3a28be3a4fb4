"""Windows in which every document stands whole: for conversations, whose answers mean little without their questions.

As many documents as fit share a window, chosen by best fit with the longest first, as in TRL's packing. What is left of
a window is padding.
"""

from bisect import bisect_left, insort

import numpy as np
import torch
from torch.utils.data import Dataset

from axion.data.shards import TokenDocuments
from axion.errors import AxionError
from axion.labels import IGNORED


class WholeDocuments(Dataset):
    """All windows of all epochs: item i belongs to epoch `i // windows_per_epoch`, and is a function of seed and index.

    Which documents share a window is the same in every epoch; the order of the windows is a new permutation of each.
    A document that is longer than a window is cut after the last learned span, such as an answer, that fits whole, and
    left out if none does.

    An item is {"input_ids": LongTensor[window], "labels": LongTensor[window], "position_ids": LongTensor[window]}.
    Labels are the ids, not shifted, and −100 where a token carries no loss, as on padding. Positions count from 0 in
    every document and in the padding, by which a model knows that they must not attend to each other.

    Raises:
        AxionError: no document fits.
    """

    def __init__(self, documents: TokenDocuments, window: int, epochs: int, seed: int, pad_id: int):
        self.documents = documents
        self.window, self.epochs, self.seed, self.pad_id = window, epochs, seed, pad_id
        self._lengths = np.array(documents.lengths, dtype=np.int64)
        too_long = np.flatnonzero(self._lengths > window)
        for index in too_long:
            self._lengths[index] = self._shortened(int(index))
        self.left_out = int((self._lengths[too_long] == 0).sum())
        """Documents that have no learned span within a window."""
        self.cut = len(too_long) - self.left_out
        """Documents that are read up to their last learned span within a window."""
        self._windows = _pack(self._lengths, window)
        self.windows_per_epoch = len(self._windows)
        if not self._windows:
            raise AxionError(f"no document fits into a window of {window} tokens; lengthen the window")
        self._epoch: int | None = None
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.epochs * self.windows_per_epoch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, place = divmod(index, self.windows_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.windows_per_epoch)
            self._epoch = epoch
        tokens_S = np.full(self.window, self.pad_id, np.int64)
        labels_S = np.full(self.window, IGNORED, np.int64)
        places_S = np.arange(self.window)
        filled = 0
        for document in self._windows[int(self._order[place])]:
            length = int(self._lengths[document])
            tokens, loss = self.documents.read(document, 0, length)
            part = slice(filled, filled + length)
            tokens_S[part] = tokens
            labels_S[part] = tokens_S[part] if loss is None else np.where(loss, tokens_S[part], IGNORED)
            filled += length
            places_S[filled:] = np.arange(self.window - filled)
        return {
            "input_ids": torch.from_numpy(tokens_S),
            "labels": torch.from_numpy(labels_S),
            "position_ids": torch.from_numpy(places_S),
        }

    def _shortened(self, document: int) -> int:
        """How many tokens of a document that is longer than a window are read: up to its last whole learned span."""
        _, loss = self.documents.read(document, 0, self.window + 1)
        if loss is None:
            return self.window
        ends = np.flatnonzero(loss[:-1] & ~loss[1:])
        return int(ends[-1]) + 1 if len(ends) else 0


def _pack(lengths: np.ndarray, window: int) -> list[list[int]]:
    """The documents of each window. Each goes, the longest first, where the least room is left after it."""
    windows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # room left → windows
    rooms: list[int] = []  # the keys of `by_room`, sorted
    for document in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[document])
        if length == 0:
            break
        place = bisect_left(rooms, length)
        if place == len(rooms):
            windows.append([])
            chosen, room = len(windows) - 1, window
        else:
            room = rooms[place]
            chosen = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        windows[chosen].append(document)
        if left := room - length:
            if left not in by_room:
                by_room[left] = []
                insort(rooms, left)
            by_room[left].append(chosen)
    return windows
