"""Batches of sequences of similar length, for passes that measure rather than train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized

TOKENS_PER_BATCH = 8192
"""Tokens of a batch, padding included, where a pass computes the logits or the routing of every token."""


def batches_by_length(sequences: Sequence[Sized], tokens_per_batch: int) -> Iterator[list[int]]:
    """Yields batches as lists of indices into `sequences`, the longest sequences first; empty ones are left out.

    A batch padded to its longest sequence has at most `tokens_per_batch` tokens; a longer sequence is a batch of its
    own.
    """
    order = sorted((index for index, ids in enumerate(sequences) if len(ids)), key=lambda index: -len(sequences[index]))
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // len(sequences[order[start]]))
        yield order[start : start + size]
        start += size
