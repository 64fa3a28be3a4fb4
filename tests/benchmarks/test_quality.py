"""The ablations: their variations, how they are compared, and docs/quality.md. Nothing is trained."""

import json
import re

import pytest

from axion.params import count_parameters
from axion.recipe import load_recipe
from benchmarks import quality
from benchmarks.quality import BASE, HALF, NAMES, VARIATIONS, block, chosen, comparable, compare, main
from benchmarks.report import DOCS
from benchmarks.sizes import BUNDLED
from benchmarks.steps import speed_of_run


@pytest.fixture(scope="module")
def recipes():
    return {name: load_recipe(BUNDLED, variation.overrides) for name, variation in VARIATIONS.items()}


@pytest.fixture(scope="module")
def counts(recipes):
    return {name: count_parameters(recipe.build_config()) for name, recipe in recipes.items()}


def test_every_variation_is_another_recipe(recipes):
    contents = [recipe.model_dump_json() for name, recipe in recipes.items() if name != HALF.name]
    assert len(set(contents)) == len(contents) == len(NAMES) == len(VARIATIONS) - 1


def test_dense_twins_have_the_sizes_of_the_mixture_without_its_router(counts):
    router = counts["v0.1"].components["router"]
    assert counts["dense-active"].total == counts["dense-active"].active == counts["v0.1"].active - router
    assert counts["dense-total"].total == counts["v0.1"].total - router


@pytest.mark.parametrize("name", ["no-shared", "experts-8", "experts-16"])
def test_other_mixtures_have_the_same_sizes_besides_the_router(counts, name):
    routers = [counts[each].components["router"] for each in (name, "v0.1")]
    assert counts[name].total - routers[0] == counts["v0.1"].total - routers[1]
    assert counts[name].active - routers[0] == counts["v0.1"].active - routers[1]


def test_plain_attention_differs_in_the_attention_alone(recipes):
    ours, plain = (recipes[name].build_config().to_dict() for name in ("v0.1", "multi-head"))
    different = {name for name in ours.keys() | plain.keys() if ours.get(name) != plain.get(name)}
    latent = {"q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}
    assert different - latent == {"attention", "head_dim", "rope_interleave"}
    assert ours["qk_head_dim"] == plain["qk_head_dim"] and plain["num_key_value_heads"] == 4


def result(*overrides: str, loss: float, seed: int, steps: int = 100) -> dict:
    return {
        **{"version": BUNDLED, "base": "b", "overrides": list(overrides), "seed": seed, "val_loss": loss},
        **{"steps": steps, "tokens": steps * 4096, "parameters": {"total": 2_000, "active": 1_000}},
        **{"date": "2026-01-01", "torch": "2", "git_commit": None},
        "machine": {"processor": "Chip(R)", "cores": 2},
    }


@pytest.fixture
def content():
    runs = [result(loss=loss, seed=seed) for seed, loss in ((1, 3.0), (2, 3.1), (3, 3.2))]
    runs += [result(loss=run["val_loss"] + 0.4, seed=run["seed"], steps=50) for run in runs]
    runs += [result(*VARIATIONS["mtp"].overrides, loss=3.1 + 0.1 * seed, seed=seed) for seed in (1, 2, 3)]
    runs += [result(*VARIATIONS["adamw"].overrides, loss=3.5, seed=1), result("seed=3", loss=9.0, seed=1)]
    speeds = {"mtp": {"ratios": [0.5, 0.7, 0.4]}, "v0.1": {"ratios": [1.0, 1.0, 1.0]}}
    where = {"base": "b", "date": "2026-01-02", "threads": 2, "variations": speeds}
    return {"runs": {str(number): run for number, run in enumerate(runs)}, "speeds": {"Chip, 2 cores": where}}


def test_runs_of_one_length_are_compared_and_half_of_it_is_found(content):
    groups = comparable(content["runs"])
    assert list(groups) == [("b", 100 * 4096)]
    runs = groups["b", 100 * 4096]
    assert runs.keys() == {BASE.name, HALF.name, "mtp", "adamw"} and runs[HALF.name][2]["steps"] == 50


def test_by_the_clock_a_slower_recipe_reads_fewer_tokens(content):
    (runs,) = comparable(content["runs"]).values()
    compared = compare(runs, content["speeds"]["Chip, 2 cores"]["variations"])
    mtp = compared["mtp"]
    assert mtp.by_tokens and mtp.by_tokens.values == pytest.approx((0.2, 0.2, 0.2))
    # half the speed is half the tokens, which costs v0.1 0.4 nats
    assert mtp.speed == 0.5 and mtp.by_clock and mtp.by_clock.values == pytest.approx((0.6, 0.6, 0.6))
    assert compared[BASE.name].by_tokens is None and compared["adamw"].by_clock is None
    assert compared[BASE.name].spread == "3.1000 ± 0.1000"


def test_the_block_shows_what_is_clear(content):
    text = block(content)
    assert "| `mtp`: multi-token prediction as well | 2,000, 1,000 | 3 | 3.3000 ± 0.1000 | **+0.2000 (" in text
    assert "- After the same time, the loss is clearly higher: `mtp`." in text
    assert "- After the same tokens, the difference is not clear: `adamw`." in text
    assert "0.50 ×" in text and "Chip, 2 cores, 2 threads, 2026-01-02" in text
    assert block({"runs": {}}) == "Nothing has been measured yet.\n"


def test_the_page_shows_what_was_measured():
    page = (DOCS / "quality.md").read_text(encoding="utf-8")
    content = json.loads((DOCS / "quality.json").read_text(encoding="utf-8"))
    shown = re.search(r"<!-- quality:start -->\n(.*?)<!-- quality:end -->", page, re.DOTALL)
    assert shown and shown[1] == block(content), "run python -m benchmarks.quality --docs"


def test_a_choice_of_variations_has_v0_1_with_all_tokens_and_with_half():
    assert [each.name for each in chosen("mtp, top-1")] == [BASE.name, HALF.name, "top-1", "mtp"]
    assert len(chosen(None)) == len(VARIATIONS)


def test_bad_options_are_refused_in_one_line(tmp_path, capsys):
    assert main(["--only", "mpt", "--results", str(tmp_path / "r.json")]) == 2
    assert "there is no variation 'mpt'; known: v0.1, " in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--results", str(tmp_path / "r.json")]) == 2
    assert "has no gsm8k/train.jsonl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--seeds", "0"])


def test_the_speed_of_a_run_has_both_kinds_of_windows():
    training = load_recipe(BUNDLED).training
    assert speed_of_run(training, 100.0, 50.0) == pytest.approx(1 / (0.75 / 100 + 0.25 / 50))
    assert speed_of_run(training.model_copy(update={"short_window": None}), 100.0, 50.0) == 50.0


@pytest.mark.slow
def test_speed_is_measured_beside_v0_1(gsm8k, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quality, "ROUNDS", 1)
    monkeypatch.setattr(quality, "SECONDS", 0.05)
    results = tmp_path / "results.json"
    data = ["--data", str(gsm8k.parent), "--results", str(results)]
    assert main(["--speed", "--only", "mtp", *data]) == 0
    (speeds,) = json.loads(results.read_text())["speeds"].values()
    assert speeds["variations"].keys() == {"v0.1", "mtp"} and speeds["variations"]["v0.1"]["ratios"] == [1]
