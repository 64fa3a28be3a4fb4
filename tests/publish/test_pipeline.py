"""The order of steps, and what each one skips. Nothing is trained; the Hub is local."""

import json
import shutil

import pytest

from axion import series
from axion.errors import AxionError
from axion.evaluation import evaluate as evaluation
from axion.recipe import load_recipe
from axion.training.run import Interrupted
from publish import pipeline
from publish.hub.delivery import AlreadyReleased, PushOptions, ReleaseUpload
from publish.pipeline import publish_all
from publish.release import exports, measure
from publish.steps import Steps
from tests.publish.publications import DRY, FILES, REPO_ID, SYNTHETIC, WHOLE, contents, run_steps


def test_a_dry_run_measures_builds_and_verifies_but_does_not_push(unbuilt, request_for):
    said = run_steps(request_for())
    assert list(said) == DRY
    assert "newest finished run is runs/axion-tiny" in said["train"]
    assert "not measured: validation, gsm8k_test" in said["evaluate"]
    assert f"releases/axion-tiny, {FILES} files" in said["build"] and said["build"].endswith(" s)")
    assert "verified axion-tiny" in said["reload"] and "dry run" in said["push"]
    info = json.loads((unbuilt / "releases/axion-tiny/release.json").read_text())
    assert info["results"]["arithmetic"]["scores"][0]["total"] == 3
    assert info["results"]["gsm8k_test"]["skipped"].startswith("the recipe has no source of kind gsm8k")
    trace = json.loads((unbuilt / "releases/axion-tiny/trace.json").read_text())
    assert {entry["expert"] for entry in trace["favourites"]} == {1, 2, 3, 4}


def test_unchanged_inputs_change_nothing(here, request_for):
    before = contents(here / "releases/axion-tiny")
    assert "up to date" in run_steps(request_for())["build"]
    assert contents(here / "releases/axion-tiny") == before


def test_a_dry_run_never_replaces_a_release(here, request_for):
    before = contents(here / "releases/axion-tiny")
    with (here / "runs/axion-tiny/metrics.csv").open("a") as log:
        log.write("40,2.0,40960,40,1024,0.01,3.9,3.5,2.1,0.1\n")
    said = run_steps(request_for())
    assert f"runs/axion-tiny/release, {FILES} files" in said["build"]
    assert contents(here / "releases/axion-tiny") == before
    assert (here / "runs/axion-tiny/release/README.md").is_file()


def test_figures_are_measured_once(here, request_for, recipe_file, measured, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *a, **k: calls.append(a) or measured["results"])
    said = [measure.measure(here / "runs/axion-tiny", load_recipe(recipe_file, SYNTHETIC), [].append) for _ in "12"]
    assert len(calls) == 1 and said[0] == said[1]
    release, data = calls[0]
    assert release.name == "axion-tiny" and data.hub_source() is None
    config = here / "runs/axion-tiny/final/model.safetensors"
    weights = bytearray(config.read_bytes())
    weights[-5] ^= 1
    config.write_bytes(weights)
    measure.measure(here / "runs/axion-tiny", load_recipe(recipe_file, SYNTHETIC), [].append)
    assert len(calls) == 2


def test_the_data_is_split_as_the_run_split_it(here, recipe_file, measured, monkeypatch):
    calls = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *a, **k: calls.append(a) or measured["results"])
    monkeypatch.setattr(evaluation.Subject, "load_documents", lambda *_, **__: {})
    monkeypatch.setattr(evaluation.Subject, "validation", [])
    run_file = here / "runs/axion-tiny/run.json"
    trained = {"recipe": load_recipe(recipe_file).to_yaml()}  # with real data
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | trained))
    other = load_recipe(recipe_file, ["data.val_fraction=0.4", "data.files=local.jsonl"])
    measure.measure(here / "runs/axion-tiny", other, [].append)
    assert calls[0][1].val_fraction == load_recipe(recipe_file).data.val_fraction
    assert calls[0][1].local_paths() == ["local.jsonl"]


def test_without_a_run_the_existing_release_is_published(unbuilt, request_for, release, the_hub):
    shutil.rmtree(unbuilt / "runs")
    shutil.copytree(release, unbuilt / "releases/axion-tiny")
    before = contents(unbuilt / "releases/axion-tiny")
    said = run_steps(request_for(dry_run=False, push=PushOptions(private=True)))
    assert list(said) == WHOLE
    assert "no finished run" in said["train"]
    assert "already built" in said["evaluate"] and "already built" in said["build"]
    assert "in no collection, because axion-tiny is not a version of the series" in said["announce"]
    repo = the_hub.snapshot()["repos"][f"models/{REPO_ID}"]
    assert repo["private"] is True
    tagged = repo["refs"]["refs/tags/v0.1"]["tree"]
    assert {name: tagged[name] for name in before} == {name: digest for name, (digest, _) in before.items()}
    assert contents(unbuilt / "releases/axion-tiny") == before and the_hub.surprises == []


