"""Whether a model is the plain one that the kernels compute: its own modules, no hooks, fp32 parameters on the CPU, and
the config that it was built with.

The kernels read the parameters and the config and call no module. Whatever changes a module's result without changing
its parameters would be ignored, so such a model runs on PyTorch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import nn
from transformers.activations import ACT2FN

from axion.kernels import coverage
from axion.kernels.coverage import Use
from axion.model.attention_axion import (
    AxionGroupedQueryAttention,
    AxionLatentAttention,
    AxionRMSNorm,
    AxionRotaryEmbedding,
)
from axion.model.configuration_axion import AxionConfig
from axion.model.layer_axion import AxionDecoderLayer
from axion.model.mixture_axion import AxionExperts, AxionMLP, AxionMoE, AxionRouter
from axion.model.modeling_axion import AxionForCausalLM, AxionModel
from axion.model.mtp_axion import AxionMTPLayer
from axion.model.projection_axion import AxionFactor, AxionLowRankLinear
from axion.model.shape_axion import LATENT_NORM_EPS, softmax_scale

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


def unsupported_model(
    model: AxionForCausalLM, use: Use, harmless_hooks: Collection[str] = HARMLESS_HOOKS
) -> str | None:
    """Why the kernels cannot train, or decode with, a model in one line: its config, its modules, or that they differ.

    Modules keep some values of the config that they are built with, and read others in every pass. If the config has
    changed since, PyTorch computes with a mixture of both, and the kernels would compute with the new values alone.
    """
    if (reason := coverage.unsupported_reason(model.config, use)) is not None:
        return reason
    if (reason := unsupported_reason(model, harmless_hooks)) is not None:
        return reason
    for name, module in model.named_modules():
        for what, kept, now in _kept_settings(module, model.config):
            if kept != now:
                return f"the config was changed: {name} was built with {what} {kept!r}, and it would now be {now!r}"
    return None


def _kept_settings(module: nn.Module, config: AxionConfig) -> Iterator[tuple[str, object, object]]:
    """What a module keeps of its config: a name, the value, and the value that the config has for it now."""
    if isinstance(module, AxionModel):
        yield "dropout", module.dropout, config.dropout
        yield "shared_layers", module.shared_layers, config.shared_layers
        yield "rms_norm_eps", module.norm.variance_epsilon, config.rms_norm_eps
    elif isinstance(module, AxionDecoderLayer):
        yield "dropout", module.dropout, config.dropout
        index = module.self_attn.layer_idx
        yield "experts", isinstance(module.mlp, AxionMoE), index >= config.first_k_dense_replace
        norms = [module.input_layernorm, module.post_attention_layernorm]
        if isinstance(module, AxionMTPLayer):
            norms += [module.enorm, module.hnorm, module.shared_head["norm"]]
        yield "rms_norm_eps", {norm.variance_epsilon for norm in norms}, {config.rms_norm_eps}
    elif isinstance(module, AxionLatentAttention):
        yield "scaling", module.scaling, softmax_scale(config)
        yield "rope_interleave", module.interleave, config.rope_interleave
        yield "attention_dropout", module.attention_dropout, config.attention_dropout
        nope, rope, latent = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
        widths = (module.num_heads, *module.query_parts, *module.latent_parts, *module.expanded_parts)
        yield "sizes", widths, (config.num_attention_heads, nope, rope, latent, rope, nope, config.v_head_dim)
        norms = [module.kv_a_layernorm, *([module.q_a_layernorm] if module.compresses_queries else [])]
        yield "epsilon", {norm.variance_epsilon for norm in norms}, {LATENT_NORM_EPS}
    elif isinstance(module, AxionGroupedQueryAttention):
        yield "scaling", module.scaling, config.head_dim**-0.5
        yield "attention_dropout", module.attention_dropout, config.attention_dropout
        widths = (module.head_dim, module.num_key_value_groups)
        yield "sizes", widths, (config.head_dim, config.num_attention_heads // config.num_key_value_heads)
    elif isinstance(module, AxionRouter):
        groups = (module.groups, module.eligible_groups)
        yield "num_experts_per_tok", module.chosen, config.num_experts_per_tok
        yield "n_group and topk_group", groups, (config.n_group, config.topk_group)
        yield "norm_topk_prob", module.normalises, config.norm_topk_prob
        yield "routed_scaling_factor", module.scaling, config.routed_scaling_factor


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
