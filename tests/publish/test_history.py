"""The checkpoints of a run as branches of its release's repository."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from axion.errors import AxionError
from axion.recipe import LoraRecipe, StartRecipe
from axion.training.metrics import read_metrics
from publish import pipeline
from publish.hub.delivery import PushOptions
from publish.hub.verify import verify_published
from publish.release import history
from publish.steps import Steps
from tests.publish.publications import DRY, REPO_ID, WHOLE, run_steps

BRANCHES = ["step10-tokens0M", "step20-tokens0M"]


@pytest.fixture
def kept(here):
    """The run, of 30 steps, keeps three checkpoints, the last of them its result."""
    run = here / "runs" / "axion-tiny"
    for step in (10, 20, 30):
        shutil.copytree(run / "final", run / f"checkpoint-{step}")
        weights = load_file(run / "final" / "model.safetensors")
        weights["model.norm.weight"] *= step / 30
        save_file(weights, run / f"checkpoint-{step}" / "model.safetensors", {"format": "pt"})
        (run / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"not for the Hub")
    return run


def test_checkpoints_become_branches_that_load(kept, request_for, the_hub, tmp_path):
    request = request_for(dry_run=False, history=True)
    said = run_steps(request)
    assert list(said) == [*WHOLE[:-1], "history", "announce"]
    refs = the_hub.snapshot()["repos"][f"models/{REPO_ID}"]["refs"]
    assert [name.removeprefix("refs/heads/") for name in refs if "step" in name] == BRANCHES
    for branch, step in zip(BRANCHES, (10, 20), strict=True):
        assert not {"training.png", "trace.json", "optimizer.pt"} & refs[f"refs/heads/{branch}"]["tree"].keys()
        model = AutoModelForCausalLM.from_pretrained(REPO_ID, revision=branch, trust_remote_code=True)
        expected = load_file(kept / f"checkpoint-{step}" / "model.safetensors")
        assert torch.equal(model.model.norm.weight, expected["model.norm.weight"])
        folder = HfApi().snapshot_download(REPO_ID, revision=branch, cache_dir=tmp_path / "cache")
        metrics = read_metrics(Path(folder) / "metrics.csv")
        assert metrics["step"][-1] == step

    verify_published(f"{REPO_ID}@{BRANCHES[0]}", Steps([].append))
    snapshot = the_hub.snapshot()
    again = run_steps(request)
    assert "skipped: 2 checkpoints, step10-tokens0M to step20-tokens0M, on the Hub already" in again["history"]
    assert the_hub.snapshot() == snapshot


def test_a_dry_run_builds_and_checks_them(kept, request_for):
    said = run_steps(request_for(history=True))
    assert list(said) == [*DRY[:-1], "history", "push"]
    assert "2 checkpoints, " in said["history"] and "no problems" in said["history"]


def test_the_card_says_what_the_checkpoint_is(kept, built_release, tmp_path):
    first, second = history.kept_checkpoints(kept)
    folders = [history.build_checkpoint(each, kept, built_release, tmp_path / "history") for each in (first, second)]
    cards = [(folder / "README.md").read_text() for folder in folders]
    assert "# Axion tiny after step 10\n" in cards[0] and "after 10 of 30 training steps" in cards[0]
    assert "Its loss" not in cards[0]  # it was first evaluated after step 20
    assert "Its loss on held-out documents was 4.400 nats per token, 2.700 bits per byte." in cards[1]
    assert '"someone/Axion-tiny", "step20-tokens0M"' in cards[1]
    info = json.loads((folders[1] / "release.json").read_text())
    assert (info["form"], info["tag"], info["release"], info["step"]) == ("checkpoint", BRANCHES[1], "v0.1", 20)
    assert (first.tokens, replace(first, step=100, tokens=1_400_000).branch) == (10240, "step100-tokens1M")
    repeated = history.build_checkpoint(second, kept, built_release, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in repeated.iterdir()} == {
        path.name: path.read_bytes() for path in folders[1].iterdir()
    }


def test_what_has_no_history_is_refused(here, request_for, monkeypatch):
    with pytest.raises(AxionError, match="keeps no checkpoint from before its last step; train with --set training"):
        run_steps(request_for(history=True))
    with pytest.raises(AxionError, match="omit --branch and --pr, or --history"):
        run_steps(request_for(history=True, push=PushOptions(branch="trial")))
    shutil.rmtree(here / "runs")
    with pytest.raises(AxionError, match="name the run with --from RUN"):
        run_steps(request_for(history=True))
    load = pipeline.load_recipe
    adapted = {"lora": LoraRecipe(), "start": StartRecipe(name="base", sha256="0" * 64)}
    monkeypatch.setattr(pipeline, "load_recipe", lambda *arguments: load(*arguments).model_copy(update=adapted))
    with pytest.raises(AxionError, match="hold its adapters alone: omit --history"):
        run_steps(request_for(history=True))


def test_a_run_that_starts_for_it_keeps_every_checkpoint(here, request_for, monkeypatch):
    shutil.rmtree(here / "runs")
    trained = []

    def train(recipe, **_):
        trained.append(recipe.training)
        raise AxionError("enough")

    monkeypatch.setattr(pipeline, "train", train)
    for wanted in (False, True):
        with pytest.raises(AxionError, match="enough"):
            run_steps(request_for(history=wanted, skip_train=False))
    assert [each.keep_checkpoints for each in trained] == [2, 21]
