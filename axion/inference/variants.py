"""Other ways to read with the same weights: another number of loops, the layer that drafts, weights that are rounded,
or some experts muted.

A variant is a model of its own that shares every tensor with the one that it was made from.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors import safe_open

from axion.errors import AxionError, one_line
from axion.inference.rows import RoutingRow
from axion.kernels.dimensions import check_weights
from axion.kernels.stored import StoredModel, set_weights_of, weights_of

if TYPE_CHECKING:
    import torch

    from axion.kernels.stored import Decodable
    from axion.model.modeling_axion import AxionForCausalLM
    from axion.model.shape_axion import AxionShape

Model = TypeVar("Model", bound="Decodable")

MOST_LOOPS = 8
"""The most loops that a reader may ask for."""


def with_loops(model: Model, num_loops: int) -> Model:
    """The model with `num_loops` as its default number of loops; 0 leaves it as it is.

    Raises:
        AxionError: the model has no shared layers to loop more than once.
    """
    if num_loops in (0, model.config.num_loops):
        return model
    try:
        model.config.depth(num_loops)
    except ValueError as error:
        raise AxionError(str(error)) from None
    if isinstance(model, StoredModel):
        return replace(model, config=replace(model.config, num_loops=num_loops))
    variant = _share(model)
    variant.config.num_loops = num_loops  # one object, which all of the variant's modules share
    return variant


def with_weights(model: Model, weights: str) -> Model:
    """The model with another kind of weights on the kernels: "fp32", "bf16" or "int8"; see `NativeDecoder`.

    Its parameters stay in fp32, and PyTorch computes with those. `pick_backend` says where the kernels cannot be used.

    Raises:
        AxionError: an unknown kind of weights.
    """
    check_weights(weights)
    if weights == weights_of(model):
        return model
    if isinstance(model, StoredModel):
        return replace(model, rounding=weights)
    variant = _share(model)
    set_weights_of(variant, weights)
    return variant


def with_mtp(model: AxionForCausalLM, weights: Path) -> AxionForCausalLM:
    """The model with its layer of multi-token prediction, which is read from a file of weights.

    Args:
        weights: the model's own model.safetensors.

    Raises:
        AxionError: the model has no such layer, or the file does not hold all of its weights.
    """
    config = model.config
    if not config.num_nextn_predict_layers:
        raise AxionError("the model has no layer of multi-token prediction (num_nextn_predict_layers is 0)")
    variant = _share(model)
    layer = variant.attach_mtp().eval()
    prefix = f"model.layers.{config.num_hidden_layers}."
    wanted = layer.state_dict().keys()
    try:
        with safe_open(weights, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (no dict)
            found = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
        if different := sorted(wanted ^ found.keys()):
            kind = "missing" if different[0] in wanted else "unexpected"
            raise AxionError(f"{weights.name} does not fit config.json: {kind} {prefix}{different[0]}")
        layer.load_state_dict(found)
    except AxionError:
        raise
    except Exception as error:  # safetensors and torch raise various types
        raise AxionError(f"{weights.name} cannot be read: {one_line(error)}") from None
    for name, weight in layer.state_dict().items():
        if not weight.isfinite().all():
            raise AxionError(f"{weights.name} is broken: {prefix}{name} has NaN or infinite values")
    return variant


def _share(model: AxionForCausalLM) -> AxionForCausalLM:
    """A copy of the modules and the config, over the same tensors."""
    tensors = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def with_muted(model: AxionForCausalLM, muted: Mapping[int, Collection[int]]) -> AxionForCausalLM:
    """The model without some of its routed experts: a muted one is never chosen, and the router takes the next best.

    The weights are those of the experts that were chosen, normalised as ever. In a looped layer an expert is muted in
    every pass.

    Args:
        muted: decoder layer, numbered from 1 → its muted experts, numbered from 0.

    Raises:
        AxionError: there is no such layer or expert, or too few experts are left to choose from.
    """
    from axion.inference.routing import routers

    variant, config = _share(model), model.config
    for layer, experts in muted.items():
        if layer - 1 not in config.mixture_layers:
            having = ", ".join(str(index + 1) for index in config.mixture_layers) or "none"
            raise AxionError(f"layer {layer} has no experts to mute; layers with experts: {having}")
        if unknown := sorted(set(experts) - set(range(config.n_routed_experts))):
            last = config.n_routed_experts
            raise AxionError(f"layer {layer} has no expert E{unknown[0] + 1}; its experts are E1 to E{last}")
        router = routers(variant)[RoutingRow(layer)]
        bias_E = router.e_score_correction_bias.clone()
        bias_E[[*experts]] = float("-inf")  # below any score, so that the choice passes to the others
        _check_what_is_left(config, layer, bias_E)
        router.e_score_correction_bias = bias_E
    return variant


def _check_what_is_left(config: AxionShape, layer: int, bias_E: torch.Tensor) -> None:
    """Raises AxionError where a token could find too few experts. Groups are chosen by their two best experts."""
    needed, per_group = config.num_experts_per_tok, bias_E.isfinite().view(config.n_group, -1).sum(dim=1)
    if config.n_group == config.topk_group:
        left, where = int(per_group.sum()), ""
    else:
        needed = max(2, -(-needed // config.topk_group))
        left, where = int(per_group.min()), " in each group"
    if left < needed:
        raise AxionError(f"layer {layer} must keep at least {needed} experts{where}; mute fewer of them")
