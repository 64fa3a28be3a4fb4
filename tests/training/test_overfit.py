"""`axion overfit`: every family learns one sample and a small batch by heart, and a model that cannot is found out."""

import json
from pathlib import Path

import matplotlib.image
import pytest

from axion.cli import app
from axion.cli import run as run_command
from axion.errors import AxionError
from axion.files import read_json
from axion.training import overfit as ladder
from axion.training.overfit import overfit

DEBUG_RECIPES = [
    "axion1-debug",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("mini-axion1-debug", "nano-deepseek-v3-debug", "axiom-dense-debug")
    ),
]


@pytest.mark.parametrize("name", DEBUG_RECIPES)
def test_every_family_learns_by_heart(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AXION_KERNELS_FLAGS", "-O1")  # compiled in half the time
    out = tmp_path / "result"
    assert run_command(app, ["overfit", name, "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["reached"] and [stage["windows"] for stage in printed["stages"]] == [1, 4]
    recorded = json.loads((out / "overfit.json").read_text())
    assert recorded["name"] == name and recorded["stages"] == printed["stages"]
    for stage in printed["stages"]:
        assert stage["losses"][0] > 5 and stage["losses"][-1] < 0.05 and len(stage["losses"]) == stage["steps"] + 1
        assert matplotlib.image.imread(out / stage["picture"]).std() > 0.05  # not a blank page


@pytest.mark.slow
def test_multi_token_prediction_and_everything_that_hinders_it(tiny, tmp_path):
    hindering = ("architecture.dropout=0.3", "training.label_smoothing=0.3", "training.weight_decay=0.5")
    predicting = ("architecture.num_nextn_predict_layers=1", "architecture.initializer_range=0.02")
    stages = overfit(tiny(*hindering, *predicting), tmp_path / "result", progress=False)
    assert all(stage.reached for stage in stages)


def test_a_model_that_does_not_learn_is_found_out(folder, tmp_path, capsys):
    command = ["overfit", str(folder / "tiny.yaml"), "--out", str(tmp_path / "result"), "--steps", "3"]
    assert run_command(app, command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.endswith("s; 0.05 was not reached") for line in lines)
    assert not json.loads((tmp_path / "result" / "overfit.json").read_text())["reached"]
    assert run_command(app, [*command, "--set", "training.learning_rate=1e30"]) == 2
    assert "one sample: the loss became NaN or infinite at step" in capsys.readouterr().err
    assert not json.loads((tmp_path / "result" / "overfit.json").read_text())["reached"]  # the earlier result stays


def test_only_the_beginning_of_the_data_is_encoded(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ladder, "TOKENS", 2000)
    recipe = ladder._without_regularisation(tiny("tokenizer.vocab_size=300"))
    ids_BS, _ = ladder._windows(recipe, 4, progress=False)
    (folder,) = Path("data").glob("tiny-overfit-*")
    assert ids_BS.shape == (4, 64) and 2000 <= read_json(folder / "data.json")["train"]["tokens"] < 2100


def test_bad_input_is_refused_in_one_line(tiny, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AxionError, match="file"):
        overfit(tiny(), tmp_path / "file", progress=False)
    with pytest.raises(AxionError, match=r"the data fills \d+ windows of 64 tokens, and 10000 are needed; give more"):
        ladder._windows(tiny(), 10_000, progress=False)
