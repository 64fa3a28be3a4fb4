"""The order of steps, what each one skips, and command-line errors. Nothing is trained; the Hub is local."""

import json
import shutil
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from axion.cli import run
from axion.errors import AxionError
from axion.evaluation import evaluate as evaluation
from axion.evaluation import speed
from axion.files import sha256
from axion.recipe import load_recipe
from axion.release import RELEASES
from axion.training.run import Interrupted
from publish import pipeline
from publish.cli import app
from publish.hub.delivery import AlreadyReleased, PushOptions, ReleaseUpload
from publish.manifest import REMOTE_CODE, REQUIRED_FILES, files_in
from publish.pipeline import PublishRequest, publish, publish_all
from publish.release import exports, measure
from publish.release.build import Ingredients, build_release
from publish.steps import Steps

REPO_ID = "someone/Axion-tiny"
LONG = f"someone/{'x' * 90}"
"""A valid name, which has no room for a suffix."""
BUNDLED = RELEASES / "axion1-v0.1"
SYNTHETIC = ("data.hub_id=null", "data.arithmetic=300", "data.word_problems=0")
"""Data that is generated in a second, without a network."""
FILES = len(REQUIRED_FILES) + len(REMOTE_CODE) + 1
"""With the licence."""
DRY = ["preflight", "train", "evaluate", "build", "lint", "reload", "push"]
WHOLE = [*DRY, "verify", "tag", "announce"]


@pytest.fixture(scope="module")
def measured_run(finished_run, recipe_file, tmp_path_factory):
    """A finished run on synthetic data, evaluated once, which takes seconds."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("measured") / "axion-tiny")
    content = json.loads((folder / "run.json").read_text())
    recipe = load_recipe(recipe_file, SYNTHETIC)
    (folder / "run.json").write_text(json.dumps(content | {"recipe": recipe.to_yaml()}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("axion.evaluation.tasks.ARITHMETIC_PROMPTS", 3)
        patch.setattr(speed, "REPETITIONS", 1)
        patch.setattr(speed, "NEW_TOKENS", 2)
        measure.measure(folder, recipe, [].append)
    return folder


@pytest.fixture(scope="module")
def built_release(measured_run, tmp_path_factory):
    """The release of that run. Read it, don't change it."""
    folder = tmp_path_factory.mktemp("built") / "axion-tiny"
    measured = json.loads((measured_run / measure.RESULTS_FILE).read_text())
    build_release(Ingredients(measured_run, measured, REPO_ID), folder)
    return folder


