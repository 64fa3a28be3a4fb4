"""How likely a model finds several ways to go on from a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from axion.errors import AxionError
from axion.inference.scoring import log_probabilities
from axion.model.modeling_axion import AxionForCausalLM
from axion.tokenizer import bos_and_eos, encode_texts


class Way(NamedTuple):
    """A text of which the last part carries loss."""

    ids: Sequence[int]
    """All tokens, from `<bos>`."""
    start: int
    """How many of them are only read."""


def encode_ways(
    tokenizer: PreTrainedTokenizerFast, questions: Sequence[tuple[str, Sequence[str]]], with_end: bool = False
) -> list[list[Way]]:
    """The ways to go on from each text, which carry loss.

    A text and what follows it are encoded together, and the tokens that the text has when it is encoded alone are only
    read, as in lm-eval. What looks like a special token is plain text.

    Args:
        tokenizer: the model's.
        questions: texts, which may be empty, each with the texts that may follow it.
        with_end: whether `<eos>` follows each of these and carries loss too.
    """
    bos, eos = bos_and_eos(tokenizer)
    alone = encode_texts(tokenizer, [text for text, _ in questions])
    wholes = iter(encode_texts(tokenizer, [text + way for text, ways in questions for way in ways]))
    return [
        [Way([bos, *next(wholes), *([eos] if with_end else [])], 1 + len(read)) for _ in ways]
        for read, (_, ways) in zip(alone, questions, strict=True)
    ]


def losses(model: AxionForCausalLM, questions: Sequence[Sequence[Way]]) -> list[list[float]]:
    """The loss of each way to go on, in nats, in the order of `questions`.

    Of a text longer than the context, the end is read, as in lm-eval.

    Raises:
        AxionError: a loss is not finite.
    """
    context = model.config.max_position_embeddings
    ways = [_cut(way, context) for ways in questions for way in ways]
    scores = log_probabilities(model, [way.ids for way in ways])
    nats = [float(-scores_T[way.start - 1 :].sum(dtype=float)) for way, scores_T in zip(ways, scores, strict=True)]
    if not all(map(math.isfinite, nats)):
        raise AxionError("the model's probabilities are not finite numbers, so its answers cannot be compared")
    following = iter(nats)
    return [[next(following) for _ in ways] for ways in questions]


def _cut(way: Way, context: int) -> Way:
    """The end of a text that fits into the context."""
    extra = max(0, len(way.ids) - context)
    return Way(way.ids[extra:], max(1, way.start - extra))
