"""Recipes: the bundled one, overrides, and one line for every mistake."""

import os

import pytest

from axion.architecture import used_fields
from axion.errors import AxionError
from axion.recipe import CONFIGS, build_recipe, known_versions, load_recipe


@pytest.mark.parametrize("path", sorted((CONFIGS / "drafts").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_draft_trains_the_same_model_on_other_data(path):
    draft, recipe = load_recipe(path), load_recipe(path.stem)
    assert draft.data.teaches_thinking and draft.data != recipe.data
    same = ("name", "family", "version", "repo_name", "architecture", "tokenizer")
    assert all(getattr(draft, name) == getattr(recipe, name) for name in same)


def test_the_bundled_recipe_matches_the_design():
    recipe = load_recipe("axion1-v0.1")
    assert "axion1-v0.1" in known_versions()
    config = recipe.build_config()
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (1024, 64, 4)
    assert recipe.data.kinds == ["gsm8k", "arithmetic", "word_problems"]


def test_every_known_version_has_a_recipe_of_that_name():
    assert [load_recipe(name).name for name in known_versions()] == known_versions()


def test_overrides_are_yaml_and_change_nothing_else():
    overrides = ["training.epochs=2", "data.seed=7", "architecture.q_lora_rank=null"]
    recipe = load_recipe("axion1-v0.1", overrides)
    assert recipe.training.epochs == 2
    assert recipe.data.seed == 7
    assert recipe.build_config().q_lora_rank is None
    # YAML parses a number without a dot, like 1e-6, as a string
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
        ("architecture.rope_parameters={rope_type: yarn, factor: big}", r"rope_parameters\.factor is 'big'; .*number"),
        ("architecture.rope_parameters={rope_type: yarn, factor: 0}", r"architecture\.rope_parameters\.factor is 0"),
        ("architecture.rope_parameters={rope_type: yarn}", r"rope_parameters\.factor is missing"),
        ("architecture.rope_parameters={rope_type: yarn, factor: 2, beta_fast: 0}", r"parameters\.beta_fast is 0"),
        ("architecture.rope_parameters={rope_type: yarn, factor: 2, beta_slow: 40}", r"beta_fast must be greater"),
        (
            "architecture.rope_parameters={rope_type: yarn, factor: 2, beta: 1}",
            r"rope_parameters\.beta is unknown; did",
        ),
        ("architecture.rope_parameters={rope_type: linear, factor: 2.0}", r"rope_parameters\.rope_type is 'linear'"),
        ("architecture.rope_parameters={factor: 2.0}", r"rope_parameters\.factor needs rope_type \"yarn\""),
        ("architecture.rope_parameters={rope_theta: .inf}", r"rope_parameters\.rope_theta is inf; .*finite"),
        ("architecture.rms_norm_eps=.nan", r"architecture\.rms_norm_eps is nan; input should be a finite number"),
        ("architecture.initializer_range=-1", r"architecture\.initializer_range is -1; it must be between"),
        ("architecture.attention_dropout=2", r"architecture\.attention_dropout is 2; input should be less than 1"),
        ("architecture.dropout=1", r"architecture\.dropout is 1; input should be less than 1"),
        ("architecture.dropout=-0.1", r"architecture\.dropout is -0\.1; input should be greater than or equal to 0"),
        ("architecture.attention=mha", r"architecture\.attention is 'mha'; input should be 'mla' or 'gqa'"),
        ("architecture.head_dim=16", r"architecture\.head_dim is 16; only attention .gqa. has it, so leave it out"),
        ("architecture.num_key_value_heads=2", r"num_key_value_heads is 2; it must be num_attention_heads \(4\)"),
        ("architecture.projection_rank=8", r"architecture\.projection_rank is 8; it needs attention .gqa."),
        ("architecture.projection_rank=0", r"architecture\.projection_rank is 0; it must be an integer of at least 1"),
        ("architecture.num_loops=2", r"architecture\.num_loops is 2; it must be 1 without num_shared_layers"),
        ("architecture.num_loops=1.5", r"architecture\.num_loops is 1\.5; input should be a valid integer"),
        (
            "architecture.num_shared_layers=5",
            r"num_shared_layers is 5; it must be between 0 and num_hidden_layers \(4\)",
        ),
        ("architecture.num_shared_layers=2", r"family is 'axion1'; a model of this architecture is of mini-axion1"),
        ("architecture.num_nextn_predict_layers=2", r"num_nextn_predict_layers is 2; it must be 0, or 1 in a model"),
        ("architecture.hidden_size=4294967296", r"architecture\.hidden_size is 4294967296; it must be between"),
        ("architecture.pad_token_id=5000", r"architecture\.pad_token_id is 5000; it must be 0, the tokenizer's <pad>"),
        ("architecture.eos_token_id=[2]", r"architecture\.eos_token_id is \[2\]; it must be 2, the tokenizer's <eos>"),
        ("seed=4294967296", r"seed is 4294967296; input should be less than 4294967296"),
        ("data.seed=-1", r"data\.seed is -1"),
        (f"seed={'9' * 5000}", r"--set seed=9{75}: the value is not valid YAML: .*digits"),
        (f"seed={'9' * 4000}", "seed is an integer of more than 80 digits"),
        (f"title=[{'1, ' * 999}1]", r"title is \[1, .{70,78}; input should be a valid string"),
        ("training={epochs: 1, epochs: 2}", "the value is not valid YAML: the key 'epochs' is given twice"),
        ("training.window=1", r"training\.window is 1; input should be greater than or equal to 2"),
        ("training.weight_decay=.inf", r"training\.weight_decay is inf; input should be a finite number"),
        ("training.adam_betas=[0.9, .nan]", r"training\.adam_betas\.1 is nan"),
        ("data.files=[]", r"data\.sources\.0\.files is \[\]; list should have at least 1 item"),
        ("data.files=[a.jsonl, b.jsonl, ./a.jsonl]", r"\./a\.jsonl is listed twice"),
        ("data.files=''", r"data\.sources\.0\.files\.0 is ''"),
        ("architecture.hidden_act=foo", r'architecture\.hidden_act is .foo.; it must be "silu"'),
        ("training.epochs=-1", r"training\.epochs is -1; input should be greater than or equal to 1"),
        ("training.window=1024", r"training\.window is 1024; it must be at most .*max_position_embeddings \(512\)"),
        ("training.short_window=100", r"training\.short_window is 100; it must divide training\.window \(512\)"),
        ("training.optimizer=sgd", r"training\.optimizer is 'sgd'; input should be 'muon', 'adamw' or 'adamw8bit'"),
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kv_lora_rank=8", r"architecture\.kv_lora_rank is 8; only attention .mla. has it, so leave it out"),
        ("q_lora_rank=8", r"architecture\.q_lora_rank is 8; only attention .mla. has it"),
        ("v_head_dim=16", r"architecture\.v_head_dim is 16; only attention .mla. has it"),
        ("n_routed_experts=4", r"architecture\.n_routed_experts is 4; no layer has experts .*, so leave it out"),
        ("moe_intermediate_size=64", r"architecture\.moe_intermediate_size is 64; no layer has experts"),
        ("norm_topk_prob=false", r"architecture\.norm_topk_prob is False; no layer has experts"),
        ("num_key_value_heads=3", r"num_key_value_heads is 3; it must divide num_attention_heads \(4\)"),
        ("head_dim=7", r"architecture\.head_dim is 7; it must be even"),
        ("rope_interleave=true", r"architecture\.rope_interleave is True; it must be false with attention .gqa."),
        ("num_nextn_predict_layers=1", r"num_nextn_predict_layers is 1; it must be 0, or 1 in a model whose last"),
    ],
)
def test_fields_that_a_dense_model_does_not_read_are_refused(override, message):
    with pytest.raises(AxionError, match=message) as caught:
        load_recipe("axiom-dense-debug", [f"architecture.{override}"])
    assert "\n" not in str(caught.value)


