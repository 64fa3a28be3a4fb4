"""The data section of a recipe: its sources, the keys of earlier recipes, and what a release records."""

import hashlib
from pathlib import Path

import pytest
import yaml

from axion.data.recipe import DataRecipe
from axion.data.sources import Arithmetic, Gsm8k, Text, WordProblems
from axion.errors import AxionError
from axion.recipe import Recipe, load_recipe
from tests.conftest import ROOT

RELEASED = Path(__file__).with_name("recipe-v0.1.yaml")
"""The recipe.yaml of the first release, from before `sources`."""

EARLIER_KEYS = {
    "hub_id": "openai/gsm8k",
    "hub_config": "main",
    "question_field": "question",
    "answer_field": "answer",
    "direct_fraction": 0.05,
    "arithmetic": 36_000,
    "word_problems": 1_500,
    "seed": 1,
    "val_fraction": 0.05,
    "split_seed": 0,
    "holdout_fraction": 0.05,
}
"""The data section of configs/axion1-v0.1.yaml before `sources`."""


def load(*overrides: str) -> DataRecipe:
    return load_recipe("axion1-v0.1", overrides).data


def test_the_earlier_form_of_v01_is_the_same_recipe():
    assert DataRecipe.model_validate(EARLIER_KEYS) == load() == DataRecipe()
    assert load().kinds == ["gsm8k", "arithmetic", "word_problems"]


def test_released_recipes_still_load():
    (file,) = load_recipe(RELEASED).data.find(Gsm8k).local_files
    assert file.name == "train.jsonl" and file.sha256.startswith("17f347dc")
    assert load_recipe(ROOT / "releases" / "axion1-v0.1" / "recipe.yaml").data.kinds == load().kinds


def test_missing_keys_of_earlier_recipes_have_their_earlier_defaults():
    assert DataRecipe.model_validate({"arithmetic": 600, "word_problems": 0}).sources == (
        Gsm8k(),
        Arithmetic(count=600),
    )
    assert DataRecipe.model_validate({"hub_id": None}).sources == (Arithmetic(), WordProblems())


@pytest.mark.parametrize(
    ("overrides", "kind", "setting", "value"),
    [
        (["data.files=a.jsonl"], Gsm8k, "files", ["a.jsonl"]),
        (["data.files=[a.jsonl, b.jsonl]"], Gsm8k, "files", ["a.jsonl", "b.jsonl"]),
        (["data.hub_id=null", "data.files=a.jsonl"], Gsm8k, "hub_id", None),
        (["data.test_files=t.jsonl"], Gsm8k, "test_files", ["t.jsonl"]),
        (["data.question_field=q"], Gsm8k, "question_field", "q"),
        (["data.direct_fraction=0.5"], Gsm8k, "direct_fraction", 0.5),
        (["data.arithmetic=100"], Arithmetic, "count", 100),
        (["data.word_problems=7"], WordProblems, "count", 7),
        (["data.sources.0.files=a.jsonl"], Gsm8k, "files", ["a.jsonl"]),
        (["data.sources.gsm8k.files=a.jsonl"], Gsm8k, "files", ["a.jsonl"]),
        (["data.sources.arithmetic.count=5", "data.hub_id=null"], Arithmetic, "count", 5),
        (["data.sources=[{kind: text, files: a.txt}]"], Text, "files", ["a.txt"]),
    ],
)
def test_overrides(overrides, kind, setting, value):
    for recipe in ("axion1-v0.1", RELEASED):
        assert getattr(load_recipe(recipe, overrides).data.find(kind), setting) == value


