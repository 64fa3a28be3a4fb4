"""What a release tells of its experts: the tokens that each favours, and how much of the work each does."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import NormalDist

from axion.errors import AxionError
from axion.evaluation.results import LOAD_SETS, measured
from playground.generate.catalogue import OpenModel

DEAD_BELOW = 0.1
"""An expert that does less than this fraction of its fair share is called dead."""

ERROR_RATE = 0.05
"""How likely one false alarm may be among all that is looked at together."""

FEW = 8
"""Models with up to so many experts a layer show all they know at once; of larger ones less is shown of each."""

TOKENS_OF_FEW, TOKENS_OF_MANY = 12, 6
LONGEST_TEXT = 40

KINDS = ("digit", "word", "sign", "space", "line", "special")


def describe_experts(model: OpenModel) -> dict:
    """All that the tab shows, ready for JSON; layers and experts are lists in the model's order.

    Returns:
        "model", "layers", "first_layer", "experts", "per_token": its shape. "load": set of documents → [L][E], each
        expert's load in times its fair share; {} where it was not measured, else with the "command" that measures it
        again. "dead": set → [[layer, expert], …]. "cards": [L][E] of None, or {"share", "tokens", "kinds", "leaning"},
        None as a whole where the release has no favourites. A token is [text, count, seen, lift, z], the last three
        None where an older release lacks them. "bound": the z beyond which a lift is no accident, for "looked_at"
        pairs of token and expert.

    Raises:
        AxionError: the release's numbers are broken or another model's.
    """
    facts = model.facts
    load, command = _read_load(model)
    cards = _read_favourites(model) if facts.layers else None
    looked_at = model.release.config.vocab_size * facts.layers * facts.experts
    return {
        "model": model.name,
        "layers": facts.layers,
        "first_layer": facts.first_layer,
        "experts": facts.experts,
        "per_token": facts.experts_per_token,
        "load": load,
        "command": command,
        "dead_below": DEAD_BELOW,
        "dead": {name: _find_dead(layers, facts.first_layer) for name, layers in load.items()},
        "cards": cards,
        "bound": significance_bound(looked_at) if looked_at else None,
        "looked_at": looked_at,
        "error_rate": ERROR_RATE,
    }


def significance_bound(comparisons: int) -> float:
    """Standard deviations from chance that one of so many comparisons reaches by accident in ERROR_RATE of all cases.

    This is Bonferroni's bound: it counts every token of the vocabulary with every expert, also those seen too rarely
    to be listed, so that it errs on the careful side.
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
    """How likely `drawn` tokens out of `pool`, of which `kind` are of a kind, hold at least `hits` of that kind."""
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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AxionError(
            f"{model.name}: release.json is broken: its expert_load lacks {error}; build it again"
        ) from None
    for layers in load.values():
        shape = [len(layer) for layer in layers]
        if shape != [facts.experts] * facts.layers or not all(math.isfinite(x) for layer in layers for x in layer):
            raise AxionError(
                f"{model.name}: release.json is broken: its expert_load is another model's; build it again"
            )
    return load, command


def _find_dead(layers: Sequence[Sequence[float]], first_layer: int) -> list[list[int]]:
    """Layer and expert, as people count them, of those below DEAD_BELOW."""
    return [
        [first_layer + row, expert + 1]
        for row, layer in enumerate(layers)
        for expert, times in enumerate(layer)
        if times < DEAD_BELOW
    ]


def _read_favourites(model: OpenModel) -> list[list[dict | None]] | None:
    facts, entries = model.facts, (model.release.trace or {}).get("favourites")
    if not entries:
        return None
    cards: list[list[dict | None]] = [[None] * facts.experts for _ in range(facts.layers)]
    try:
        for entry in entries:
            row, expert = entry["layer"] - facts.first_layer, entry["expert"] - 1
            if not (0 <= row < facts.layers and 0 <= expert < facts.experts):
                raise ValueError(f"layer {entry['layer']}, expert {entry['expert']}")
            tokens = [_read_token(token) for token in entry["tokens"]]
            cards[row][expert] = {"share": _finite(entry["share"]), "tokens": tokens}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise AxionError(
            f"{model.name}: trace.json is broken: its favourites are not this model's; build it again"
        ) from None
    special = set(model.release.tokenizer.all_special_tokens)
    for layer in cards:
        _add_kinds([card for card in layer if card], special, tests=facts.layers * facts.experts * len(KINDS))
    most = TOKENS_OF_FEW if facts.experts <= FEW else TOKENS_OF_MANY
    for card in (card for layer in cards for card in layer if card):
        # The highest lift first; it is the same for all that an expert always reads, so then the most frequent.
        card["tokens"].sort(key=lambda token: (-token[3], -token[1]))
        card["tokens"] = [[_cut(text), *numbers] for text, *numbers in card["tokens"][:most]]
    return cards


def _read_token(token: dict) -> list:
    text, count, lift = token["text"], int(token["count"]), _finite(token["lift"])
    if not isinstance(text, str):
        raise TypeError("text")
    seen, z = token.get("seen"), token.get("z")
    return [text, count, None if seen is None else int(seen), lift, None if z is None else _finite(z)]


def _add_kinds(cards: Sequence[dict], special: set[str], tests: int) -> None:
    """Count the kinds of each expert's favourites, and name the one that it has more of than the layer's would give.

    Whether it has more is asked of the list alone: drawn blindly from all that the layer's experts favour, would that
    many of one kind be an accident in fewer than ERROR_RATE of all cases, all experts and kinds taken together?
    """
    counts = [Counter(token_kind(token[0], special) for token in card["tokens"]) for card in cards]
    pool = sum(counts, Counter())
    for card, kinds in zip(cards, counts, strict=True):
        chances = {
            kind: chance_of_at_least(count, kinds.total(), pool[kind], pool.total()) for kind, count in kinds.items()
        }
        likely = min(chances, key=chances.get, default=None)
        leans = likely is not None and chances[likely] < ERROR_RATE / tests
        card["kinds"] = [[kind, kinds[kind]] for kind in sorted(kinds, key=lambda kind: (-kinds[kind], kind))]
        card["leaning"] = [likely, kinds[likely], kinds.total(), pool[likely], pool.total()] if leans else None


def _finite(value: object) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
