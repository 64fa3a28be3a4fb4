"""What a release states about its experts: the tokens that each one favours, and their loads."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

from axion.errors import AxionError
from axion.evaluation.results import LOAD_SETS, MalformedResults, measured
from axion.inference.routing import RoutingRow, log_likelihood_ratio
from playground.content.metrics import read_curves
from playground.content.training import final_overload
from playground.generate.catalogue import OpenModel

DEAD_BELOW = 0.1
"""An expert with less than this fraction of its fair share is called dead."""

ERROR_RATE = 0.05
"""The probability of one false positive among all tests together."""

FEW_EXPERTS = 8
"""With more experts per layer, less is shown of each; views/routing.js has colours for the same number of experts."""

TOKENS_OF_FEW, TOKENS_OF_MANY = 12, 6
LONGEST_TEXT = 40

KINDS = ("digit", "word", "sign", "space", "line", "special")


def describe_experts(model: OpenModel) -> dict:
    """The data of the Experts tab, ready for JSON; layers and experts are lists in the model's order.

    Returns:
        "model", "layers", "first_layer", "rows", "experts", "per_token": the model's shape; a row is a layer and one of
        its loops. "load": set of documents → [L][E], each expert's load as a multiple of its fair share, {} if not
        measured; "command" measures it again. "overload": see `final_overload`. "dead": set → [[row from 0, expert from
        1], …]. "cards": None if the release has no favourites, else [L][E] of None or {"share", "tokens", "kinds",
        "leaning"}. A token is [text, count, seen, lift, z, context], the strongest evidence first; seen and z are None
        in older releases, and so is context, [before, text, after] of one place in a document, where none was recorded.
        "bound": the z above which a lift is significant, for "looked_at" pairs of token and expert.

    Raises:
        AxionError: the release's numbers are broken or belong to another model.
    """
    facts = model.facts
    load, command = _read_load(model)
    cards = _read_favourites(model) if facts.layers else None
    looked_at = model.release.config.vocab_size * facts.layers * facts.experts
    return {
        "model": model.name,
        "layers": facts.layers,
        "first_layer": facts.first_layer,
        "rows": [list(row) for row in facts.rows],
        "experts": facts.experts,
        "per_token": facts.experts_per_token,
        "load": load,
        "command": command,
        "overload": _final_overload(model),
        "dead_below": DEAD_BELOW,
        "dead": {name: _find_dead(layers) for name, layers in load.items()},
        "cards": cards,
        "bound": significance_bound(looked_at) if looked_at else None,
        "looked_at": looked_at,
        "error_rate": ERROR_RATE,
    }


def experts_json(model: OpenModel) -> str:
    """The value of the view of experts for `model`. Raises AxionError when its release is broken."""
    return json.dumps(describe_experts(model), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def error_json(message: str) -> str:
    """The view's value for a model that cannot be shown."""
    return json.dumps({"error": message, "layers": 0})


def _final_overload(model: OpenModel) -> float | None:
    try:
        metrics = read_curves(model.release.metrics_file)
    except AxionError:  # the Model tab says what is wrong with the file
        return None
    return metrics and final_overload(metrics)


def significance_bound(comparisons: int) -> float:
    """The z-score that any of this many comparisons exceeds by chance with probability ERROR_RATE.

    This is the Bonferroni correction. It counts every token of the vocabulary with every expert, including tokens too
    rare to be listed, so it is conservative.
    """
    return -NormalDist().inv_cdf(ERROR_RATE / comparisons)


def token_kind(text: str, special: Iterable[str] = ()) -> str:
    """Which of KINDS a token is."""
    if text in special:
        return "special"
    if "\n" in text or "\r" in text:
        return "line"
    stripped = text.strip()
    if not stripped:
        return "space"
    if stripped.isdecimal():
        return "digit"
    return "word" if any(character.isalpha() for character in stripped) else "sign"


def chance_of_at_least(hits: int, drawn: int, kind: int, pool: int) -> float:
    """The probability that `drawn` of `pool` tokens, `kind` of which are of a kind, include at least `hits` of it."""
    ways = sum(math.comb(kind, k) * math.comb(pool - kind, drawn - k) for k in range(hits, min(drawn, kind) + 1))
    return ways / math.comb(pool, drawn)


