"""Weights without PyTorch: names, shapes and values are those of the PyTorch model."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.weights import read_weights, weight_shapes
from tests.conftest import TINY
from tests.kernels.conftest import FAMILY_SHAPES, SHAPES

BIASED = {
    "biases": {"attention_bias": True},
    "biases, full queries": {"attention_bias": True, "q_lora_rank": None},
    "biases, factors": FAMILY_SHAPES["two looped layers, factors, one key"] | {"attention_bias": True},
}


@pytest.mark.parametrize("shape", SHAPES | FAMILY_SHAPES | BIASED)
def test_every_weight_has_its_name_and_shape(shape):
    config = AxionConfig(**TINY | (SHAPES | FAMILY_SHAPES | BIASED)[shape])
    with torch.device("meta"):
        model = AxionForCausalLM(config)
        if config.num_nextn_predict_layers:
            assert weight_shapes(config) == stored_shapes(model)
            model.attach_mtp()
    assert weight_shapes(config, prediction=config.num_nextn_predict_layers > 0) == stored_shapes(model)


def stored_shapes(model: AxionForCausalLM) -> dict:
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    return shapes


@pytest.fixture
def weights(tiny_release):
    return load_file(tiny_release / "model.safetensors")


def read(path, weights):
    return read_weights(path, {name: tuple(weight.shape) for name, weight in weights.items()}, "model.layers.2.")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_are_those_of_pytorch(dtype, weights, tmp_path):
    rounded = {name: weight.to(dtype) for name, weight in weights.items()}
    save_file(rounded | {"model.layers.2.of_prediction": torch.ones(3)}, tmp_path / "model.safetensors")
    found = read(tmp_path / "model.safetensors", weights)
    assert found is not None and found.keys() == weights.keys()
    for name, weight in rounded.items():
        assert found[name].dtype == np.float32 and torch.equal(torch.from_numpy(found[name].copy()), weight.float())


def test_a_file_that_is_not_exactly_that_is_left_to_pytorch(weights, tmp_path):
    path, name = tmp_path / "model.safetensors", "model.norm.weight"
    for changed in (
        {each: weight for each, weight in weights.items() if each != name},
        weights | {name: weights[name][1:].clone()},
        weights | {name: torch.full_like(weights[name], float("nan"))},
        weights | {name: weights[name].to(torch.int32)},
        weights | {"model.unknown": torch.ones(1)},
    ):
        save_file(changed, path)
        assert read(path, weights) is None
    path.write_bytes(path.read_bytes()[:-1])
    assert read(path, weights) is None
    assert read(tmp_path / "missing", weights) is None
