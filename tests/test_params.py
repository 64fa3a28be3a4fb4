"""Parameter counts and cache sizes."""

from dataclasses import replace

import pytest
import torch
from transformers.cache_utils import DynamicCache

from axion.errors import AxionError
from axion.families import cache_values
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.params import count_parameters, report, table
from axion.recipe import known_versions, load_recipe
from tests.conftest import TINY


@pytest.fixture
def v01() -> AxionConfig:
    return load_recipe("axion1-v0.1").build_config()


SIZES = {
    "axion1-v0.1": (344_224, 245_920, 65_536, 0),
    "axion1-v0.2": (1_488_288, 898_464, 262_144, 0),
    "axion1-v0.3": (5_927_744, 3_568_448, 1_048_576, 0),
    "axion1-v0.4": (23_969_280, 11_582_976, 3_145_728, 0),
    "axion1-v0.5": (99_044_864, 49_499_648, 16_777_216, 0),
    "mini-axion1-0.9m": (902_401, 902_401, 524_288, 0),
    "nano-deepseek-v3": (17_551_328, 15_978_464, 6_432_896, 0),
    "axiom-dense-380m": (385_849_344, 385_849_344, 102_683_648, 0),
}
"""Recipe → parameters in total, active per token, in the embedding, and of multi-token prediction, which is apart."""

CACHES = {
    "axion1-v0.1": (4, 4, 12, 128),
    "mini-axion1-0.9m": (6, 10, 256, 512),
    "nano-deepseek-v3": (6, 6, 48, 384),
    "axiom-dense-380m": (24, 24, 1024, 2048),
}
"""Recipe → layers, layers that a token passes through, and values in a layer's cache per token: kept, and plain."""


@pytest.mark.parametrize("name", SIZES)
def test_every_recipe_has_its_exact_size(name):
    counts = count_parameters(load_recipe(name).build_config())
    assert (counts.total, counts.active, counts.embedding, counts.multi_token_prediction) == SIZES[name]
    assert counts.active_without_embedding == counts.active - counts.embedding


def test_every_recipe_of_a_series_has_its_size_above():
    assert sorted(SIZES) == [name for name in known_versions() if not name.endswith("-debug")]


@pytest.mark.parametrize(
    ("name", "nominal"),
    [
        ("axion1-v0.2", 1.5e6),
        ("axion1-v0.3", 6e6),
        ("axion1-v0.4", 24e6),
        ("axion1-v0.5", 1e8),
        ("mini-axion1-0.9m", 9e5),
    ],
)
def test_sizes_are_close_to_their_names(name, nominal):
    assert SIZES[name][0] == pytest.approx(nominal, rel=0.03)


@pytest.mark.parametrize("name", CACHES)
def test_the_cache_has_an_entry_for_each_pass_through_a_layer(name):
    counted = report(name, load_recipe(name).build_config())
    cache = counted["cache"]
    values = cache["values_per_token_and_layer"], cache["plain_values_per_token_and_layer"]
    assert (counted["layers"], counted["depth"], *values) == CACHES[name]
    assert cache["bytes_per_token"] == 4 * counted["depth"] * values[0]


def test_multi_token_prediction_is_counted_apart():
    """DeepSeek-V3's layer: a projection of two states, a layer with experts, and three more norms."""
    without, with_it = (
        count_parameters(
            load_recipe("nano-deepseek-v3", [f"architecture.num_nextn_predict_layers={count}"]).build_config()
        )
        for count in (0, 1)
    )
    assert with_it.multi_token_prediction == 1_076_368
    assert replace(with_it, multi_token_prediction=0) == without
    shown = table(
        report("nano", load_recipe("nano-deepseek-v3", ["architecture.num_nextn_predict_layers=1"]).build_config())
    )
    assert "counted apart: multi-token prediction with 1,076,368 parameters" in shown


def test_loops_are_shown():
    shown = table(report("mini", load_recipe("mini-axion1-0.9m").build_config()))
    assert "6 layers; with its loops, a token passes through 10" in shown and "loop gate" in shown


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tie_word_embeddings": False},
        {"first_k_dense_replace": 1},
        {"first_k_dense_replace": 2},
        {"first_k_dense_replace": 2, "num_hidden_layers": 5},
        {"num_nextn_predict_layers": 1},
        {"num_shared_layers": 2, "num_loops": 3, "num_hidden_layers": 4},
        {"attention": "gqa", "num_key_value_heads": 1, "first_k_dense_replace": 2},
        {"attention": "gqa", "projection_rank": 4, "first_k_dense_replace": 2, "num_shared_layers": 1, "num_loops": 2},
    ],
)
def test_components_add_up_to_the_built_model(change):
    config = AxionConfig(**TINY | change)
    counts = count_parameters(config)
    model = AxionForCausalLM(config)
    assert counts.total == sum(weight.numel() for weight in model.parameters())
    apart = sum(weight.numel() for weight in model.attach_mtp().parameters()) if config.num_nextn_predict_layers else 0
    assert counts.multi_token_prediction == apart
    assert sum(counts.components.values()) == counts.total
    assert sum(counts.active_components.values()) == counts.active
    assert ("output head" in counts.components) == ("tie_word_embeddings" in change)
    assert ("dense feed-forward" in counts.components) == ("first_k_dense_replace" in change)
    assert ("loop gate" in counts.components) == ("num_shared_layers" in change)


def test_active_excludes_the_experts_that_were_not_chosen():
    sparse, full = (count_parameters(AxionConfig(**TINY | {"num_experts_per_tok": k})) for k in (1, 4))
    assert full.active == full.total == sparse.total
    one_expert = 3 * TINY["hidden_size"] * TINY["moe_intermediate_size"]
    assert full.active - sparse.active == 3 * one_expert * TINY["num_hidden_layers"]


@pytest.mark.parametrize("name", ["axion1-v0.1", "mini-axion1-debug", "nano-deepseek-v3-debug", "axiom-dense-debug"])
def test_the_counted_cache_matches_the_models_cache(name):
    config = load_recipe(name).build_config()
    cache = DynamicCache(config=config)
    with torch.inference_mode():
        AxionForCausalLM(config).eval()(torch.tensor([[1, 2, 3]]), past_key_values=cache, use_cache=True)
    sizes = [layer.keys[0, :, 0].numel() + layer.values[0, :, 0].numel() for layer in cache.layers]
    assert sizes == [cache_values(config).kept] * config.depth()


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
