"""The experts on a GPU: transformers' grouped products, in mixed precision too.

PyTorch's autocast does not cover grouped products (https://github.com/pytorch/pytorch/issues/174763). transformers
computes them in the type of the weights, which under autocast is fp32: at a fraction of the speed that bf16 has.

Shape suffixes in names: T tokens, D hidden size, K experts per token.
"""

import torch
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

from axion.model.mixture_axion import AxionExperts

NAME = "grouped_mm_autocast"
"""The name of `grouped_experts` among transformers' implementations of experts."""
ROW_BYTES = 16
"""Grouped products need rows of a multiple of so many bytes."""


class _CastExperts:
    """Experts, with their weights in another type."""

    def __init__(self, experts: AxionExperts, dtype: torch.dtype):
        self._experts = experts
        self.gate_up_proj, self.down_proj = (weight.to(dtype) for weight in (experts.gate_up_proj, experts.down_proj))

    def __getattr__(self, name: str):
        return getattr(self._experts, name)


def grouped_experts(
    experts: AxionExperts, hidden_TD: torch.Tensor, experts_TK: torch.Tensor, weights_TK: torch.Tensor
) -> torch.Tensor:
    """`AxionExperts.forward` with transformers' `grouped_mm`, in autocast's type where it is on."""
    device, cast = hidden_TD.device.type, experts
    if torch.is_autocast_enabled(device):
        cast = _CastExperts(experts, torch.get_autocast_dtype(device))
    return grouped_mm_experts_forward(cast, hidden_TD, experts_TK, weights_TK)  # pyright: ignore[reportArgumentType]


def use_grouped_experts(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Computes a model's experts with grouped products of a type, unless their rows do not allow it."""
    config, multiple = model.config, ROW_BYTES // dtype.itemsize
    if config.hidden_size % multiple == config.moe_intermediate_size % multiple == 0:
        ALL_EXPERTS_FUNCTIONS.register(NAME, grouped_experts)
        model.set_experts_implementation(NAME)
