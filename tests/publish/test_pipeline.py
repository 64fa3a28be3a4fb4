"""The steps in their order, what each skips, and how the command line tells mistakes. No network, no training."""

import json
import shutil

import pytest

from axion import evaluation
from axion.cli import run
from axion.errors import AxionError
from axion.recipe import load_recipe
from axion.training.run import Interrupted
from publish import hub, measure, pipeline
from publish.cli import app
from publish.manifest import sha256
from publish.pipeline import Order, publish

REPO_ID = "someone/Axion-tiny"
SYNTHETIC = ("data.hub_id=null", "data.arithmetic=300", "data.word_problems=0")
"""Data that is made in a second, without a network."""


@pytest.fixture
def here(tmp_path, monkeypatch, finished_run, recipe_file):
    """A working directory with a finished run of synthetic data, and no release yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "RELEASES", tmp_path / "releases")
    monkeypatch.setattr(evaluation, "ARITHMETIC_PROMPTS", 3)
    monkeypatch.setattr(pipeline, "verify_release", lambda folder: f"verified {folder.name}")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "get_token", lambda: None)
    folder = shutil.copytree(finished_run, tmp_path / "runs" / "axion-tiny")
    content = json.loads((folder / "run.json").read_text())
    content["recipe"] = load_recipe(recipe_file, SYNTHETIC).to_yaml()
    (folder / "run.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def order(recipe_file):
    def make(**changes) -> Order:
        wanted = {"dry_run": True, "skip_train": True, "overrides": SYNTHETIC, **changes}
        return Order(str(recipe_file), wanted.pop("repo_id", REPO_ID), **wanted)

    return make


@pytest.fixture
def pushed(monkeypatch):
    """A Hub that takes everything and remembers it."""
    seen = []

    def push(folder, files, repo_id, message, private):
        seen.append((json.loads((folder / "release.json").read_text())["repo_id"], sorted(files), repo_id, private))
        return "1" * 40

    monkeypatch.setattr(hub, "get_token", lambda: "a token")
    monkeypatch.setattr(hub, "push", push)
    monkeypatch.setattr(hub, "tag", lambda repo_id, name, commit: seen.append((repo_id, name, commit)) or True)
    return seen


def steps(order: Order) -> dict[str, str]:
    lines = []
    publish(order, lines.append)
    return {line.split()[0]: line for line in lines}


def contents(folder) -> dict:
    return {path.name: (sha256(path), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_dry_run_measures_builds_and_verifies_and_ends_before_the_push(here, order, monkeypatch):
    monkeypatch.setattr(hub, "push", None)  # calling it would fail
    said = steps(order())
    assert list(said) == ["preflight", "train", "evaluate", "build", "verify", "push"]
    assert "newest finished run is runs/axion-tiny" in said["train"]
    assert "2 tasks, not measured: gsm8k_validation, gsm8k_test" in said["evaluate"]
    assert "releases/axion-tiny, 17 files" in said["build"] and said["build"].endswith(" s)")
    assert "verified axion-tiny" in said["verify"] and "a dry run ends here" in said["push"]
    info = json.loads((here / "releases/axion-tiny/release.json").read_text())
    assert info["results"]["arithmetic"]["scores"][0]["total"] == 3
    assert info["results"]["gsm8k_test"]["skipped"].startswith("the recipe names no real data")
    trace = json.loads((here / "releases/axion-tiny/trace.json").read_text())
    assert {entry["expert"] for entry in trace["favourites"]} == {1, 2, 3, 4}


def test_unchanged_inputs_touch_nothing(here, order):
    steps(order())
    before = contents(here / "releases/axion-tiny")
    assert "up to date" in steps(order())["build"]
    assert contents(here / "releases/axion-tiny") == before


def test_a_dry_run_never_replaces_a_release(here, order):
    steps(order())
    before = contents(here / "releases/axion-tiny")
    with (here / "runs/axion-tiny/metrics.csv").open("a") as log:
        log.write("40,2.0,40960,40,1024,0.01,3.9,3.5,2.1,0.1\n")
    said = steps(order())
    assert "runs/axion-tiny/release, 17 files" in said["build"]
    assert contents(here / "releases/axion-tiny") == before
    assert (here / "runs/axion-tiny/release/README.md").is_file()


def test_figures_are_measured_once(here, order, recipe_file, measured, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *a, **k: calls.append(a) or measured["results"])
    said = [measure.measure(here / "runs/axion-tiny", load_recipe(recipe_file, SYNTHETIC), [].append) for _ in "12"]
    assert len(calls) == 1 and said[0] == said[1]
    release, data = calls[0]
    assert release.name == "axion-tiny" and data.hub_id is None
    config = here / "runs/axion-tiny/final/model.safetensors"
    weights = bytearray(config.read_bytes())
    weights[-5] ^= 1
    config.write_bytes(weights)
    measure.measure(here / "runs/axion-tiny", load_recipe(recipe_file, SYNTHETIC), [].append)
    assert len(calls) == 2


def test_the_data_is_split_as_the_run_split_it(here, recipe_file, measured, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *a, **k: calls.append(a) or measured["results"])
    monkeypatch.setattr(evaluation, "load_documents", lambda release, data: {})
    other = load_recipe(recipe_file, ["data.val_fraction=0.4", "data.files=local.jsonl"])
    measure.measure(here / "runs/axion-tiny", other, [].append)
    assert calls[0][1].val_fraction == load_recipe(recipe_file).data.val_fraction
    assert calls[0][1].files == ["local.jsonl"]


def test_without_a_run_the_release_is_taken_as_it_stands(here, order, release, pushed):
    shutil.rmtree(here / "runs")
    shutil.copytree(release, here / "releases/axion-tiny")
    before = contents(here / "releases/axion-tiny")
    said = steps(order(dry_run=False, private=True))
    assert "no finished run here" in said["train"]
    assert "complete as it stands" in said["evaluate"] and "complete as it stands" in said["build"]
    assert pushed[0][0] == pushed[0][2] == REPO_ID and pushed[0][3] is True
    assert len(pushed[0][1]) == 17 and pushed[1] == (REPO_ID, "v0.1", "1" * 40)
    assert "someone/Axion-tiny at 11111111" in said["push"] and said["tag"].split()[1] == "v0.1"
    assert contents(here / "releases/axion-tiny") == before


def test_the_card_names_the_repository_that_it_is_pushed_to(here, order, release, pushed):
    shutil.rmtree(here / "runs")
    shutil.copytree(release, here / "releases/axion-tiny")
    before = contents(here / "releases/axion-tiny")
    steps(order(dry_run=False, repo_id="another/Name"))
    assert pushed[0][0] == pushed[0][2] == "another/Name"
    assert contents(here / "releases/axion-tiny") == before


def test_nothing_is_pushed_that_was_not_verified(here, order, release, pushed, monkeypatch):
    def refuse(folder):
        raise AxionError("it does not load")

    monkeypatch.setattr(pipeline, "verify_release", refuse)
    with pytest.raises(AxionError, match="it does not load"):
        steps(order(dry_run=False))
    assert pushed == []


def test_skip_train_with_nothing_to_take(here, order):
    shutil.rmtree(here / "runs")
    with pytest.raises(AxionError, match="leave it out to train"):
        steps(order())


def test_training_starts_goes_on_or_is_done(here, order, monkeypatch):
    calls = []

    def train(recipe, resume):
        calls.append(resume)
        folder = here / "runs/axion-tiny"
        content = json.loads((finished / "run.json").read_text())
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        (folder / "run.json").write_text(json.dumps(content | {"finished": True}))

    monkeypatch.setattr(pipeline, "train", train)
    assert "has finished this recipe" in steps(order(skip_train=False))["train"] and calls == []
    with pytest.raises(AxionError, match="another recipe or data"):
        steps(order(skip_train=False, overrides=(*SYNTHETIC, "training.epochs=3")))
    finished = shutil.move(here / "runs/axion-tiny", here / "kept")
    steps(order(skip_train=False))
    assert calls == [False]
    run_file = here / "runs/axion-tiny/run.json"
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"finished": False}))
    assert "resumed" in steps(order(skip_train=False))["train"] and calls == [False, True]

    def stop(recipe, resume):
        raise Interrupted("stopped at step 3; go on with --resume")

    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"finished": False}))
    monkeypatch.setattr(pipeline, "train", stop)
    with pytest.raises(AxionError, match="the same command goes on with it"):
        steps(order(skip_train=False))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["{recipe}"], "--repo-id"),
        (["{recipe}", "--repo-id", "no name"], "not a valid name"),
        (["{recipe}", "--repo-id", "name"], "names no owner; write USER/name"),
        (["nosuch", "--repo-id", REPO_ID, "--dry-run"], "no recipe named 'nosuch'"),
        (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--set", "nokey=1"], "nokey"),
        (["{recipe}", "--repo-id", REPO_ID, "--token", "secret"], "--token"),
        (["{recipe}", "--repo-id", REPO_ID, "--skip-train"], "no Hugging Face token"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(here, recipe_file, capsys, arguments, line):
    code = run(app, [argument.format(recipe=recipe_file) for argument in arguments])
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "" and "secret" not in printed.err
    assert line in printed.err and len(printed.err.strip().splitlines()) == 1


def test_the_command_prints_one_line_per_step(here, recipe_file, capsys):
    overrides = [part for override in SYNTHETIC for part in ("--set", override)]
    assert run(app, [str(recipe_file), "--repo-id", REPO_ID, "--skip-train", "--dry-run", *overrides]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["preflight", "train", "evaluate", "build", "verify", "push"]
