"""The labels of training windows and documents: the token ids, not shifted, and IGNORED where there is no loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label of a token that carries no loss; PyTorch's own default."""


def count_predicted(labels_BS: torch.Tensor) -> torch.Tensor:
    """How many labels `[B, S]` are predicted: all but each row's first, without those that are ignored."""
    return (labels_BS[:, 1:] != IGNORED).sum()
