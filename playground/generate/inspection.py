"""One token of a trace in full, for the views that explain it: where each head looks, every expert's score, and the
distributions that the token and the next one are drawn from.

A distribution has its likeliest tokens one by one. All others are in groups of nearly equal logits, from which a view
computes what temperature and filters do to them without asking again.
"""

from collections.abc import Collection, Mapping, Sequence
from threading import BoundedSemaphore
from typing import Any

import numpy as np

from axion.inference.inspection import inspect
from axion.inference.rows import layer_passes
from axion.inference.variants import with_loops, with_tampering
from axion.tampering import read_tampering
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.refusal import Refusal

NAMED = 20
"""Tokens of a distribution that are listed one by one."""
GROUP_WIDTH = 0.1
"""Logits in a group differ by less than this; at temperature 0.5 their share is then off by a thousandth of itself."""
AT_ONCE = 2
"""Inspections that run at the same time; each reads a text once, as a generation does with its prompt."""
PATIENCE_SECONDS = 5.0
"""So long an inspection waits for its turn."""

_turns = BoundedSemaphore(AT_ONCE)


def inspect_token(catalogue: Catalogue, asked: object) -> dict[str, Any]:
    """What a view shows of one token.

    Args:
        asked: {"model", "ids": the text's tokens, "at": the token's position, "num_loops", "tampering"}.

    Returns:
        "passes", the layer and the loop of each pass through a layer; "attention" [passes][heads][tokens], how much
        each head looks at each token up to this one; "scores" [L][E], the router's score of each expert; and the
        distributions "before", which the token was drawn from (None at the start of the text), and "after", of the next
        token: {"top": [id, text, logit, whether the text has the token already], likeliest first, and "rest": [logit,
        tokens, whether the text has them], a group of tokens each}.

    Raises:
        AxionError: the model cannot be opened, or cannot read these tokens; a Refusal for a malformed request, and
            where too many others are being answered.
    """
    if not isinstance(asked, Mapping):
        raise Refusal("no_request")
    model = catalogue.open(asked.get("model"))
    ids: Any = asked.get("ids")
    at, loops = asked.get("at", -1), asked.get("num_loops", 0)
    if not isinstance(ids, list) or not all(_is_count(one) for one in (*ids, at, loops)):
        raise Refusal("no_request")
    read = with_tampering(with_loops(model.release.model, loops), read_tampering(asked.get("tampering") or {}))
    if not _turns.acquire(timeout=PATIENCE_SECONDS):
        raise Refusal("busy")
    try:
        found = inspect(read, ids, at)
    finally:
        _turns.release()
    text = ids[: at + 1]
    return {
        "passes": [list(one) for one in layer_passes(read.config)],
        "attention": np.round(found.attention_PHT.astype(float), 5).tolist(),
        "scores": np.round(found.affinities_LE.astype(float), 5).tolist(),
        "before": None if found.logits_before_V is None else _distribution(model, found.logits_before_V, text[:-1]),
        "after": _distribution(model, found.logits_after_V, text),
    }


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _distribution(model: OpenModel, logits_V: np.ndarray, text: Sequence[int]) -> dict[str, list]:
    logits_V, seen = logits_V.astype(np.float64), set(text)
    order = np.argsort(-logits_V, kind="stable").tolist()
    decode = model.release.tokenizer.decode
    top = [[token, decode([token]), round(float(logits_V[token]), 4), int(token in seen)] for token in order[:NAMED]]
    return {"top": top, "rest": _group(logits_V, order[NAMED:], seen)}


def _group(logits_V: np.ndarray, tokens: Sequence[int], seen: Collection[int]) -> list[list]:
    """Tokens of nearly equal logits together: [the logit of their mean probability, how many, whether in the text]."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for token in tokens:
        groups.setdefault((int(logits_V[token] // GROUP_WIDTH), token in seen), []).append(token)
    return [
        [round(float(np.logaddexp.reduce(logits_V[members]) - np.log(len(members))), 4), len(members), int(in_text)]
        for (_, in_text), members in groups.items()
    ]
