"""The whole corpus of v0.1, prepared from the real GSM8K."""

from pathlib import Path

import pytest

from axion.data.holdout import is_held_out
from axion.data.prepare import Prepared, prepare
from axion.data.sources import Arithmetic
from axion.recipe import Recipe, load_recipe
from tests.data.conftest import texts
from tests.data.test_holdout import ALL_PAIRS, asked, scan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real_corpus(gsm8k: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Prepared]:
    """The recipe of v0.1 on the real GSM8K, and what was prepared."""
    recipe = load_recipe("axion1-v0.1", [f"data.files={gsm8k / 'train.jsonl'}"])
    return recipe, prepare(recipe, tmp_path_factory.mktemp("data"), progress=False)


def test_its_documents_and_bytes(real_corpus):
    recipe, prepared = real_corpus
    summary = prepared.summary
    real = {split: summary[split]["by_source"]["gsm8k"]["documents"] for split in ("train", "validation")}
    # v0.1 had five more problems, whose held-out pair is written as a product without a sign
    assert (real, summary["dropped_for_held_out_pairs"]) == ({"train": 6863, "validation": 392}, 553)
    assert summary["validation"]["by_source"]["gsm8k"]["bytes"] == 204_708  # as in v0.1
    assert (summary["train"]["documents"], summary["train"]["bytes"]) == (42_674, 5_600_398)
    assert len(prepared.tokenizer) == recipe.tokenizer.vocab_size
    assert 2.3 < summary["bytes_per_token"]["gsm8k"] < 2.8


def test_no_training_document_shows_a_held_out_pair(real_corpus):
    recipe, prepared = real_corpus
    documents = texts(prepared.folder, "train.txt")
    assert len(documents) == len(prepared.train) > 0.9 * recipe.data.find(Arithmetic).count
    seen = set().union(*map(scan, documents), *map(asked, documents))
    fraction = recipe.data.holdout_fraction
    assert not [pair for pair in seen if is_held_out(*pair, fraction)]
    # The scan works: it finds nearly all of the other pairs.
    free = [pair for pair in ALL_PAIRS if not is_held_out(*pair, fraction)]
    assert sum(pair in seen or pair[::-1] in seen for pair in free) / len(free) > 0.99
    assert prepared.summary["dropped_for_held_out_pairs"] > 0
