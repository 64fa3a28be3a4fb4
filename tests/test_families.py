"""The registry of families: each entry is complete, and recipes and releases find theirs."""

import json
import shutil

import pytest

from axion.errors import AxionError
from axion.export import check_export
from axion.families import FAMILIES, family_of, get_family
from axion.model.configuration_axion import AxionConfig
from axion.recipe import known_versions, load_recipe
from axion.release import open_release
from axion.series import families
from publish.release.card import TEMPLATES
from tests.conftest import TINY

AXION1 = FAMILIES["axion1"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_family_has_its_card_its_series_and_a_recipe(family):
    assert (TEMPLATES / family.card_template).is_file()
    assert family.name in families()
    recipes = [recipe for recipe in map(load_recipe, known_versions()) if recipe.family == family.name]
    for recipe in recipes:
        assert family.describes(recipe.build_config())
        for form in family.exports:
            check_export(recipe.build_config(), family, form)
    assert recipes


@pytest.mark.parametrize(
    ("weight", "component"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("lm_head.weight", "output head"),
        ("model.layers.0.post_attention_layernorm.weight", "norms"),
        ("model.layers.0.self_attn.kv_a_layernorm.weight", "norms"),
        ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "attention"),
        ("model.layers.0.mlp.gate_proj.weight", "dense feed-forward"),
        ("model.layers.1.mlp.gate.weight", "router"),
        ("model.layers.1.mlp.shared_experts.gate_proj.weight", "shared experts"),
        ("model.layers.1.mlp.experts.gate_up_proj", "routed experts"),
    ],
)
def test_a_weight_belongs_to_one_component(weight, component):
    assert AXION1.component(weight) == component


def test_a_weight_without_a_component_is_an_error():
    with pytest.raises(ValueError, match=r"model\.loop_weight belongs to no component of the family axion1"):
        AXION1.component("model.loop_weight")


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(AxionError, match=r"family is 'axion9'; it must be one of: axion1"):
        get_family("axion9")


def test_an_invalid_family_name_is_reported_in_one_line(tiny_release, tmp_path):
    folder = shutil.copytree(tiny_release, tmp_path / "release")
    (folder / "release.json").write_text('{"family": []}')
    with pytest.raises(AxionError, match=r"family is \[\]; it must be one of: axion1"):
        open_release(folder).family  # noqa: B018
    with pytest.raises(AxionError, match=r"family is 'axion9'; it must be one of: axion1"):
        load_recipe("axion1-v0.1", ["family=axion9"])


def test_an_export_that_a_family_lacks_is_refused():
    with pytest.raises(AxionError, match="axion1 have no onnx export; their formats: native, gguf"):
        check_export(AxionConfig(**TINY), AXION1, "onnx")


def test_a_release_knows_its_family(tiny_release, tmp_path):
    folder = shutil.copytree(tiny_release, tmp_path / "run" / "final")
    recipe = folder.parent / "recipe.yaml"
    recipe.write_text("family: of something else")  # ignored: there is no run.json next to it
    assert open_release(folder).family is family_of(open_release(folder).config) is AXION1
    (folder.parent / "run.json").write_text("{}")
    for name, file in (
        ("a", recipe),
        ("b", folder / "recipe.yaml"),
        ("c", folder / "release.json"),
    ):
        file.write_text(json.dumps({"family": name}))  # JSON is also YAML
        with pytest.raises(AxionError, match=f"family is '{name}'"):
            open_release(folder).family  # noqa: B018 (reading it raises)
