"""The linear layers of attention and feed-forward parts: full matrices, or products of two of low rank.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.
"""

import torch
from torch import nn

from .configuration_axion import AxionConfig


class AxionFactor(nn.Linear):
    """One of the two matrices of low rank; a class of its own because it is initialised differently."""


class AxionLowRankLinear(nn.Module):
    """A linear layer whose matrix is the product of two: `b(a(x))`, with `a` `[rank, in]` and `b` `[out, rank]`."""

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool):
        super().__init__()
        self.a = AxionFactor(in_features, rank, bias=False)
        self.b = AxionFactor(rank, out_features, bias=bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(hidden))


def projection(config: AxionConfig, in_features: int, out_features: int, bias: bool = False) -> nn.Linear:
    """A linear layer of the kind that the config asks for with `projection_rank`."""
    if config.projection_rank is None:
        return nn.Linear(in_features, out_features, bias=bias)
    return AxionLowRankLinear(in_features, out_features, config.projection_rank, bias)  # pyright: ignore[reportReturnType]


def factor_std(config: AxionConfig) -> float:
    """Standard deviation of both factors for which their product has that of a full matrix, `initializer_range`."""
    assert config.projection_rank is not None
    return (config.initializer_range / config.projection_rank**0.5) ** 0.5