def test_overrides_remove_and_add_sources():
    assert load("data.hub_id=null").kinds == load("data.hub_id=null", "data.files=null").kinds
    assert load("data.hub_id=null", "data.arithmetic=0").kinds == ["word_problems"]
    only_text = "data.sources=[{kind: text, files: a.txt}]"
    assert load(only_text, "data.arithmetic=9", "data.files=b.jsonl").kinds == ["gsm8k", "text", "arithmetic"]
    assert load(only_text, "data.hub_id=null").kinds == ["text"]
    for setting in ("test_files=t.jsonl", "question_field=q", "local_files=[{name: a, sha256: b}]"):
        with pytest.raises(AxionError, match=r"is a setting of a gsm8k source, and the recipe has none"):
            load(only_text, f"data.{setting}")
    assert load().generated().kinds == ["arithmetic", "word_problems"]
    with pytest.raises(AxionError, match="no generated data"):
        load(only_text).generated()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.fils=a", r"data\.fils is unknown"),
        ("data.sources.gsm8k.fils=a", r"data\.sources\.0\.fils is unknown; did you mean data\.sources\.\w+\.files\?"),
        ("data.sources.0.direct_fraction=2", r"data\.sources\.0\.direct_fraction is 2; input should be less"),
        ("data.sources.7.files=a", r"data\.sources\.7 holds no keys of its own"),
        ("data.sources.chat.files=a", r"data\.sources\.chat holds no keys of its own"),
        ("data.sources.0=a", r"data\.sources is a list"),
        ("data.sources=[{kind: poems}]", r"data\.sources\.0 is .*'poems'.*'gsm8k', 'arithmetic'"),
        ("data.sources=[]", r"data\.sources is empty"),
        ("data.sources=[{kind: text, files: a.txt, separator: ''}]", r"data\.sources\.0\.separator is ''"),
        ("data.sources=3", r"data\.sources is 3"),
        ("data.arithmetic=-1", r"data\.sources\.1\.count is -1"),
    ],
)
def test_mistakes_are_named_in_one_line(override, message):
    with pytest.raises(AxionError, match=message) as caught:
        load(override)
    assert "\n" not in str(caught.value)


def test_an_earlier_key_that_could_mean_two_sources_is_refused():
    with pytest.raises(AxionError, match=r"data\.files is ambiguous: there are 2 gsm8k sources"):
        load("data.sources=[{kind: gsm8k}, {kind: gsm8k}]", "data.files=a.jsonl")


def test_a_release_records_local_files_by_content_and_never_by_path(tmp_path):
    for name in ("train.jsonl", "test.jsonl", "story.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    recipe = load_recipe(
        "axion1-v0.1",
        [
            f"data.sources=[{{kind: gsm8k, hub_id: null}}, {{kind: text, files: {tmp_path}/story.txt}}]",
            f"data.files={tmp_path}/train.jsonl",
            f"data.test_files={tmp_path}/test.jsonl",
        ],
    )
    text = recipe.to_yaml()
    assert str(tmp_path) not in text and "test.jsonl" not in text
    again = Recipe.model_validate(yaml.safe_load(text))
    recorded = [source.local_files[0] for source in again.data.sources]
    assert [(file.name, file.sha256) for file in recorded] == [
        (name, hashlib.sha256(f"{name}\n".encode()).hexdigest()) for name in ("train.jsonl", "story.txt")
    ]
    # without the files, training must not silently continue with less data
    for source, name in zip(again.data.sources, ("train.jsonl", "story.txt"), strict=True):
        with pytest.raises(AxionError, match=rf"was read from {name}; give --set data\.sources\.{source.kind}\.files"):
            list(source.documents(again.data.split, 1))
    with_copies = again.data.with_local_copies(recipe.data)
    assert with_copies.local_paths() == recipe.data.local_paths() and with_copies.test_paths()


def test_the_headline_is_the_real_text():
    assert [source.kind for source in load().headline_sources] == ["gsm8k"]
    assert [source.kind for source in load("data.hub_id=null").headline_sources] == ["arithmetic", "word_problems"]
    assert load().hub_source().hub_id == "openai/gsm8k" and load("data.hub_id=null").hub_source() is None


def test_local_files_are_not_reported_as_the_data_set_on_the_hub(tmp_path):
    (tmp_path / "mine.jsonl").write_text("{}\n")
    mine = load(f"data.files={tmp_path}/mine.jsonl")
    assert mine.find(Gsm8k).hub_id == "openai/gsm8k" and mine.hub_source() is None
    assert DataRecipe.model_validate(mine.released()).hub_source() is None
    assert load_recipe(RELEASED).data.hub_source().data_name == "GSM8K"  # a known copy of GSM8K
