"""Rules for the JSON files of a release."""

import pytest

from publish.check import config as rules
from tests.publish.check.spoil import fields

BROKEN = [
    (rules.config_fields, fields("config.json", transformers_version=None), "config.json has no transformers_version"),
    (rules.config_fields, fields("config.json", architectures=["Axiom"]), r"has the architectures \['Axiom'\]"),
    (rules.config_fields, fields("config.json", _name_or_path="runs/a"), "config.json has _name_or_path 'runs/a'"),
    (
        rules.outdated_fields,
        fields("config.json", torch_dtype="float32"),
        "has torch_dtype: transformers 5 calls it dtype",
    ),
    (
        rules.outdated_fields,
        fields("config.json", rope_scaling={}),
        "has rope_scaling: transformers 5 calls it rope_pa",
    ),
    (
        rules.generation_parameters,
        fields("config.json", top_k=5),
        "config.json has the generation parameter top_k: move",
    ),
    (
        rules.generation_valid,
        fields("generation_config.json", do_sample=False, temperature=0.7),
        r"generation_config\.json is not valid \(.*temperature.* is only used in .*: correct or remove",
    ),
    (rules.generation_valid, fields("generation_config.json", max_new_tokens=-1), "`max_new_tokens` must be greater"),
    (
        rules.special_tokens,
        fields("generation_config.json", eos_token_id=7),
        "generation_config.json has the eos_token_id 7",
    ),
    (rules.special_tokens, fields("config.json", bos_token_id=[1, 7]), r"config\.json has the bos_token_id \[1, 7\]"),
    (
        rules.special_tokens,
        fields("tokenizer_config.json", pad_token="<none>"),
        "has the pad_token '<none>', which is not in token",
    ),
    (
        rules.special_tokens,
        lambda folder: [
            fields("tokenizer_config.json", pad_token="<eos>")(folder),
            fields("config.json", pad_token_id=2)(folder),
            fields("generation_config.json", pad_token_id=2)(folder),
        ],
        "config.json has 2 as both pad_token_id and eos_token_id: output would be endless",
    ),
    (
        rules.tokenizer_class,
        fields("tokenizer_config.json", tokenizer_class="TokenizersBackend"),
        "'TokenizersBackend'",
    ),
    (rules.sizes, fields("config.json", vocab_size=260), r"has the vocab_size 260: tokenizer\.json needs \d+"),
    (
        rules.sizes,
        fields("tokenizer_config.json", model_max_length=9),
        "has the model_max_length 9: .*embeddings is 128",
    ),
]


@pytest.mark.parametrize(("rule", "change", "messages"), [(rule, change, words) for rule, change, *words in BROKEN])
def test_each_rule_alone_reports_its_problem(check_rule, rule, change, messages):
    check_rule(rule, change, messages)
