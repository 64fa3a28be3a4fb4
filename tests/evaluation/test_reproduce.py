"""A release made again: the same to the bit, or what differs."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file, save_file

from axion.cli import app, run
from axion.data.recipe import DataRecipe
from axion.data.sources import Gsm8k
from axion.evaluation.reproduce import compare_weights, differing, recipe_of, recorded_conditions
from axion.recipe import load_recipe
from axion.release import RELEASES, open_release
from axion.shipped import ROOT
from axion.training.run import train
from tests.training.conftest import TINY_RECIPE


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of a recipe that trains in a second."""
    folder = tmp_path_factory.mktemp("reproduced")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY_RECIPE))
    recipe = load_recipe(folder / "tiny.yaml", ["training.max_steps=6", "training.evaluations=1"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train(recipe, folder / "made")


@pytest.fixture(autouse=True)
def working_folder(made, monkeypatch):
    monkeypatch.chdir(made.parent)  # where the data is prepared already
    monkeypatch.setattr("axion.evaluation.reproduce.TASKS", ("validation",))


def test_the_same_weights_come_out(made, capsys):
    assert run(app, ["reproduce", "made/final"]) == 0
    out, err = capsys.readouterr()
    assert (
        out == f"the weights are the same to the bit: {len(load_file(made / 'final' / 'model.safetensors'))} tensors\n"
    )
    assert "differs:" not in err
    assert run(app, ["reproduce", "made/final"]) == 0  # the run is there already
    assert "runs/tiny-again is finished already" in capsys.readouterr().err


def test_other_weights_are_measured_and_what_differs_is_said_before(made, tmp_path, capsys):
    other = shutil.copytree(made, tmp_path / "other")
    weights = load_file(other / "final" / "model.safetensors")
    weights["model.norm.weight"][0] += 0.25
    save_file(weights, other / "final" / "model.safetensors", {"format": "pt"})
    content = json.loads((other / "run.json").read_text())
    content["libraries"]["numpy"] = content["environment"]["compiler"] = "0.1"
    (other / "run.json").write_text(json.dumps(content))

    arguments = ["reproduce", str(other / "final"), "--out", str(made)]
    assert run(app, [*arguments, "--json"]) == 1
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert not printed["same"] and printed["different"] == ["model.norm.weight"]
    assert printed["largest_difference"] == pytest.approx(0.25)
    assert "differs: numpy was 0.1, is " in err
    assert {"numpy"} <= printed["changed"].keys() <= {"numpy", "compiler"}  # PyTorch trains where there is no compiler
    losses = printed["figures"]["figures"][0]
    assert losses["task"] == "validation" and losses["cells"][1]["difference"]["value"] != 0

    assert run(app, arguments) == 1
    first, _, header, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("the weights differ: 1 of ") and first.endswith(
        "by 0.25 at most, such as model.norm.weight"
    )
    assert header.split() == ["items", "other", f"{made},", "difference"]


def test_weights_are_compared_by_their_bytes(made, tmp_path):
    (tmp_path / "one").mkdir()
    weights = load_file(made / "final" / "model.safetensors")
    name = next(iter(weights))
    save_file({f"{name}.new": weights.pop(name)} | weights, tmp_path / "one" / "model.safetensors")
    compared = compare_weights(made / "final", tmp_path / "one")
    assert (set(compared.different), compared.largest) == ({name, f"{name}.new"}, None)
    save_file({key: tensor.half() for key, tensor in load_file(made / "final" / "model.safetensors").items()},
              tmp_path / "one" / "model.safetensors")  # fmt: skip
    assert len(compare_weights(made / "final", tmp_path / "one").different) == compared.tensors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["made/final", "--out", "made"], "is the run that made made; give another folder with --out DIR"),
        (
            ["made/final", "--set", "training.epochs=3"],
            "training.epochs is not that of made; only the files of its data",
        ),
        (["made/final", "--from", "made/final"], "made was trained from scratch; leave out --from"),
        (["made/final", "--backend", "fast"], "backend must be auto, torch or native"),
        (["made"], "made is not a complete release (its folder final/ is one)"),
    ],
)
def test_what_is_refused(made, arguments, said, capsys):
    assert run(app, ["reproduce", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_the_bundled_release_records_its_conditions(tmp_path):
    """It is older than the records of compilers, and of the revisions of data."""
    release = open_release(RELEASES / "axion1-v0.1")
    before = recorded_conditions(release)
    assert (before["processor"], before["threads"], before["torch"]) == ("AMD EPYC", 2, "2.13.0+cpu")
    now = before | {"threads": 4, "compiler": "g++"}
    changed = differing(before, now, recipe_of(release).data)
    assert changed == {"threads": (2, 4), "revision of openai/gsm8k": ("not recorded", "the newest")}
    (tmp_path / "train.jsonl").write_text("{}")
    local = DataRecipe(sources=(Gsm8k(files=[str(tmp_path / "train.jsonl")]),))
    assert differing(before, before, local) == {}


@pytest.mark.slow
def test_two_fresh_clones_make_the_same_release(tmp_path):
    for name in ("first", "second"):
        subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / name], check=True)

    def axion(clone, *arguments):
        command = [sys.executable, "-m", "axion", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path / clone, capture_output=True, text=True)

    assert axion("first", "train", "axion1-debug").returncode == 0
    again = axion("second", "reproduce", tmp_path / "first" / "runs" / "axion1-debug" / "final", "--json")
    assert again.returncode == 0, again.stderr
    printed = json.loads(again.stdout)
    assert printed["same"] and printed["changed"] == {} and printed["run"] == "runs/axion1-debug-again"