def _read_load(model: OpenModel) -> tuple[dict[str, list[list[float]]], str]:
    facts = model.facts
    try:
        result = measured(model.release.info.get("results", {}), "expert_load") or {}
        load = {
            name: [[float(times) for times in layer] for layer in result[name]["layers"]]
            for name in LOAD_SETS
            if name in result
        }
        command = str(result.get("command", ""))
    except MalformedResults as error:
        raise AxionError(f"{model.name}: release.json is broken: {error}; build it again") from None
    except (KeyError, TypeError, ValueError) as error:
        raise AxionError(
            f"{model.name}: release.json is broken: its expert_load lacks {error}; build it again"
        ) from None
    for layers in load.values():
        shape = [len(layer) for layer in layers]
        if shape != [facts.experts] * facts.layers or not all(math.isfinite(x) for layer in layers for x in layer):
            raise AxionError(
                f"{model.name}: release.json is broken: its expert_load belongs to another model; build it again"
            )
    return load, command


def _find_dead(layers: Sequence[Sequence[float]]) -> list[list[int]]:
    """Row (from 0) and expert (from 1) of the experts below DEAD_BELOW."""
    return [
        [row, expert + 1]
        for row, layer in enumerate(layers)
        for expert, times in enumerate(layer)
        if times < DEAD_BELOW
    ]


def _read_favourites(model: OpenModel) -> list[list[dict | None]] | None:
    facts, entries = model.facts, (model.release.trace or {}).get("favourites")
    if not entries:
        return None
    rows = {row: number for number, row in enumerate(facts.rows)}
    cards: list[list[dict | None]] = [[None] * facts.experts for _ in range(facts.layers)]
    try:
        for entry in entries:
            row, expert = rows[RoutingRow(entry["layer"], entry.get("loop", 1))], entry["expert"] - 1
            if not 0 <= expert < facts.experts:
                raise ValueError(f"layer {entry['layer']}, expert {entry['expert']}")
            tokens = [_read_token(token) for token in entry["tokens"]]
            cards[row][expert] = {"share": _finite(entry["share"]), "tokens": tokens}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise AxionError(
            f"{model.name}: trace.json is broken: its favourites belong to another model; build it again"
        ) from None
    special = set(model.release.tokenizer.all_special_tokens)
    for layer in cards:
        _add_kinds([card for card in layer if card], special, tests=facts.layers * facts.experts * len(KINDS))
    most = TOKENS_OF_FEW if facts.experts <= FEW_EXPERTS else TOKENS_OF_MANY
    for card in (card for layer in cards for card in layer if card):
        share = card["share"]
        card["tokens"].sort(key=lambda token: _evidence(token, share), reverse=True)
        card["tokens"] = [[_cut(token[0]), *token[1:]] for token in card["tokens"][:most]]
    return cards


def _read_token(token: dict) -> list:
    text, count, lift = token["text"], int(token["count"]), _finite(token["lift"])
    if not isinstance(text, str):
        raise TypeError("text")
    seen, z, context = token.get("seen"), token.get("z"), token.get("context")
    if context is not None and not (len(context) == 3 and all(isinstance(part, str) for part in context)):
        raise TypeError("context")
    seen = None if seen is None else int(seen)
    return [text, count, seen, lift, None if z is None else _finite(z), context]


def _evidence(token: list, share: float) -> tuple[float, float, int]:
    """The token's log-likelihood ratio; in older releases, which do not say how often it occurred, its lift."""
    _, count, seen, lift, *_ = token
    if seen is None or seen < count or not 0 < share < 1:
        return 0.0, lift, count
    return log_likelihood_ratio(count, seen, share), lift, count


def _add_kinds(cards: Sequence[dict], special: set[str], tests: int) -> None:
    """Count the kinds of each expert's favourites, and find the kind that is overrepresented in the layer, if any.

    A kind is overrepresented if so many of it, drawn at random from the favourites of all the layer's experts, would
    have a probability below ERROR_RATE, over all experts and kinds together.
    """
    counts = [Counter(token_kind(token[0], special) for token in card["tokens"]) for card in cards]
    pool = sum(counts, Counter())
    for card, kinds in zip(cards, counts, strict=True):
        chances = {
            kind: chance_of_at_least(count, kinds.total(), pool[kind], pool.total()) for kind, count in kinds.items()
        }
        card["kinds"] = [[kind, count] for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))]
        card["leaning"] = None
        if chances and (chance := min(chances.values())) < ERROR_RATE / tests:
            likely = next(kind for kind in chances if chances[kind] == chance)
            card["leaning"] = [likely, kinds[likely], kinds.total(), pool[likely], pool.total()]


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
