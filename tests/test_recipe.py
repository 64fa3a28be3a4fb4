"""Recipes: the bundled one, overrides, and one line for every mistake."""

import pytest

from axion.errors import AxionError
from axion.recipe import known_versions, load_recipe


def test_the_bundled_recipe_matches_the_design():
    recipe = load_recipe("axion1-v0.1")
    assert "axion1-v0.1" in known_versions()
    config = recipe.build_config()
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (1024, 64, 4)
    assert recipe.data.kinds == ["gsm8k", "arithmetic", "word_problems"]


def test_every_known_version_is_a_recipe_of_that_name():
    assert [load_recipe(name).name for name in known_versions()] == known_versions()


def test_overrides_are_yaml_and_change_nothing_else():
    overrides = ["training.epochs=2", "data.seed=7", "architecture.q_lora_rank=null"]
    recipe = load_recipe("axion1-v0.1", overrides)
    assert recipe.training.epochs == 2
    assert recipe.data.seed == 7
    assert recipe.build_config().q_lora_rank is None
    # YAML reads a number like 1e-6, without a dot, as a string
    assert load_recipe("axion1-v0.1", ["architecture.rms_norm_eps=1e-5"]).build_config().rms_norm_eps == 1e-5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epohcs=3", r"training\.epohcs is unknown; did you mean training\.epochs\?"),
        ("architecture.hidden_sise=3", r"architecture\.hidden_sise is unknown; did you mean hidden_size\?"),
        ("architecture.hidden_size=abc", r"architecture\.hidden_size is 'abc'; input should be a valid integer"),
        ("architecture.hidden_size=64.5", r"architecture\.hidden_size is 64\.5"),
        ("architecture.qk_rope_head_dim=3", r"architecture\.qk_rope_head_dim is 3; it must be even"),
        ("architecture.n_group=3", r"architecture\.n_group is 3; it must divide n_routed_experts \(4\)"),
        ("architecture.vocab_size=5", r"architecture\.vocab_size is unknown"),
        ("architecture.rope_parameters={rope_type: yarn, factor: big}", r"architecture\.rope_parameters is .*needs"),
        ("architecture.rope_parameters={rope_type: linear, factor: 2.0}", r"architecture\.rope_parameters is .*needs"),
        ("architecture.hidden_act=foo", r'architecture\.hidden_act is .foo.; it must be "silu"'),
        ("training.epochs=-1", r"training\.epochs is -1; input should be greater than or equal to 1"),
        ("training.window=1024", r"training\.window is 1024; it must be at most .*max_position_embeddings \(512\)"),
        ("training.short_window=100", r"training\.short_window is 100; it must divide training\.window \(512\)"),
        ("training.optimizer=sgd", r"training\.optimizer is 'sgd'; input should be 'muon' or 'adamw'"),
        ("training.learning_rate=.nan", r"training\.learning_rate is nan"),
        ("data.val_fraction=0.9", r"data\.val_fraction is 0\.9; input should be less than 0\.5"),
        ("training.epochs", r"--set takes key\.path=value, for example training\.epochs=2; got 'training\.epochs'"),
        ("name.x=3", r"name holds no keys of its own"),
        ("data.files=[a", r"the value is not valid YAML"),
    ],
)
def test_mistakes_are_named_in_one_line(override, message):
    with pytest.raises(AxionError, match=message) as caught:
        load_recipe("axion1-v0.1", [override])
    assert "\n" not in str(caught.value)


def test_files_that_are_not_recipes(tmp_path):
    with pytest.raises(AxionError, match=r"no recipe named 'axion9'; known: .*axion1-v0\.1"):
        load_recipe("axion9")
    with pytest.raises(AxionError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    for content, message in (("a: [", "not valid YAML"), ("just text", "is not a recipe"), ("name: x", "missing")):
        path = tmp_path / "bad.yaml"
        path.write_text(content)
        with pytest.raises(AxionError, match=message):
            load_recipe(path)
