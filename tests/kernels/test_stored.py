"""Models as their files hold them, without PyTorch: shape, angles and output are those of the PyTorch model."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from axion.kernels.decoder import NativeDecoder
from axion.kernels.rotary import rotary_angles
from axion.kernels.stored import StoredModel, named_weights, open_stored, read_shape
from axion.model.attention_axion import AxionRotaryEmbedding
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import AxionShape
from axion.recipe import known_versions, load_recipe
from axion.release import RELEASES, open_release
from tests.conftest import TINY
from tests.kernels.conftest import FAMILY_SHAPES, SHAPES

each_shape = pytest.mark.parametrize("shape", SHAPES | FAMILY_SHAPES)
each_config = pytest.mark.parametrize("name", [*SHAPES, *FAMILY_SHAPES, *known_versions()])


def config_of(name: str) -> AxionConfig:
    changes = (SHAPES | FAMILY_SHAPES).get(name)
    return load_recipe(name).build_config() if changes is None else AxionConfig(**TINY | changes)


@each_config
def test_the_shape_in_a_file_is_that_of_the_config(name, tmp_path):
    config_of(name).save_pretrained(tmp_path)
    shape, config = (
        read_shape(json.loads((tmp_path / "config.json").read_text())),
        AxionConfig.from_pretrained(tmp_path),
    )
    assert vars(shape) == {field: getattr(config, field) for field in vars(shape)}
    assert vars(shape).keys() == {field.name for field in dataclasses.fields(AxionShape)} | {"qk_head_dim"}
    assert (shape.mixture_layers, shape.shared_layers) == (config.mixture_layers, config.shared_layers)


@pytest.mark.parametrize(
    "changes", [{"model_type": "llama"}, {"vocab_size": 0}, {"unheard_of": 1}, {"n_group": 3}, {"rope_parameters": [1]}]
)
def test_other_configs_are_left_to_transformers(changes, tiny_release, tmp_path):
    fields = json.loads((tiny_release / "config.json").read_text())
    with pytest.raises((ValueError, TypeError)):
        read_shape(fields | changes)


@each_config
def test_angles_are_those_of_the_model(name):
    config = config_of(name)
    positions = torch.arange(config.max_position_embeddings).unsqueeze(0)
    expected = AxionRotaryEmbedding(config)(torch.empty(0), positions)
    for angles_TP, expected_11TP in zip(rotary_angles(config), expected, strict=True):
        assert angles_TP.dtype == np.float32 and angles_TP.flags.c_contiguous
        torch.testing.assert_close(torch.from_numpy(angles_TP), expected_11TP[0, 0], rtol=0, atol=4e-7)


@each_shape
def test_a_stored_model_has_the_weights_of_the_model(shape, make_model, tmp_path):
    model = make_model(**(SHAPES | FAMILY_SHAPES)[shape])
    predicts = model.config.num_nextn_predict_layers > 0
    if predicts:
        model.attach_mtp()
    model.save_pretrained(tmp_path)
    stored = open_stored(tmp_path, predicts)
    assert stored is not None and stored.predicts == predicts
    (ours, our_layer), (theirs, their_layer) = named_weights(stored), named_weights(model)
    assert our_layer == their_layer
    assert ours.keys() == {name for name in theirs if "rotary_emb" not in name}
    assert all(np.array_equal(weight, theirs[name]) for name, weight in ours.items())


def test_a_stored_model_has_the_logits_of_the_model():
    release = open_release(RELEASES / "axion1-v0.1")
    stored = open_stored(release.folder)
    assert stored is not None
    ids, logits = release.tokenizer("# Pergunta:\nQuanto é 5 + 3?").input_ids, []
    for model in (stored, release.model):
        decoder = NativeDecoder(model)
        decoder.read(ids)
        logits.append(decoder.logits())
    assert torch.equal(*logits)


def test_packed_weights_are_shared_by_decoders(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    stored = open_stored(tmp_path)
    assert isinstance(stored, StoredModel)
    assert NativeDecoder(stored)._packed is NativeDecoder(stored)._packed
    assert NativeDecoder(dataclasses.replace(stored))._packed is NativeDecoder(stored)._packed