@pytest.fixture
def unbuilt(tmp_path, monkeypatch, measured_run):
    """A working directory with the run, and no release yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "verify_release", lambda folder: f"verified {folder.name}")
    monkeypatch.setattr(pipeline, "verify_download", lambda download: f"verified {download.repo_id}")
    monkeypatch.setattr(pipeline, "verify_export", lambda download, release: f"verified {download.repo_id}")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("publish.hub.client.get_token", lambda: None)
    shutil.copytree(measured_run, tmp_path / "runs" / "axion-tiny")
    return tmp_path


@pytest.fixture
def here(unbuilt, built_release):
    """A working directory with the run and its release."""
    shutil.copytree(built_release, unbuilt / "releases" / "axion-tiny")
    return unbuilt


@pytest.fixture
def the_hub(unbuilt, hub, monkeypatch):
    """A Hub on this machine, and a token for it."""
    monkeypatch.setattr("publish.hub.client.get_token", lambda: hub.token)
    return hub


@pytest.fixture
def request_for(recipe_file):
    """Makes a request for the tiny recipe: by default a dry run without training."""

    def make(**changes) -> PublishRequest:
        wanted = {"dry_run": True, "skip_train": True, "overrides": SYNTHETIC, **changes}
        return PublishRequest(str(recipe_file), wanted.pop("repo_id", REPO_ID), **wanted)

    return make


def run_steps(request: PublishRequest) -> dict[str, str]:
    lines = []
    publish(request, Steps(lines.append))
    return {line.split()[0]: line for line in lines}


def contents(folder) -> dict:
    return {name: (sha256(folder / name), (folder / name).stat().st_mtime_ns) for name in files_in(folder)}


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


def test_a_publication_killed_in_every_step_ends_in_the_same_state(unbuilt, request_for, the_hub):
    """Each start gets one function further and is killed there; `test_faults` kills processes at every request."""
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
    assert "whose recipe differed in data.sources, training.epochs" in run_steps(other)["train"]
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
    with pytest.raises(AxionError, match="run the same command again to resume"):
        run_steps(request_for(skip_train=False))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["{recipe}"], "--repo-id"),
        (["{recipe}", "--repo-id", "no name"], "not a valid name"),
        (["{recipe}", "--repo-id", "name"], "has no owner; write USER/name"),
        (["nosuch", "--repo-id", REPO_ID, "--dry-run"], "no recipe named 'nosuch'"),
        (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--set", "nokey=1"], "nokey"),
        (["{recipe}", "--repo-id", REPO_ID, "--token", "secret"], "--token"),
        (["{recipe}", "--repo-id", REPO_ID, "--skip-train"], "no Hugging Face token"),
        (["{recipe}", "--repo-id", REPO_ID, "--branch", "b", "--pr"], "cannot be combined"),
        (["{recipe}", "--repo-id", REPO_ID, "--timeout", "2h"], "add --on jobs"),
        (["{recipe}", "--repo-id", REPO_ID, "--on", "jobs", "--dry-run"], "costs money even if"),
        *[
            (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--branch", name], "is not allowed")
            for name in ("", "main", "a b", "a..b", "a/", "-a", "a.lock")
        ],
        (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--branch", "v0.1"], "is ambiguous"),
        (["{recipe}", "--repo-id", REPO_ID, "--dry-run", "--from", "nowhere"], "nowhere"),
        (["check", "nowhere"], "nowhere"),
        (["verify", "nowhere"], "has no owner"),
        (["space", "--repo-id", "name"], "has no owner"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(here, recipe_file, capsys, arguments, line):
    code = run(app, [argument.format(recipe=recipe_file) for argument in arguments])
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "" and "secret" not in printed.err
    assert line in printed.err and len(printed.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"repo_id": f"someone/{'x' * 90}", "exports": True},
            "--exports makes the name .*x-native' is not a valid name",
        ),
        (
            {"repo_id": f"someone/{'x' * 90}", "space": True},
            "--space makes the name .*x-playground' is not a valid name",
        ),
        ({"skip_train": False, "overrides": ("data.test_files=missing.jsonl",)}, "no file missing.jsonl"),
        ({"skip_train": False, "overrides": ("data.files=missing.jsonl",)}, "no file missing.jsonl"),
        (
            {"skip_train": False, "overrides": ("data.test_files=broken.jsonl",)},
            "line 2: no field 'answer'",
        ),
    ],
)
def test_requests_that_would_fail_hours_later_are_refused_at_once(unbuilt, request_for, monkeypatch, changes, line):
    (unbuilt / "broken.jsonl").write_text('{"question": "?", "answer": "1"}\n{"question": "?"}\n')
    monkeypatch.setattr(pipeline, "_find_run", None)  # calling it would fail
    with pytest.raises(AxionError, match=line):
        run_steps(request_for(**changes))


def test_a_tokenizer_that_llama_cpp_cannot_read_is_refused_at_once(unbuilt, request_for, monkeypatch):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate([*letters, "</s>"])}, []))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>").save_pretrained(unbuilt / "bare")
    monkeypatch.setattr(pipeline, "_find_run", None)  # calling it would fail
    request = request_for(overrides=(*SYNTHETIC, "tokenizer={kind: hub, id: bare}"), exports=True)
    with pytest.raises(AxionError, match=r"llama\.cpp does not support this tokenizer; .*; omit --exports, or train"):
        run_steps(request)


def test_the_rights_to_all_repositories_are_checked_before_anything_is_pushed(here, request_for, the_hub, monkeypatch):
    def check_access(repo_id, repo_type="model", **options):
        if repo_id.endswith(refused):
            raise AxionError(f"no access to {repo_id}")
        return False

    monkeypatch.setattr(pipeline.hub, "check_access", check_access)
    for refused, changes in (("-GGUF", {"exports": True}), ("-playground", {"space": True})):
        with pytest.raises(AxionError, match=f"no access to {REPO_ID}{refused}"):
            run_steps(request_for(dry_run=False, **changes))
    monkeypatch.undo()


def test_a_free_account_is_refused_the_space_before_the_release_is_pushed(here, command, the_hub, capsys):
    the_hub.store.free.add("someone")
    assert run(app, [*command, "--space"]) == 2
    assert "need a paid plan" in (error := capsys.readouterr().err) and "add --hardware zero-a10g" in error
    assert run(app, [*command, "--hardware", "zero-a10g"]) == 2
    assert "--hardware is the Space's: add --space" in capsys.readouterr().err
    assert the_hub.snapshot()["repos"] == {}


def test_a_failing_space_still_reports_the_published_release(here, request_for, the_hub, monkeypatch):
    def fail(request, steps):
        raise AxionError(f"{request.repo_id} on {request.hardware} failed to build")

    monkeypatch.setattr(pipeline, "publish_space", fail)
    monkeypatch.setattr(pipeline, "deliver", lambda *arguments: "c" * 40)
    monkeypatch.setattr(pipeline.announce, "add_to_collection", lambda repo_id, title: "in a collection")
    line = f"{REPO_ID} is released as v0.1, but its Space is not: {REPO_ID}-playground on t4-small failed to build"
    with pytest.raises(AxionError, match=line):
        run_steps(request_for(dry_run=False, space=True, hardware="t4-small"))


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


@pytest.fixture
def command(recipe_file) -> list[str]:
    overrides = [part for override in SYNTHETIC for part in ("--set", override)]
    return [str(recipe_file), "--repo-id", REPO_ID, "--skip-train", *overrides]


def test_the_command_prints_one_line_per_step(here, command, capsys):
    assert run(app, [*command, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == DRY


def test_the_json_summary_is_one_object(the_hub, command, capsys):
    assert run(app, [*command, "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert [step["name"] for step in summary["steps"]] == WHOLE
    assert [line.split()[0] for line in printed.err.splitlines()] == WHOLE
    (released,) = summary["releases"]
    assert released["tag"] == released["revision"] == "v0.1" and released["url"] == f"{the_hub.url}/{REPO_ID}"
    assert 'revision = "someone/Axion-tiny", "v0.1"' in released["snippet"] and len(released["commit"]) == 40


def test_a_branch_is_pinned_by_its_commit(the_hub, command, capsys):
    assert run(app, [*command, "--branch", "trial", "--json"]) == 0
    (pushed,) = json.loads(capsys.readouterr().out)["releases"]
    assert pushed["revision"] == pushed["commit"] and pushed["url"].endswith("/tree/trial")


def test_the_other_forms_are_published_too(the_hub, command, capsys):
    for option in (["--exports"], ["--exports"], []):  # the card keeps naming what is published
        assert run(app, [*command, *option]) == 0
    capsys.readouterr()
    repos = the_hub.snapshot()["repos"]
    assert set(repos) == {f"models/{REPO_ID}{suffix}" for suffix in ("", "-native", "-GGUF")}
    for repo in repos.values():
        assert repo["refs"]["refs/tags/v0.1"] == repo["refs"]["refs/heads/main"]
        assert repo["refs"]["refs/heads/main"]["commits"] == 2
    original = the_hub.store.repos["models", REPO_ID]
    card = original.commits[original.refs["refs/tags/v0.1"]].tree["README.md"].data.decode()
    assert f"{REPO_ID}-GGUF" in card and f"{REPO_ID}-native" in card


def test_all_publishes_the_series(the_hub, command, capsys, monkeypatch, recipe_file, here):
    made = pipeline.series.Member("axion-tiny", "0.1", "Axion tiny", "Axion-tiny", True, 1, 1)
    planned = replace(made, name="axion1-v0.9", repo_name="Unmade")
    monkeypatch.setattr(pipeline.series, "walk", lambda: iter([made, planned]))
    monkeypatch.setattr(pipeline, "load_recipe", lambda version, overrides, own: load_recipe(recipe_file, overrides))
    steps_of = [part for part in command if part.startswith(("--set", "data."))]
    assert run(app, ["all", "--dry-run", "--user", "someone", *steps_of]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*DRY, "axion1-v0.9"] and "would be trained" in lines[-1]
    monkeypatch.setattr(pipeline.series, "walk", lambda: iter([made]))
    assert run(app, ["all", *steps_of]) == 0
    assert list(the_hub.snapshot()["repos"]) == [f"models/{REPO_ID}"]


@pytest.mark.skipif(not BUNDLED.is_dir(), reason="releases/axion1-v0.1 is not built")
def test_a_dry_run_of_the_whole_series_needs_no_hub_and_replaces_no_release(unbuilt, hub, capsys):
    before = contents(BUNDLED)
    assert run(app, ["all", "--dry-run"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == DRY
    assert hub.log == [] and contents(BUNDLED) == before


def test_a_job_gets_the_same_command_without_the_options_for_jobs(the_hub, command, capsys, monkeypatch):
    monkeypatch.setattr("publish.jobs.submit", lambda request: request)
    monkeypatch.setattr("publish.jobs.describe", lambda request: repr(request))
    assert run(app, [*command, "--on", "jobs", "--flavor=t4-small", "--timeout", "3h", "--private"]) == 0
    printed = capsys.readouterr().out
    assert repr((*command, "--private")) in printed and "flavor='t4-small', timeout='3h'" in printed