def test_experts_cannot_be_spread_where_there_are_none():
    options = ["training.distributed.ep_size=2", "training.distributed.fsdp_size=2"]
    with pytest.raises(AxionError, match=r"ep_size is 2; the model has no experts, so it must be 1"):
        load_recipe("axiom-dense-debug", options)


@pytest.mark.parametrize("name", ["axion1-v0.2", "mini-axion1-0.9m", "nano-deepseek-v3", "axiom-dense-380m"])
def test_the_fields_that_a_model_reads_make_the_same_model(name):
    recipe = load_recipe(name)
    config = recipe.build_config()
    content = recipe.model_dump() | {"architecture": used_fields(config)}
    assert build_recipe(content, [], name).build_config().to_dict() == config.to_dict()


def test_files_that_are_not_recipes(tmp_path):
    with pytest.raises(AxionError, match=r"no recipe named 'axion9'; known: .*axion1-v0\.1"):
        load_recipe("axion9")
    with pytest.raises(AxionError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    path = tmp_path / "bad.yaml"
    for content, message in (
        ("a: [", "not valid YAML"),
        ("just text", "is not a recipe"),
        ("name: x", "missing"),
        ("name: x\nname: y", "not valid YAML: the key 'name' is given twice"),
        ("a: &a [*a]", "not valid YAML: a value contains itself"),
        ("[" * 1200, "not valid YAML: it is nested too deeply"),
        ("\xff", "not valid YAML: .*utf-8"),
    ):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(AxionError, match=message):
            load_recipe(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(AxionError, match=r"cannot read the recipe .*bad\.yaml: is not a regular file"):
        load_recipe(path)