def test_the_card_names_the_repository_that_it_is_pushed_to(unbuilt, request_for, release, the_hub):
    shutil.rmtree(unbuilt / "runs")
    shutil.copytree(release, unbuilt / "releases/axion-tiny")
    before = contents(unbuilt / "releases/axion-tiny")
    run_steps(request_for(dry_run=False, repo_id="team/Name"))
    repo = the_hub.store.repos["models", "team/Name"]
    files = repo.commits[repo.refs["refs/tags/v0.1"]].tree
    assert json.loads(files["release.json"].data)["repo_id"] == "team/Name"
    assert '"team/Name"' in files["README.md"].data.decode()
    assert contents(unbuilt / "releases/axion-tiny") == before


def test_nothing_is_pushed_unless_the_checks_pass(here, request_for, release, the_hub, monkeypatch):
    def refuse(folder):
        raise AxionError("it does not load")

    monkeypatch.setattr(pipeline, "verify_release", refuse)
    with pytest.raises(AxionError, match="it does not load"):
        run_steps(request_for(dry_run=False))
    assert the_hub.snapshot()["repos"] == {}


def test_nothing_is_tagged_unless_it_was_verified(here, request_for, the_hub, monkeypatch):
    def refuse(download):
        raise AxionError("another model came back")

    monkeypatch.setattr(pipeline, "verify_download", refuse)
    with pytest.raises(AxionError, match="another model came back"):
        run_steps(request_for(dry_run=False))
    assert list(the_hub.snapshot()["repos"][f"models/{REPO_ID}"]["refs"]) == ["refs/heads/main"]


class Killed(BaseException):
    """Stands for a kill; no code may catch it."""


KILLS = [
    (pipeline, "preflight"),
    (pipeline, "_find_run"),
    (pipeline, "measure"),
    (pipeline, "build_release"),
    (pipeline.lint, "check_folder"),
    (pipeline, "verify_release"),
    (pipeline.hub, "push"),
    (pipeline, "verify_download"),
    (pipeline.hub, "tag"),
    (pipeline.announce, "add_to_collection"),
]
"""The functions of each step, in order."""


def test_a_publication_killed_in_every_step_ends_in_the_same_state(unbuilt, request_for, the_hub, monkeypatch):
    """Each start gets one function further and is killed there; `test_faults` kills processes at every request."""
    monkeypatch.setattr(series, "has_member", lambda family, name: True)
    request = request_for(dry_run=False)
    for place, name in KILLS:
        whole, reached = getattr(place, name), []

        def killed(*arguments, whole=whole, reached=reached, **options):
            reached.append(whole(*arguments, **options))
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, name, killed)
            with pytest.raises(Killed):
                run_steps(request)
        assert len(reached) == 1, name
    run_steps(request)
    end = the_hub.snapshot()
    refs = end["repos"][f"models/{REPO_ID}"]["refs"]
    assert refs["refs/heads/main"]["commits"] == 2 and refs["refs/tags/v0.1"] == refs["refs/heads/main"]
    assert [len(collection["items"]) for collection in end["collections"].values()] == [1]
    assert not list(unbuilt.glob("releases/.*")) and the_hub.surprises == []
    run_steps(request)
    assert the_hub.snapshot() == end


def test_skip_train_without_a_run_or_release(unbuilt, request_for):
    shutil.rmtree(unbuilt / "runs")
    with pytest.raises(AxionError, match="omit it to train"):
        run_steps(request_for())


def test_a_run_can_be_named(here, request_for):
    chosen = shutil.move(here / "runs", here / "elsewhere") / "axion-tiny"
    assert f"the run is {chosen.relative_to(here)}" in run_steps(request_for(skip_train=False, run=chosen))["train"]
    other = request_for(run=chosen, overrides=(*SYNTHETIC, "data.arithmetic=301", "training.epochs=3"))
    assert "whose recipe differed in data.sources.0.count, training.epochs" in run_steps(other)["train"]
    content = json.loads((chosen / "run.json").read_text())
    (chosen / "run.json").write_text(json.dumps(content | {"name": "another"}))
    with pytest.raises(AxionError, match="is a run of another, not of axion-tiny"):
        run_steps(request_for(run=chosen))


def test_a_released_version_is_not_trained_again(here, request_for, the_hub, monkeypatch):
    run_steps(request_for(dry_run=False))
    shutil.rmtree(here / "runs")
    monkeypatch.setattr(pipeline, "train", None)  # calling it would fail
    with pytest.raises(AxionError, match=r"has already released v0\.1, and training again would give another model"):
        run_steps(request_for(dry_run=False, skip_train=False))


