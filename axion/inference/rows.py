"""The routing of one token: the rows of a trace, and what each says.

Shape suffixes: L routing rows (one for each pass through a layer with routed experts), K experts per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from axion.model.shape_axion import AxionShape


class RoutingRow(NamedTuple):
    """A pass through a decoder layer; of one with routed experts, a trace has a row."""

    layer: int
    """The decoder layer, numbered from 1; dense layers count too, so the first row need not be layer 1."""
    loop: int = 1
    """Which pass through the layer, numbered from 1; always 1 in a layer that is not looped."""

    def label(self, rows: Sequence[RoutingRow]) -> str:
        """Its name among the rows of a model, which says the loop where the layer has more than one."""
        looped = any(row.layer == self.layer and row.loop != self.loop for row in rows)
        return f"layer {self.layer}, loop {self.loop}" if looped else f"layer {self.layer}"


@dataclass(frozen=True)
class TokenRouting:
    """How one token was routed. Each list has one entry for each of `rows`; experts are numbered from 0."""

    rows: tuple[RoutingRow, ...]
    experts: list[list[int]]
    """[L][K]: the experts that read the token, heaviest first."""
    gates: list[list[float]]
    """[L][K]: the weights of those experts."""
    affinities: list[list[float]]
    """[L][K]: their sigmoid scores before the balancing bias, which takes part in the choice but not in the weights."""
    displaced: list[list[int]]
    """[L]: the experts, often none, that affinity alone would have chosen but the bias, or what was tampered with, did
    not, in ascending order."""


def routing_rows(config: AxionShape) -> list[RoutingRow]:
    """The routing rows of a model with this config, in the order in which a token passes through them.

    A looped layer has a row for each of the config's loops. A dense model has none.
    """
    return [row for row in layer_passes(config) if row.layer - 1 in config.mixture_layers]


def layer_passes(config: AxionShape) -> list[RoutingRow]:
    """Every pass of a token through the layers of a model with this config, in order, with or without experts."""
    shared = config.shared_layers
    return [
        *(RoutingRow(index + 1) for index in range(shared.start)),
        *(RoutingRow(index + 1, loop) for loop in range(1, config.num_loops + 1) for index in shared),
        *(RoutingRow(index + 1) for index in range(shared.stop, config.num_hidden_layers)),
    ]
