"""Rules for the JSON files of a release."""

import json
import re

import pytest

from axion.pretrained_tokenizer import END_OF_TEXT, Encoding
from axion.tokenizer import save_tokenizer
from publish.check import config as rules
from publish.check.folder import Folder
from tests.publish.check.spoil import fields
from tests.support.foreign_tokenizers import like_gpt2

BROKEN = [
    (
        rules.encoding,
        fields("release.json", tokenizer={"kind": "tiktoken", "encoding": "gpt2"}),
        r"config\.json has the vocab_size \d+: gpt2 has 50257 entries",
        r"tokenizer\.json does not have the ids of gpt2: build the release again",
        *(rf"tokenizer_config\.json has the {token}_token .*: use <\|endoftext\|>" for token in rules.TOKENS),
    ),
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


@pytest.fixture
def of_gpt2(tmp_path, monkeypatch):
    """A folder whose tokenizer is a small gpt2, with one special token for everything."""
    tokenizer = like_gpt2()
    last = len(tokenizer) - 1
    small = Encoding("", "", "", {END_OF_TEXT: last}, len(tokenizer))
    monkeypatch.setattr(rules, "ENCODINGS", {"gpt2": small})
    save_tokenizer(tokenizer, tmp_path)
    ids = {"bos_token_id": last, "eos_token_id": last}
    for name, content in {
        "config.json": {"vocab_size": small.size, "pad_token_id": None, "max_position_embeddings": 128, **ids},
        "generation_config.json": {"pad_token_id": last, **ids},
        "release.json": {"tokenizer": {"kind": "tiktoken", "encoding": "gpt2"}},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    fields("tokenizer_config.json", model_max_length=128)(tmp_path)
    return tmp_path


def about_tokens(folder):
    checked = Folder(folder)
    return [str(found) for rule in (rules.special_tokens, rules.sizes, rules.encoding) for found in rule(checked)]


def test_gpt2s_one_special_token_begins_ends_and_pads_texts(of_gpt2):
    assert about_tokens(of_gpt2) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fields("config.json", vocab_size=1024), r"config\.json has the vocab_size 1024: gpt2 has \d+ entries"),
        (
            fields("config.json", pad_token_id=3),
            r"config\.json has the pad_token_id 3: the tokenizer's pad is '<\|endof",
        ),
        (fields("tokenizer_config.json", pad_token="!"), r"tokenizer_config\.json has the pad_token '!': use <\|endof"),
        (
            lambda folder: save_tokenizer(like_gpt2(special_tokens=(END_OF_TEXT, "<pad>")), folder),
            r"tokenizer\.json does not have the ids of gpt2: build the release again",
        ),
    ],
)
def test_other_tokens_than_gpt2s_are_reported(of_gpt2, change, message):
    change(of_gpt2)
    assert any(re.fullmatch(message + ".*", found) for found in about_tokens(of_gpt2)), about_tokens(of_gpt2)
