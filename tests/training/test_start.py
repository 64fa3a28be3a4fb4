"""`train --from`: a run starts from the weights and the tokenizer of a release, if the architecture is the same."""

import json
import shutil

import pytest
import torch

from axion.cli import app
from axion.cli import run as run_command
from axion.errors import AxionError
from axion.files import sha256
from axion.recipe import load_recipe
from axion.release import open_release
from axion.training.run import train
from axion.training.start import starting_from

SAME = ("architecture.initializer_range=0.02", "training.max_steps=2", "training.evaluations=1")


@pytest.fixture(scope="module")
def base(tiny_release):
    return open_release(tiny_release)


@pytest.fixture(scope="module")
def started(tiny, folder, base, tmp_path_factory):
    """A run of two steps at a rate of nearly 0."""
    slow = [f"training.{name}=1e-12" for name in ("learning_rate", "muon_learning_rate", "router_learning_rate")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recipe = starting_from(tiny(*SAME, *slow, "training.bias_update_speed=0"), base)
        return train(recipe, tmp_path_factory.mktemp("runs") / "started", start=base)


def test_a_run_starts_from_the_weights_and_the_tokenizer_of_a_release(started, base, tiny_release):
    model = open_release(started / "final").model
    for name, weight in base.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, atol=1e-6, rtol=0)
    ours, theirs = (json.loads((each / "tokenizer.json").read_text()) for each in (started / "final", tiny_release))
    assert ours == theirs
    recorded = load_recipe(started / "recipe.yaml")
    assert recorded.start is not None and recorded.start.sha256 == sha256(tiny_release / "model.safetensors")
    assert recorded.tokenizer.kind == "start"


def test_another_architecture_is_refused_in_one_line(folder, tmp_path, capsys, base):
    command = ["train", str(folder / "tiny.yaml"), "--from", str(base.folder), "--out", str(tmp_path / "run")]
    assert run_command(app, [*command, "--set", "architecture.moe_intermediate_size=32"]) == 2
    assert capsys.readouterr().err == (
        "error: architecture.moe_intermediate_size is 32 in the recipe and 16 in axion-tiny; "
        "--from needs the same architecture\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_of_others_is_what_the_release_says(tiny, tiny_release, tmp_path):
    other = shutil.copytree(tiny_release, tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    text = json.dumps(content).replace('"<STEP>"', '"<ANOTHER>"')
    (other / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(AxionError, match=r"other has no recipe\.yaml, which says whose tokenizer it has"):
        starting_from(tiny(*SAME), open_release(other))
    for broken in ("title: Other\n", "tokenizer:\n", "tokenizer: {kind: hub}\n"):
        (other / "recipe.yaml").write_text(broken)
        with pytest.raises(AxionError, match=r"recipe\.yaml does not say whose tokenizer other has"):
            starting_from(tiny(*SAME), open_release(other))
    (other / "recipe.yaml").write_text("tokenizer: {kind: hub, id: someone/model, revision: abc}\n")
    assert starting_from(tiny(*SAME), open_release(other)).tokenizer.id == "someone/model"
