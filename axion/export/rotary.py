"""The order of rotary rows, which differs between transformers and llama.cpp."""

import torch


def pair_halves(rows_HxD: torch.Tensor) -> torch.Tensor:
    """From rows whose pairs are the halves of a head to rows whose pairs are neighbours."""
    return rows_HxD.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
