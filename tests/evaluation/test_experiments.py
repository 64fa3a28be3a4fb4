"""Experiments: what names them, that each is trained once, and how two recipes are compared."""

import json
from types import SimpleNamespace

import pytest
import yaml

from axion.errors import AxionError
from axion.evaluation import experiments
from axion.evaluation.experiments import (
    Difference,
    Experiment,
    Results,
    difference,
    local_copies,
    parse_tokens,
    run_missing,
)
from axion.recipe import load_recipe
from tests.training.conftest import TINY_RECIPE


@pytest.fixture
def tiny(tmp_path):
    """Makes experiments with a recipe that trains in a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY_RECIPE), encoding="utf-8")

    def make(*overrides: str, tokens: int = 1024, seed: int = 1) -> Experiment:
        return Experiment(str(path), overrides, tokens, seed)

    return make


def test_a_key_names_all_that_a_result_depends_on(tiny):
    different = [
        tiny(),
        tiny(seed=2),
        tiny(tokens=2048),
        tiny("training.weight_decay=0.1"),
        tiny("architecture.kv_lora_rank=16"),
        tiny("data.sources.arithmetic.count=601"),
        tiny("tokenizer.vocab_size=321"),
    ]
    assert len({each.key for each in different}) == len(different)
    same = [tiny(), tiny("title=Other"), tiny("training.keep_checkpoints=5"), tiny(tokens=1024 + 255)]
    assert len({each.key for each in same}) == 1
    assert tiny().base == tiny("training.weight_decay=0.1", seed=5).base != tiny().key


def test_a_known_copy_has_the_key_of_the_hubs_data(gsm8k):
    recipe = load_recipe("axion1-v0.1")
    places = local_copies(recipe, gsm8k.parent)
    assert len(places) == 1 and local_copies(recipe, None) == ()
    assert Experiment("axion1-v0.1", (), 4096, 1).key == Experiment("axion1-v0.1", (), 4096, 1, places).key
    with pytest.raises(AxionError, match=r"has no gsm8k/train\.jsonl"):
        local_copies(recipe, gsm8k)


def test_an_experiment_is_as_long_as_its_tokens(tiny):
    recipe = tiny("training.batch_size=2", tokens=1000, seed=9).recipe
    assert (recipe.training.max_steps, recipe.seed) == (7, 9)  # 2 windows of 64 tokens a step
    with pytest.raises(AxionError, match=r"255 tokens are less than one step of .*, which has 256"):
        _ = tiny(tokens=255).recipe


def test_finished_ones_are_not_repeated(tiny, tmp_path, monkeypatch):
    ran, said, results = [], [], Results(tmp_path / "results" / "file.json")

    def fake(experiment, folder, threads):
        ran.append(experiment)
        if experiment.seed == 3:
            raise AxionError("the loss became NaN")
        if experiment.seed == 4:
            raise KeyboardInterrupt
        (folder / experiment.key).mkdir(parents=True)
        return {"val_loss": float(experiment.seed)}

    monkeypatch.setattr(experiments, "_run", fake)
    folder, wanted = tmp_path / "runs", [tiny(seed=seed) for seed in (1, 2, 3)]
    failed = run_missing([*wanted, wanted[0]], results, folder, say=said.append)
    assert failed == {wanted[2]: "the loss became NaN"} and ran == wanted
    assert {key: run["val_loss"] for key, run in results.runs.items()} == {wanted[0].key: 1.0, wanted[1].key: 2.0}
    assert list(folder.iterdir()) == [] and "3 of 3" in said[2] and "the loss became NaN" in said[2]
    ran.clear()
    with pytest.raises(KeyboardInterrupt):
        run_missing([*wanted[:2], tiny(seed=4), tiny(seed=5)], results, folder)
    assert ran[0] == tiny(seed=4) and len(results.runs) >= 2


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (2, "  5%|█\rerror: the loss became NaN\n", "the loss became NaN"),
        (-9, "step 1\r 50%|\u2588".encode()[:-1], "the run ended with exit code -9, see {log}: 50%|\ufffd"),
        (1, "", "the run ended with exit code 1, see {log}: no output"),
    ],
)
def test_a_run_that_fails_says_why(tiny, tmp_path, monkeypatch, code, output, reason):
    def fails(command, stdout, **_):
        stdout.buffer.write(output if isinstance(output, bytes) else output.encode())
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(experiments.subprocess, "run", fails)
    experiment, folder = tiny(), tmp_path / "runs"
    failed = run_missing([experiment], Results(tmp_path / "results.json"), folder)
    assert failed == {experiment: reason.format(log=folder / f"{experiment.key}.log.txt")}


def test_a_broken_file_of_results_is_refused(tmp_path):
    file = tmp_path / "results.json"
    assert Results(file).runs == {}
    for text, reason in (("{", "cannot be read"), ("[]", 'has no "runs"'), ('{"runs": []}', 'has no "runs"')):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(AxionError, match=reason):
            _ = Results(file).runs


def test_tokens_are_written_with_k_and_m():
    assert [parse_tokens(text) for text in ("20M", "2.5M", "500k", " 4096")] == [20_000_000, 2_500_000, 500_000, 4096]
    for wrong in ("", "0", "20 million", "-5", "1e6", "M"):
        with pytest.raises(AxionError, match="is not a number of tokens; write it as 20M, 500k or 4096"):
            parse_tokens(wrong)


def test_differences_are_paired_by_seed():
    found = difference({1: 2.0, 2: 2.2, 3: 2.1, 4: 9.0}, {1: 2.1, 2: 2.31, 3: 2.19, 5: 9.0})
    assert found and found.values == pytest.approx((-0.1, -0.11, -0.09)) and found.mean == pytest.approx(-0.1)
    # standard deviation 0.01, three seeds, quantile 4.303
    assert found.interval == pytest.approx((-0.1 - 0.024844, -0.1 + 0.024844), abs=1e-6) and found.verdict == "lower"
    assert Difference((0.1, 0.11, 0.09)).verdict == "higher"
    assert Difference((0.1, -0.1)).verdict == "not clear" and Difference((0.1,)).verdict == "not clear"
    assert difference({1: 2.0}, {2: 2.0}) is None


@pytest.mark.slow
def test_an_experiment_is_trained_and_recorded(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results, said = Results(tmp_path / "results.json"), []
    wanted = [tiny(), tiny("training.learning_rate=1e-3", seed=2)]
    assert run_missing(wanted, results, tmp_path / "runs", jobs=2, say=said.append) == {}
    assert run_missing(wanted, results, tmp_path / "runs", say=said.append) == {} and len(said) == 2
    run = json.loads((tmp_path / "results.json").read_text())["runs"][wanted[1].key]
    assert (run["seed"], run["tokens"], run["steps"]) == (2, 1024, 4) and run["overrides"] == [*wanted[1].overrides]
    assert run["curve"][-1] == [1024, run["val_loss"]] and 0 < run["val_loss"] < 7
    failing = tiny("training.muon_learning_rate=1e30")
    (reason,) = run_missing([failing], results, tmp_path / "runs").values()
    assert "NaN or infinite" in reason
