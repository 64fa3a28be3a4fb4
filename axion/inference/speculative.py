"""Speculative decoding: a cheaper model drafts tokens, and the model verifies several of them in one pass.

Unlike in Leviathan et al. (arXiv 2211.17192), nothing is resampled: both models draw a position with the same random
number, and a drafted token is kept where it is the one that the model draws. The text is therefore the one that the
model writes alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

from axion.inference.readers import Drawn, Reader

DRAFT_LENGTH = 4
"""Tokens that are verified together, the first of which is the model's own."""


def speculate(reader: Reader, drafter: Reader, draft_length: int = DRAFT_LENGTH) -> Iterator[Drawn]:
    """Yields what repeated `reader.draw()` would, until the text or the context ends.

    The first token of a draft is drawn from logits that the previous pass already computed; the drafter adds the rest.

    Args:
        reader: has read the prompt.
        drafter: has read the same tokens, with the same sampling.
    """
    while reader.room and (token := reader.choose()) is not None:
        draft = [token]
        if drafter.room:  # a drafter with a shorter context stops drafting when that is full
            drafter.draw(token)
        longest = min(draft_length, reader.room)
        while drafter.room and len(draft) < longest and (guess := drafter.draw()) is not None:
            draft.append(guess.token)
        kept = reader.verify(draft)
        drafter.rewind(min(drafter.length, reader.length))
        yield from kept
