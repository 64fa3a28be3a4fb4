"""Other ways to read with the same weights: another number of loops, the layer that drafts, weights that are rounded,
changes to experts and attention heads, or attention that shows its weights.

A variant is a model of its own that shares every tensor with the one that it was made from.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from safetensors import safe_open

from axion.errors import AxionError, one_line
from axion.kernels.dimensions import check_weights
from axion.kernels.stored import StoredModel, set_weights_of, tampering_of, untampered, weights_of

if TYPE_CHECKING:
    from axion.kernels.stored import Decodable
    from axion.model.modeling_axion import AxionForCausalLM
    from axion.tampering import Tampering

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


def with_written_attention(model: AxionForCausalLM) -> AxionForCausalLM:
    """The model with attention written out, which returns its weights with `output_attentions=True`."""
    variant = _share(model)
    variant.set_attn_implementation("eager")
    return variant


def _share(model: AxionForCausalLM) -> AxionForCausalLM:
    """A copy of the modules and the config, over the same tensors."""
    kept = [*model.parameters(), *model.buffers()]
    if (before := untampered(model)) is not model:
        kept.append(before)
    return copy.deepcopy(model, {id(each): each for each in kept})


def with_tampering(model: Model, tampering: Tampering) -> Model:
    """The model with changes to its experts and attention heads; `axion.tampering` says what each of them does.

    Changes that the model already had are undone, so that only these apply.

    Raises:
        AxionError: the model cannot be changed so.
    """
    tampering.check(model.config)
    if tampering == tampering_of(model):
        return model
    if isinstance(model, StoredModel):
        return replace(model, tampering=tampering)
    from axion.inference.tampered import tamper

    before = cast("AxionForCausalLM", untampered(model))
    before = with_weights(with_loops(before, model.config.num_loops), weights_of(model))
    variant = _share(before)
    tamper(variant, tampering)
    vars(variant).update(_tampering=tampering, _untampered=before)  # not `setattr`, which makes a module a part of it
    return cast("Model", variant)
