"""A model as its files hold it, which the kernels decode without PyTorch and transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from axion.files import read_json
from axion.kernels.dimensions import check_weights
from axion.model.shape_axion import AxionShape
from axion.tampering import NOTHING, Tampering
from axion.weights import read_weights, weight_shapes

if TYPE_CHECKING:
    import numpy as np

    from axion.model.modeling_axion import AxionForCausalLM

    Decodable: TypeAlias = "AxionForCausalLM | StoredModel"
    """What the kernels decode."""

MODEL_TYPE = "axion"

NOT_OF_THE_SHAPE = {"architectures", "auto_map", "dtype", "model_type", "qk_head_dim", "transformers_version"}
"""What else a config.json holds: names, and what follows from the shape."""


@dataclass(frozen=True, eq=False)
class StoredModel:
    """The shape and the weights of a plain model: no modules, so no hooks, adapters or other changes."""

    config: AxionShape
    weights: Mapping[str, np.ndarray]
    """In fp32, named as in model.safetensors."""
    end_ids: frozenset[int]
    """The tokens that end a text."""
    predicts: bool
    """Whether the layer of multi-token prediction is there, which drafts."""
    rounding: str = "fp32"
    """See `weights_of`."""
    tampering: Tampering = NOTHING
    """See `tampering_of`."""
    packed: dict[Any, Any] = field(default_factory=dict)
    """What `axion.kernels.pack` keeps of the model, shared with its variants."""


def open_stored(folder: Path, predicts: bool = False) -> StoredModel | None:
    """The model of a release.

    Args:
        folder: has config.json, generation_config.json and model.safetensors.
        predicts: with the layer of multi-token prediction.

    Returns:
        None where the files are broken, or hold something else than `axion.model` writes. Opening the same folder with
        transformers says what, or knows it.
    """
    try:
        fields, generation = (read_json(folder / name) for name in ("config.json", "generation_config.json"))
        config = read_shape(fields)
        ends = generation["eos_token_id"]
        end_ids = frozenset(ends if isinstance(ends, list) else [ends])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not all(type(end) is int for end in end_ids) or (predicts and not config.num_nextn_predict_layers):
        return None
    prediction = f"model.layers.{config.num_hidden_layers}."
    weights = read_weights(folder / "model.safetensors", weight_shapes(config, predicts), passed_over=prediction)
    return None if weights is None else StoredModel(config, weights, end_ids, predicts)


def read_shape(fields: dict[str, Any]) -> AxionShape:
    """The shape that the content of a config.json describes.

    Raises:
        ValueError: it is that of another type of model, has fields that are not of a shape, or impossible values.
        TypeError, KeyError: it is no object, or values have other types.
    """
    if fields["model_type"] != MODEL_TYPE:
        raise ValueError(f"model_type is {fields['model_type']!r}")
    names = {each.name for each in dataclasses.fields(AxionShape)}
    if unknown := fields.keys() - names - NOT_OF_THE_SHAPE:
        raise ValueError(f"{min(unknown)} is not a field of a shape")
    return AxionShape(**{name: value for name, value in fields.items() if name in names})


def weights_of(model: Decodable) -> str:
    """The kind of weights that decoders of this model multiply by where none is named; see `set_weights_of`."""
    return model.rounding if isinstance(model, StoredModel) else vars(model).get("_decoder_weights", "fp32")


def set_weights_of(model: AxionForCausalLM, weights: str) -> None:
    """Chooses that kind, one of `WEIGHT_BITS`; the model's parameters stay as they are, in fp32."""
    check_weights(weights)
    vars(model)["_decoder_weights"] = weights


def tampering_of(model: Decodable) -> Tampering:
    """What is changed while the model reads; see `axion.inference.variants.with_tampering`."""
    return model.tampering if isinstance(model, StoredModel) else vars(model).get("_tampering", NOTHING)


def untampered(model: Decodable) -> Decodable:
    """The model as it was before `axion.inference.variants.with_tampering`, with the same tensors."""
    if isinstance(model, StoredModel):
        return replace(model, tampering=NOTHING) if model.tampering else model
    return vars(model).get("_untampered", model)


def predicts(model: Decodable) -> bool:
    """Whether a model has its layer of multi-token prediction, which drafts."""
    return model.predicts if isinstance(model, StoredModel) else model.mtp is not None


def unsupported_reason(model: Decodable) -> str | None:
    """Why the kernels cannot decode with this model, see `axion.kernels.plain`; None where they can."""
    if isinstance(model, StoredModel):
        return None
    from axion.kernels import plain

    return plain.unsupported_model(cast("AxionForCausalLM", untampered(model)), "decoding")


def named_weights(model: Decodable) -> tuple[Mapping[str, np.ndarray], int | None]:
    """The weights in fp32, and the index of the layer of multi-token prediction if it is there.

    Those of a PyTorch model, which has to be supported, are shared with it.
    """
    if isinstance(model, StoredModel):
        return model.weights, model.config.num_hidden_layers if model.predicts else None
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    arrays = {name: cast("np.ndarray", tensor.detach().numpy()) for name, tensor in tensors.items()}
    return arrays, len(model.model.layers) - 1 if model.mtp is not None else None
