"""Parameter counts and cache sizes."""

import pytest
import torch
from transformers.cache_utils import DynamicCache

from axion.errors import AxionError
from axion.families import family_of
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.params import count_parameters, report, table
from axion.recipe import load_recipe
from tests.conftest import TINY


@pytest.fixture
def v01() -> AxionConfig:
    return load_recipe("axion1-v0.1").build_config()


def test_v01_has_the_published_counts(v01):
    counts = count_parameters(v01)
    assert (counts.total, counts.active, counts.embedding) == (344_224, 245_920, 65_536)
    assert counts.active_without_embedding == 180_384


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tie_word_embeddings": False},
        {"first_k_dense_replace": 1},
        {"first_k_dense_replace": 2},
        {"first_k_dense_replace": 2, "num_hidden_layers": 5},
    ],
)
def test_components_add_up_to_the_built_model(change):
    config = AxionConfig(**TINY | change)
    counts = count_parameters(config)
    assert counts.total == sum(weight.numel() for weight in AxionForCausalLM(config).parameters())
    assert sum(counts.components.values()) == counts.total
    assert sum(counts.active_components.values()) == counts.active
    assert ("output head" in counts.components) == ("tie_word_embeddings" in change)
    assert ("dense feed-forward" in counts.components) == ("first_k_dense_replace" in change)


def test_active_excludes_the_experts_that_were_not_chosen():
    sparse, full = (count_parameters(AxionConfig(**TINY | {"num_experts_per_tok": k})) for k in (1, 4))
    assert full.active == full.total == sparse.total
    one_expert = 3 * TINY["hidden_size"] * TINY["moe_intermediate_size"]
    assert full.active - sparse.active == 3 * one_expert * TINY["num_hidden_layers"]


def test_the_latent_cache_matches_the_models_cache(v01):
    assert family_of(v01).cache_values(v01) == (12, 128)
    cache = DynamicCache(config=v01)
    with torch.inference_mode():
        AxionForCausalLM(v01).eval()(torch.tensor([[1, 2, 3]]), past_key_values=cache, use_cache=True)
    assert cache.layers[0].keys[0, :, 0].numel() + cache.layers[0].values[0, :, 0].numel() == 12


def test_report_and_table_agree(v01):
    counted = report("axion1-v0.1", v01)
    assert counted["cache"]["bytes_per_token"] == 12 * 4 * 4
    text = table(counted)
    for size in (counted["total"], counted["active"], counted["embedding"], *counted["components"].values()):
        assert f"{size:,}" in text
    first_line = text.splitlines()[0]
    assert "344,224" in first_line and "245,920 active" in first_line and "65,536" in first_line


def test_sizes_too_large_to_build_are_counted_or_refused():
    deep = count_parameters(AxionConfig(**TINY | {"num_hidden_layers": 10**6, "first_k_dense_replace": 10}))
    assert 10**9 < deep.total < 10**11
    wide = count_parameters(AxionConfig(**TINY | {"hidden_size": 10**9}))
    assert wide.total > 10**10
    with pytest.raises(AxionError, match="too large to be built"):
        count_parameters(AxionConfig(**TINY | {"hidden_size": 2**31 - 1, "moe_intermediate_size": 2**31 - 1}))
