"""Changes to a model while it reads: experts taken away or always used, gates scaled, attention heads muted.

A `Tampering` is a value with a short form that is the same on the command line, in links, in the API and in JSON:

    mute=L2.E4,L3.E1  force=L1.E2  top_experts=1  bias=off,L2.E3=0.1  scale=L1.E2=0.5  mute_head=L1.H3

Layers, experts and heads are numbered from 1; dense layers count too. In a looped layer each pass is changed. The layer
of multi-token prediction stays as it is, because it only drafts.

What the router does (DeepSeek-V3 report, equations 12 to 16), with affinities s:

1. It chooses by s + bias. The bias is the model's own, 0 with `bias=off`, or the number that is set for an expert. A
   muted expert comes after all others, so the router chooses among those; a forced one comes before all others. Where
   groups of experts are chosen first, these scores decide that too.
2. It chooses `top_experts` of them.
3. The gates are the affinities of the chosen experts, divided by their sum where the model does so. So the others'
   gates make up for an expert that is muted, and become smaller for one that is forced.
4. `scale` multiplies an expert's gate after that, and the others' gates stay: with 0 the expert's output is absent and
   nothing takes its place.

A muted attention head still attends, but its output is 0.

This module imports neither torch nor transformers, because the kernels decode without them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from axion.errors import AxionError

if TYPE_CHECKING:
    from axion.model.shape_axion import AxionShape

NAMES = ("mute", "force", "top_experts", "bias", "scale", "mute_head")
"""What can be changed, by the names of options, query parameters and JSON fields."""

OFF = "off"
MOST_BIAS, MOST_SCALE = 10.0, 10.0
"""The largest bias, positive or negative, and the largest factor on a gate. An affinity is between 0 and 1."""
FIRST = 1e4
"""Added to the score of a forced expert and subtracted from that of a muted one: far beyond affinity + MOST_BIAS."""
LONGEST = 4_000
"""Characters of a text that is parsed."""

_PART = re.compile(r"[Ll]([1-9][0-9]{0,3})\.([EHeh])([1-9][0-9]{0,3})")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,6}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(?:[eE]-?[0-9]{1,2})?")


class TamperingError(AxionError):
    """What a person who clicks on experts may run into.

    Args:
        problem: for callers that have a text of their own for it.
        message: the text in English.
        values: what the text names.
    """

    def __init__(self, problem: Literal["few_left", "many_forced"], message: str, /, **values: object):
        super().__init__(message)
        self.problem, self.values = problem, values


class Expert(NamedTuple):
    """A routed expert of a layer, both numbered from 1. `str` of it is "L2.E4"."""

    layer: int
    number: int

    def __str__(self) -> str:
        return f"L{self.layer}.E{self.number}"


class Head(NamedTuple):
    """An attention head of a layer, both numbered from 1. `str` of it is "L1.H3"."""

    layer: int
    number: int

    def __str__(self) -> str:
        return f"L{self.layer}.H{self.number}"


@dataclass(frozen=True)
class Tampering:
    """What is changed; by default nothing, and then it is false.

    Its parts are in ascending order, so that equal changes are equal values.
    """

    muted: tuple[Expert, ...] = ()
    """Never chosen."""
    forced: tuple[Expert, ...] = ()
    """Always chosen."""
    top_experts: int | None = None
    """Routed experts per token in every layer; None for as many as the model has."""
    bias_off: bool = False
    """Whether experts are chosen by affinity alone, but for `biases`."""
    biases: tuple[tuple[Expert, float], ...] = ()
    """Numbers in place of an expert's own balancing bias."""
    scales: tuple[tuple[Expert, float], ...] = ()
    """Factors on an expert's gate."""
    muted_heads: tuple[Head, ...] = ()
    """Heads whose output is 0."""

    def __bool__(self) -> bool:
        return self != NOTHING

    def __str__(self) -> str:
        """The command line's options for it, such as "--mute L2.E4 --top-experts 1"."""
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.to_texts().items())

    @property
    def changes_experts(self) -> bool:
        """Whether anything but attention heads is changed."""
        return bool(replace(self, muted_heads=()))

    def to_texts(self) -> dict[str, str]:
        """Name → text, of what is changed; `read_tampering` reads it back."""
        texts = {
            "mute": _join(self.muted),
            "force": _join(self.forced),
            "top_experts": "" if self.top_experts is None else str(self.top_experts),
            "bias": _join([*([OFF] if self.bias_off else []), *map(_assignment, self.biases)]),
            "scale": _join(map(_assignment, self.scales)),
            "mute_head": _join(self.muted_heads),
        }
        return {name: text for name, text in texts.items() if text}

    def without(self, expert: Expert) -> Tampering:
        """The same, with one more expert muted."""
        return replace(self, muted=tuple(sorted({*self.muted, expert})))

    def check(self, config: AxionShape) -> None:
        """Raises AxionError, in one line, where a model of this shape cannot be changed so."""
        if self.changes_experts:
            if not config.mixture_layers:
                raise AxionError("the model has no experts to change; of a dense model only heads can be muted")
            self._check_experts(config)
        for head in self.muted_heads:
            _check_layer(head.layer, range(config.num_hidden_layers), "is not in the model; its layers are")
            if head.number > (count := config.num_attention_heads):
                raise AxionError(f"layer {head.layer} has no head H{head.number}; its heads are H1 to H{count}")

    def _check_experts(self, config: AxionShape) -> None:
        count, groups, open_groups = config.n_routed_experts, config.n_group, config.topk_group
        named = {*self.muted, *self.forced, *(expert for expert, _ in (*self.biases, *self.scales))}
        for expert in sorted(named):
            _check_layer(expert.layer, config.mixture_layers, "has no experts to change; layers with experts:")
            if expert.number > count:
                raise AxionError(f"layer {expert.layer} has no expert E{expert.number}; its experts are E1 to E{count}")
        chosen, most = self.experts_per_token(config), count // groups * open_groups
        if not 1 <= chosen <= most:
            raise AxionError(f"top_experts must be from 1 to {most}, the experts that a token can choose, not {chosen}")
        if both := sorted({*self.muted} & {*self.forced}):
            raise AxionError(f"{both[0]} cannot be muted and forced at the same time")
        for layer in sorted({expert.layer for expert in self.forced}):
            of_layer = [expert for expert in self.forced if expert.layer == layer]
            if len(of_layer) > chosen:
                message = f"layer {layer} chooses {chosen} experts for each token; force no more of them"
                raise TamperingError("many_forced", message, layer=layer, chosen=chosen)
            if len({(expert.number - 1) // (count // groups) for expert in of_layer}) > open_groups:
                raise AxionError(
                    f"layer {layer} chooses {open_groups} of its {groups} groups; force experts of no more"
                )
        for layer in sorted({expert.layer for expert in self.muted}):
            self._check_what_is_left(config, layer, chosen)

    def _check_what_is_left(self, config: AxionShape, layer: int, chosen: int) -> None:
        """Raises AxionError where a token could find too few. Groups are chosen by their two best experts."""
        left_E = np.ones(config.n_routed_experts, bool)
        left_E[[expert.number - 1 for expert in self.muted if expert.layer == layer]] = False
        per_group = left_E.reshape(config.n_group, -1).sum(axis=1)
        if config.n_group == config.topk_group:
            left, needed, where = int(per_group.sum()), chosen, ""
        else:
            left, needed, where = int(per_group.min()), max(2, -(-chosen // config.topk_group)), " in each group"
        if left < needed:
            message = f"layer {layer} must keep at least {needed} experts{where}; mute fewer of them"
            raise TamperingError("few_left", message, layer=layer, needed=needed)

    # --- What the two backends compute with -------------------------------------------------------------------------

    def experts_per_token(self, config: AxionShape) -> int:
        """How many routed experts read a token in a layer that has any."""
        return config.num_experts_per_tok if self.top_experts is None else self.top_experts

    def bias(self, layer: int, own_E: np.ndarray) -> np.ndarray:
        """The balancing bias [E] of a layer; `own_E` is the model's."""
        bias_E = np.zeros_like(own_E) if self.bias_off else own_E.copy()
        for expert, value in self.biases:
            if expert.layer == layer:
                bias_E[expert.number - 1] = value
        return bias_E

    def choice_bias(self, layer: int, own_E: np.ndarray) -> np.ndarray:
        """What is added to the affinities to choose, [E]: `bias`, with muted experts last and forced ones first."""
        bias_E = self.bias(layer, own_E)
        for parts, shift in ((self.muted, -FIRST), (self.forced, FIRST)):
            bias_E[[expert.number - 1 for expert in parts if expert.layer == layer]] += shift
        return bias_E

    def gate_scales(self, layer: int, experts: int) -> np.ndarray:
        """The factors on the gates of a layer, [E]."""
        scales_E = np.ones(experts, np.float32)
        for expert, factor in self.scales:
            if expert.layer == layer:
                scales_E[expert.number - 1] = factor
        return scales_E

    def head_scales(self, layer: int, heads: int) -> np.ndarray:
        """The factors on the outputs of the heads of a layer, [H]."""
        scales_H = np.ones(heads, np.float32)
        scales_H[[head.number - 1 for head in self.muted_heads if head.layer == layer]] = 0
        return scales_H


NOTHING = Tampering()
"""The model as it is."""


def read_tampering(values: Mapping[str, object]) -> Tampering:
    """The changes that options, query parameters or JSON describe.

    Args:
        values: one of `NAMES` → a text with commas, a list of such texts, or for `top_experts` a number. None, an empty
            text and an empty list change nothing.

    Raises:
        AxionError: a name or a value is wrong; whether it fits a model is up to `Tampering.check`.
    """
    if not isinstance(values, Mapping):
        raise AxionError(f"a change to the model must be an object with {_known()}")
    if unknown := [name for name in values if name not in NAMES]:
        raise AxionError(f"{_shown(unknown[0])} cannot be changed; what can is {_known()}")
    words = {name: _words(name, values.get(name)) for name in NAMES}
    biases = [word for word in words["bias"] if word.lower() != OFF]
    return Tampering(
        muted=_experts("mute", words["mute"]),
        forced=_experts("force", words["force"]),
        top_experts=_count(words["top_experts"]),
        bias_off=len(biases) < len(words["bias"]),
        biases=_assignments("bias", biases, -MOST_BIAS, MOST_BIAS),
        scales=_assignments("scale", words["scale"], 0.0, MOST_SCALE),
        muted_heads=tuple(sorted({Head(*_part("mute_head", word, "H")) for word in words["mute_head"]})),
    )


def _known() -> str:
    return f"{', '.join(NAMES[:-1])} and {NAMES[-1]}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _words(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if name == "top_experts" and isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        kind = "a whole number" if name == "top_experts" else "a text"
        raise AxionError(f"{name} must be {kind} such as {EXAMPLES[name]}, not {_shown(value)}")
    if sum(map(len, texts)) > LONGEST:
        raise AxionError(f"{name} is longer than {LONGEST:,} characters")
    return [word for text in texts for word in re.split(r"[,\s]+", text) if word]


EXAMPLES = {
    "mute": "L2.E4",
    "force": "L1.E2",
    "top_experts": "1",
    "bias": "off or L2.E4=0.1",
    "scale": "L1.E2=0.5",
    "mute_head": "L1.H3",
}
"""What the text of each name looks like."""


def _part(name: str, word: str, kind: str) -> tuple[int, int]:
    found = _PART.fullmatch(word)
    if found is None or found[2].upper() != kind:
        raise AxionError(f"{name} needs {EXAMPLES[name]}, layer and {_KINDS[kind]}, not {_shown(word)}")
    return int(found[1]), int(found[3])


_KINDS = {"E": "expert", "H": "head"}


def _experts(name: str, words: Iterable[str]) -> tuple[Expert, ...]:
    return tuple(sorted({Expert(*_part(name, word, "E")) for word in words}))


def _assignments(name: str, words: Iterable[str], low: float, high: float) -> tuple[tuple[Expert, float], ...]:
    numbers: dict[Expert, float] = {}
    for word in words:
        expert, equals, text = word.partition("=")
        if not equals:
            raise AxionError(f"{name} needs {EXAMPLES[name]}, not {_shown(word)}")
        part = Expert(*_part(name, expert, "E"))
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not low <= number <= high:
            raise AxionError(f"{name} of {part} must be a number from {low:g} to {high:g}, not {_shown(text)}")
        if numbers.setdefault(part, number) != number:
            raise AxionError(f"{name} of {part} is given twice")
    return tuple(sorted(numbers.items()))


def _count(words: Sequence[str]) -> int | None:
    if not words:
        return None
    if len(words) > 1 or not re.fullmatch("[0-9]{1,4}", words[0]):
        raise AxionError(f"top_experts must be a whole number of at least 1, not {_shown(' '.join(words))}")
    return int(words[0])


def _check_layer(layer: int, layers: range, problem: str) -> None:
    if layer - 1 not in layers:
        raise AxionError(f"layer {layer} {problem} {', '.join(str(index + 1) for index in layers)}")


def _assignment(pair: tuple[Expert, float]) -> str:
    return f"{pair[0]}={pair[1]:.12g}"


def _join(parts: Iterable[object]) -> str:
    return ",".join(map(str, parts))
