"""A finished run goes on for more epochs, and run.json and recipe.yaml say so."""

import json
import logging
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.recipe import load_recipe
from axion.training.metrics import read_metrics
from axion.training.optim import build_schedule
from axion.training.run import train

SHORT = (
    *("training.max_steps=null", "training.epochs=1", "training.batch_size=16", "training.warmup_steps=2"),
    *("training.short_window=32", "training.short_share=0.5"),
)


@pytest.fixture(scope="module")
def warnings():
    """What transformers logs in the tests below."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    (logger := logging.getLogger("transformers")).addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def longer(tiny, folder, tmp_path_factory, warnings):
    """A run of one epoch that went on for a second: its folder, and the number of steps of the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = train(tiny(*SHORT), tmp_path_factory.mktemp("runs") / "longer", backend="torch")
        first = json.loads((run / "run.json").read_text())["steps"]
        train(tiny(*SHORT, "training.epochs=2"), run, resume=True)
        return run, first


def test_a_finished_run_goes_on_for_more_epochs(longer, tiny):
    run, first = longer
    info, recipe = json.loads((run / "run.json").read_text()), load_recipe(run / "recipe.yaml")
    assert info["finished"] and first < info["steps"] <= 2 * first + 1
    assert (recipe.training.epochs, recipe.training.restarts) == (2, [first])
    assert [before["steps"] for before in info["before"]] == [first] and info["before"][0]["date"]
    metrics = read_metrics(run / "metrics.csv")
    assert metrics["step"].tolist() == list(range(1, info["steps"] + 1))
    rates = metrics["lr"]
    assert rates[first - 1] == rates[-1] == 0 < rates[first] < rates[first + 1] == rates.max()
    before = (run / "final" / "model.safetensors").read_bytes()
    train(tiny(*SHORT, "training.epochs=2"), run, resume=True)  # finished already
    assert (run / "final" / "model.safetensors").read_bytes() == before


def test_checkpoints_at_other_steps_are_no_warning(longer, warnings):
    run, first = longer
    steps = {json.loads(file.read_text())["save_steps"] for file in run.glob("checkpoint-*/trainer_state.json")}
    assert max(first // 20, 1) not in steps and not any("trainer_state.json" in message for message in warnings)


def test_it_ends_where_one_run_of_its_recipe_would(longer, tiny, tmp_path):
    run, first = longer
    overrides = ("training.epochs=2", f"training.restarts=[{first}]")
    once = train(tiny(*SHORT, *overrides), tmp_path / "once", backend="torch")
    ours, theirs = (load_file(each / "final" / "model.safetensors") for each in (run, once))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epochs=1"], r"another recipe; resume with the same training\.epochs"),
        (
            ["training.epochs=3", "training.batch_size=2"],
            r"resume with the same training\.batch_size, training\.epochs",
        ),
    ],
)
def test_it_goes_on_with_the_same_recipe_alone(longer, tiny, overrides, message):
    with pytest.raises(AxionError, match=message):
        train(tiny(*SHORT, *overrides), longer[0], resume=True)


def test_it_goes_on_from_its_last_step_alone(longer, tiny, tmp_path):
    run = shutil.copytree(longer[0], tmp_path / "run")
    steps = json.loads((run / "run.json").read_text())["steps"]
    shutil.rmtree(run / f"checkpoint-{steps}")
    with pytest.raises(AxionError, match=f"lacks the checkpoint of its last step, {steps}, from which more epochs"):
        train(tiny(*SHORT, "training.epochs=3"), run, resume=True)
    assert (run / "final" / "model.safetensors").is_file()


def test_a_schedule_starts_again_at_steps_of_the_run(tiny, folder, tmp_path, monkeypatch):
    with pytest.raises(AxionError, match=r"training\.restarts is \[9, 6\]; each step must be greater than the one"):
        tiny("training.restarts=[9, 6]")
    monkeypatch.chdir(folder)
    with pytest.raises(AxionError, match=r"training\.restarts names step 9000, but the run has \d+ steps"):
        train(tiny(*SHORT, "training.restarts=[9000]"), tmp_path / "run", backend="torch")
    assert not (tmp_path / "run").exists()


def test_each_part_has_a_schedule_of_its_own(tiny):
    import torch

    def rates(steps, *overrides):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = build_schedule(optimizer, tiny("training.warmup_steps=2", *overrides).training, steps)
        return [schedule.lr_lambdas[0](step) for step in range(steps)]

    assert rates(18, "training.restarts=[6, 11]") == rates(6) + rates(5) + rates(7)
