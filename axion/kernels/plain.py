"""Whether a model is the plain one that the kernels compute: its own modules, no hooks, fp32 parameters on the CPU.

The kernels read the parameters and call no module. Whatever changes a module's result without changing its parameters
would be ignored, so such a model runs on PyTorch.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from transformers.activations import ACT2FN

from axion.model.attention_axion import (
    AxionGroupedQueryAttention,
    AxionLatentAttention,
    AxionRMSNorm,
    AxionRotaryEmbedding,
)
from axion.model.layer_axion import AxionDecoderLayer
from axion.model.mixture_axion import AxionExperts, AxionMLP, AxionMoE, AxionRouter
from axion.model.modeling_axion import AxionForCausalLM, AxionModel
from axion.model.mtp_axion import AxionMTPLayer
from axion.model.projection_axion import AxionFactor, AxionLowRankLinear

SUPPORTED_MODULES = {
    *(AxionForCausalLM, AxionModel, AxionDecoderLayer, AxionMTPLayer, AxionLatentAttention, AxionGroupedQueryAttention),
    *(AxionMLP, AxionLowRankLinear, AxionFactor, AxionMoE, AxionExperts, AxionRouter),
    *(AxionRMSNorm, AxionRotaryEmbedding, type(ACT2FN["silu"])),
    *(nn.ModuleList, nn.ModuleDict, nn.Linear, nn.Embedding),
}
"""The module types that the kernels implement. A wrapped or replaced module may compute something else."""

HARMLESS_HOOKS = frozenset(
    {"transformers.utils.output_capturing", "transformers.modeling_utils", "axion.kernels.blocks"}
)
"""Python modules whose hooks and patched methods are allowed: transformers' stay on the model after router logits were
requested and only record, or let gradient checkpointing find a tensor that requires gradients; those of the training
kernels compute the same result."""


def unsupported_reason(model: nn.Module, harmless_hooks: Collection[str] = HARMLESS_HOOKS) -> str | None:
    """Why the kernels cannot compute this model, in one line; None where they can.

    Args:
        harmless_hooks: names of the Python modules whose hooks and patched methods may be ignored.
    """
    for name, module in model.named_modules():
        if type(module) not in SUPPORTED_MODULES or _changes(module).difference(harmless_hooks):
            return f"the kernels run unmodified models only, and its module {name or 'model'!r} was changed"
        for own_name, parameter in module._parameters.items():  # one walk: training checks this in every pass
            if parameter is not None and (found := _deviation(parameter)) is not None:
                return f"the kernels read float32 parameters on the CPU, and {name}.{own_name} is {found}"
    return None


def _deviation(parameter: nn.Parameter) -> str | None:
    """What a parameter is instead of contiguous float32 on the CPU; None where it is that."""
    if type(parameter) is not nn.Parameter:
        return f"a {type(parameter).__name__}"
    if parameter.dtype is not torch.float32 or parameter.device.type != "cpu":
        return f"{str(parameter.dtype).removeprefix('torch.')} on {parameter.device.type}"
    return None if parameter.is_contiguous() else "not contiguous"


def _changes(module: nn.Module) -> set[str]:
    """The names of the Python modules of a module's hooks and of its patched forward."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    forward = vars(module).get("forward")
    if getattr(forward, "__func__", None) is type(module).forward:  # left by libraries that have removed a patch
        forward = None
    if forward is None and not any(hooks):
        return set()
    changes = [*(hook for of_kind in hooks for hook in of_kind.values()), forward]
    return {getattr(change, "__module__", "") for change in changes if change is not None}
