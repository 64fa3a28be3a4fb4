"""How PyTorch reads with changes to experts and attention heads, which `axion.tampering` defines.

The modules are changed from outside, so that the model's own code, which is copied into every release, knows nothing of
it. `axion.kernels.decoder` does the same on the kernels.

Shape suffixes: B batch, S positions, H heads, T tokens, E routed experts, K experts per token.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from axion.model.mixture_axion import AxionMoE, AxionRouter
from axion.model.modeling_axion import AxionForCausalLM
from axion.tampering import Tampering


class TamperedRouter(AxionRouter):
    """A router whose gates are scaled after they were normalised."""

    scale_E: torch.Tensor

    def choose(self, logits_TE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `AxionRouter.choose`."""
        weights_TK, experts_TK = super().choose(logits_TE)
        return weights_TK * self.scale_E[experts_TK], experts_TK


def tamper(model: AxionForCausalLM, tampering: Tampering) -> None:
    """Changes the modules of a model in place, but none of its tensors."""
    config = model.config
    for layer, decoder_layer in enumerate(model.model.layers[: config.num_hidden_layers], start=1):
        if isinstance(mixture := decoder_layer.mlp, AxionMoE):
            _tamper_router(mixture.gate, layer, tampering.experts_per_token(config), tampering)
        scales_H = torch.from_numpy(tampering.head_scales(layer, config.num_attention_heads))
        if not scales_H.all():
            output = decoder_layer.get_submodule("self_attn.o_proj")
            output.register_forward_pre_hook(partial(_scale_heads, scales_H.to(model.device)))


def _tamper_router(router: AxionRouter, layer: int, chosen: int, tampering: Tampering) -> None:
    own_E = router.e_score_correction_bias
    router.e_score_correction_bias = torch.from_numpy(tampering.choice_bias(layer, own_E.cpu().numpy())).to(own_E)
    router.chosen = chosen
    router.__class__ = TamperedRouter
    router.scale_E = torch.from_numpy(tampering.gate_scales(layer, len(own_E))).to(own_E.device)


def _scale_heads(scales_H: torch.Tensor, _: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Of the heads' outputs, side by side, before they are projected."""
    [context_BSx] = inputs
    context_BSHv = context_BSx.unflatten(-1, (len(scales_H), -1)) * scales_H.unsqueeze(-1)
    return (context_BSHv.flatten(-2).to(context_BSx.dtype),)
