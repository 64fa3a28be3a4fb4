"""Recipes for small data, and the whole corpus of the real recipe, made once a session."""

from pathlib import Path

import pytest

from axion.data.prepare import Prepared, prepare
from axion.recipe import Recipe, load_recipe


@pytest.fixture
def small_recipe():
    """A function: the v0.1 recipe with little synthetic data and no Hub, changed by further overrides."""

    def make(*overrides: str) -> Recipe:
        small = ("data.hub_id=null", "data.arithmetic=600", "data.word_problems=60", "tokenizer.vocab_size=400")
        return load_recipe("axion1-v0.1", [*small, *overrides])

    return make


@pytest.fixture(scope="session")
def real_corpus(gsm8k: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, Prepared]:
    """The recipe of v0.1 on the real GSM8K: (recipe, folder, what was prepared)."""
    recipe = load_recipe("axion1-v0.1", [f"data.files={gsm8k / 'train.jsonl'}"])
    folder = tmp_path_factory.mktemp("data")
    return recipe, folder, prepare(recipe, folder, progress=False)
