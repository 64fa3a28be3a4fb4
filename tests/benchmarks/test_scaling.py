"""The estimates' arithmetic, and the blocks of docs/scaling.md against the figures they were made from."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from axion.params import count_parameters
from axion.recipe import Recipe
from axion.shipped import ROOT
from benchmarks.limits import training_operations
from benchmarks.report import DOCS
from benchmarks.scaling import Assumptions, estimate, estimates_block, main, measured_block
from benchmarks.sizes import SIZES, config_of, recipe_of


@pytest.mark.parametrize(("size", "nominal"), [("24M", 24e6), ("100M", 100e6), ("386M", 386e6)])
def test_sizes_are_what_they_are_called(size, nominal):
    assert count_parameters(config_of(size)).total == pytest.approx(nominal, rel=0.03)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_a_recipe_that_builds_it(size):
    config = Recipe.model_validate(recipe_of(size, steps=1, batch=1)).build_config()
    assert count_parameters(config) == count_parameters(config_of(size))


def test_an_estimate_is_work_over_speed():
    given = Assumptions(peak=100.0, share=0.5, efficiency=0.8, price=3.0, tokens_per_parameter=10.0)
    one, eight = (estimate("100M", gpus, given) for gpus in (1, 8))
    work = 10 * count_parameters(config_of("100M")).total * training_operations(config_of("100M"), 512)
    assert one["hours"] == pytest.approx(work / 50e12 / 3600)
    assert one["dollars"] == pytest.approx(3 * one["hours"])
    assert eight["hours"] == pytest.approx(one["hours"] / (8 * 0.8))
    assert eight["dollars"] == pytest.approx(one["dollars"] / 0.8)
    assert eight["state_bytes"] == pytest.approx(one["state_bytes"] / 8)
    assert estimate("100M", 1, replace(given, share=0.25))["hours"] == pytest.approx(2 * one["hours"])


def test_the_page_shows_what_the_script_made():
    page = (DOCS / "scaling.md").read_text(encoding="utf-8")
    report = json.loads((DOCS / "scaling.json").read_text(encoding="utf-8"))
    for name, expected in (("scaling", measured_block(report)), ("estimates", estimates_block(Assumptions()))):
        shown = re.search(rf"<!-- {name}:start -->\n(.*?)<!-- {name}:end -->", page, re.DOTALL)
        assert shown and shown[1] == expected, "run python -m benchmarks.scaling --estimates --docs"


def test_a_smoke_test_does_not_reach_the_docs(capsys):
    with pytest.raises(SystemExit):
        main(["--quick", "--docs"])
    assert "its figures are meaningless" in capsys.readouterr().err


@pytest.mark.slow
def test_the_gpu_script_runs_without_one(tmp_path):
    options = ["--size", "v0.1", "--minutes", "0.1", "--batch", "2", "--window", "64", "--documents", "1000"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"] >= 20 and 0 < report["share_of_peak"] < 1 and 0 < report["train_loss"] < 7
