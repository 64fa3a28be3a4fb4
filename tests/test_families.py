"""The registry of families: each entry is complete, and recipes and releases find theirs."""

import json
import shutil

import pytest

from axion.errors import AxionError
from axion.export import check_export
from axion.families import FAMILIES, component, families_of, family_of, get_family
from axion.model.configuration_axion import AxionConfig
from axion.recipe import known_versions, load_recipe
from axion.release import open_release
from axion.series import families
from publish.release.card import check_metadata
from publish.release.templates import TEMPLATES
from tests.conftest import TINY

AXION1 = FAMILIES["axion1"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_family_has_its_card_its_series_and_a_recipe(family):
    assert (TEMPLATES / family.card_template).is_file()
    assert family.name in families()
    recipes = [recipe for recipe in map(load_recipe, known_versions()) if recipe.family == family.name]
    for recipe in recipes:
        check_metadata(recipe)
        assert family.describes(recipe.build_config())
        for form in family.exports:
            check_export(recipe.build_config(), family, form)
    assert recipes


@pytest.mark.parametrize(
    ("weight", "expected"),
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
        ("model.layers.1.self_attn.q_proj.a.weight", "attention"),
        ("model.layers.1.mlp.gate_proj.b.weight", "dense feed-forward"),
        ("model.loop_gate", "loop gate"),
    ],
)
def test_a_weight_belongs_to_one_component(weight, expected):
    assert component(weight) == expected


GQA = {"attention": "gqa", "num_key_value_heads": 1, "first_k_dense_replace": 2}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, ["axion1"]),
        ({"first_k_dense_replace": 1}, ["nano-deepseek-v3", "axion1"]),
        (GQA, ["axiom-dense", "mini-axion1"]),
        (GQA | {"projection_rank": 4}, ["mini-axion1"]),
        (GQA | {"num_shared_layers": 1}, ["mini-axion1"]),
        (GQA | {"first_k_dense_replace": 0}, ["mini-axion1"]),
        ({"num_shared_layers": 1}, ["mini-axion1"]),
    ],
)
def test_a_configuration_has_its_families(change, names):
    config = AxionConfig(**TINY | change)
    assert [family.name for family in families_of(config)] == names
    assert family_of(config).name == names[0]


def test_a_recipe_of_another_family_is_refused():
    with pytest.raises(
        AxionError, match="family is 'axion1'; a model of this architecture is of axiom-dense or mini-axion1"
    ):
        load_recipe("axiom-dense-debug", ["family=axion1"])


def test_only_families_with_a_counterpart_are_exported():
    assert {name: [*family.exports.values()] for name, family in FAMILIES.items()} == {
        "nano-deepseek-v3": ["deepseek_v3", "deepseek2"],
        "axion1": ["deepseek_v3", "deepseek2"],
        "axiom-dense": ["llama", "llama"],
        "mini-axion1": [],
    }
    with pytest.raises(AxionError, match="models of the family mini-axion1 have no gguf export; their formats: none"):
        FAMILIES["mini-axion1"].architecture("gguf")


def test_a_weight_without_a_component_is_an_error():
    with pytest.raises(ValueError, match=r"model\.loop_weight belongs to no component"):
        component("model.loop_weight")


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(AxionError, match=r"family is 'axion9'; it must be one of: nano-deepseek-v3, axion1"):
        get_family("axion9")


def test_an_invalid_family_name_is_reported_in_one_line(tiny_release, tmp_path):
    folder = shutil.copytree(tiny_release, tmp_path / "release")
    (folder / "release.json").write_text('{"family": []}')
    with pytest.raises(AxionError, match=r"family is \[\]; it must be one of: nano-deepseek-v3, axion1"):
        open_release(folder).family  # noqa: B018
    with pytest.raises(AxionError, match=r"family is 'axion9'; it must be one of: nano-deepseek-v3, axion1"):
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