def test_training_starts_resumes_or_is_finished(here, request_for, monkeypatch):
    calls = []

    def train(recipe, resume):
        calls.append(resume)
        folder = here / "runs/axion-tiny"
        content = json.loads((finished / "run.json").read_text())
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        (folder / "run.json").write_text(json.dumps(content | {"finished": True}))

    monkeypatch.setattr(pipeline, "train", train)
    assert "is finished" in run_steps(request_for(skip_train=False))["train"] and calls == []
    with pytest.raises(AxionError, match=r"another recipe \(training.epochs\)"):
        run_steps(request_for(skip_train=False, overrides=(*SYNTHETIC, "training.epochs=3")))
    finished = shutil.move(here / "runs/axion-tiny", here / "kept")
    run_steps(request_for(skip_train=False))
    assert calls == [False]
    run_file = here / "runs/axion-tiny/run.json"
    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"finished": False}))
    assert "resumed" in run_steps(request_for(skip_train=False))["train"] and calls == [False, True]

    def stop(recipe, resume):
        raise Interrupted("stopped at step 3; go on with --resume")

    run_file.write_text(json.dumps(json.loads(run_file.read_text()) | {"finished": False}))
    monkeypatch.setattr(pipeline, "train", stop)
    with pytest.raises(AxionError, match="what is done is kept: run the same command again"):
        run_steps(request_for(skip_train=False))


def test_a_failing_space_still_reports_the_published_release(here, request_for, the_hub, monkeypatch):
    def fail(request, steps):
        raise AxionError(f"{request.repo_id} ({request.sdk}) failed to build")

    monkeypatch.setattr(pipeline, "publish_space", fail)
    monkeypatch.setattr(pipeline, "deliver", lambda *arguments: "c" * 40)
    monkeypatch.setattr(pipeline.announce, "add_to_collection", lambda repo_id, title: "in a collection")
    line = f"{REPO_ID} is released as v0.1, but its Space is not: {REPO_ID}-playground .static. failed to build"
    with pytest.raises(AxionError, match=line):
        run_steps(request_for(dry_run=False, space=True, static=True))


def test_edits_are_discarded_only_in_the_named_repository(here, request_for, the_hub, monkeypatch):
    native, gguf, space = (f"{REPO_ID}{suffix}" for suffix in ("-native", "-GGUF", "-playground"))
    built = [exports.Export(here, native), exports.Export(here, gguf)]
    monkeypatch.setattr(exports, "build_exports", lambda *arguments: built)
    monkeypatch.setattr(pipeline.announce, "add_to_collection", lambda repo_id, title: "in a collection")
    seen = {}

    def deliver(upload, options, checks, steps):
        seen[upload.repo_id] = options.overwrite
        return "c" * 40

    monkeypatch.setattr(pipeline, "deliver", deliver)
    monkeypatch.setattr(pipeline, "publish_space", lambda it, steps: seen.update({it.repo_id: it.overwrite}))
    named = frozenset(["README.md", f"{gguf}:README.md", f"{gguf}:a:b", f"{space}:app.py", "someone/else:app.py"])
    run_steps(request_for(dry_run=False, exports=True, space=True, overwrite=named))
    assert seen == {REPO_ID: {"README.md"}, native: set(), gguf: {"README.md", "a:b"}, space: {"app.py"}}


def test_all_continues_after_a_version_whose_code_has_changed_since(here, the_hub, monkeypatch, request_for):
    """A released version keeps its tag and code; a retrained version with changed code is still an error."""
    made = pipeline.series.Member("axion-tiny", "0.1", "Axion tiny", "Axion-tiny", True, 1, 1)
    monkeypatch.setattr(pipeline.series, "walk", lambda: iter([made, made]))
    upload, lines = ReleaseUpload(here, REPO_ID, "v0.1", "Release"), []

    def publish_again(request, steps):
        raise AlreadyReleased(upload, "c" * 40, different)

    monkeypatch.setattr(pipeline, "publish", publish_again)
    different = {"modeling_axion.py", "config.json"}
    assert publish_all(lambda version, repo_id: request_for(dry_run=False), None, Steps(lines.append)) == []
    assert len(lines) == 2 and all("v0.1 was released with an earlier version of the code" in line for line in lines)
    different = {"modeling_axion.py", "model.safetensors"}
    with pytest.raises(AxionError, match=r"with other files \(model\.safetensors, modeling_axion\.py\)"):
        publish_all(lambda version, repo_id: request_for(dry_run=False), None, Steps(lines.append))
