"""The Space: its files, that it runs by itself, and how it is pushed, started and refused."""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import httpx2
import pytest
import yaml

from axion.errors import AxionError
from axion.release import RELEASES, WANTED_FROM_HUB
from publish.hub import client as hub_calls
from publish.manifest import files_in
from publish.space import build as space_build
from publish.space import local_run
from publish.space import publish as space
from publish.space.build import PublishedModel, build_space, check_front_matter
from publish.space.local_run import PROMPT, offered_models, run_locally, serve, write
from publish.space.publish import SpaceRequest, find_model, publish_space, push_space
from publish.steps import Steps
from tests.hub import accounts

MODEL, SPACE = "someone/Axion-tiny", "someone/see.the-experts"
PINNED = PublishedModel(MODEL, "a" * 40, ("config.json", "model.safetensors"), ("openai/gsm8k",))


def front_matter(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


# --- The folder -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _computed_once() -> Iterator[None]:
    """The imports of the page and the installed libraries, which are the same for every Space."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("find_imports", "packages_distributions"):
            patch.setattr(space_build, name, cache(getattr(space_build, name)))
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A Space with the bundled release. Read it, don't change it."""
    folder = tmp_path_factory.mktemp("space") / "built"
    build_space(folder)
    return folder


@pytest.fixture(scope="module")
def built_small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("space") / "small"
    build_space(folder, [PINNED])
    return folder


@pytest.fixture
def small(built_small, tmp_path) -> Path:
    """A Space that shows a model on the Hub."""
    return shutil.copytree(built_small, tmp_path / "small")


def test_the_space_contains_what_the_page_needs_and_nothing_else(built):
    files = files_in(built)
    modules = {name for name in files if name.endswith(".py")}
    assert {"app.py", "axion/release.py", "axion/inference/stream.py", "playground/server/zero_gpu.py"} < modules
    assert all((built / name).read_bytes() == (space_build.ROOT / name).read_bytes() for name in modules)
    others = set(files) - modules
    assert others > {"LICENSE", "README.md", "requirements.txt", "releases/axion1-v0.1/model.safetensors"}
    assert {Path(name).parts[0] for name in files} - {"app.py", "LICENSE", "README.md", "requirements.txt"} == {
        "axion",
        "playground",
        "releases",
    }
    for unwanted in (
        "test",
        "__pycache__",
        "axion/training/run",
        "axion/training/trainer",
        "axion/cli",
        "playground/web",
        "/.",
        "modeling_axion.py/",
    ):
        assert not [name for name in files if unwanted in name]


def test_every_asset_of_the_page_is_included(built):
    for assets in (Path("playground/views"), Path("playground/views/css"), Path("playground/content/templates")):
        there = {path.name for path in (space_build.ROOT / assets).iterdir() if path.suffix in space_build.ASSETS}
        assert {path.name for path in (built / assets).iterdir() if path.suffix in space_build.ASSETS} == there


def test_the_requirements_are_what_the_page_imports_with_the_torch_of_zero_gpu(built):
    lines = (built / "requirements.txt").read_text().splitlines()
    assert "torch>=2.8,<2.12" in lines
    ours = (space_build.ROOT / "requirements.txt").read_text().splitlines()
    assert set(lines) - {"torch>=2.8,<2.12"} <= set(ours)
    names = {re.split(r"[\[=]", line)[0] for line in lines}
    assert {"transformers", "gradio", "huggingface_hub"} < names
    assert not names & {"datasets", "pyarrow", "tiktoken", "peft", "matplotlib", "accelerate", "spaces"}


def test_an_unpinned_library_is_an_error():
    with pytest.raises(AxionError, match="imports polars, which"):
        space_build.requirements({"torch", "polars"})


def test_the_front_matter_is_what_the_hub_reads(built, small):
    values = front_matter(built)
    assert values["python_version"] == "3.12"  # text: as a number, 3.10 would be 3.1
    assert (values["sdk"], values["app_file"], values["license"]) == ("gradio", "app.py", "mit")
    assert len(values["short_description"]) <= 60
    assert values["datasets"] == ["openai/gsm8k"]
    assert "preload_from_hub" not in values
    values = front_matter(small)
    assert values["models"] == [MODEL]
    assert values["preload_from_hub"] == [f"{MODEL} config.json,model.safetensors {'a' * 40}"]
    assert not (small / "releases").exists()


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("title", None, "title is missing"),
        ("sdk_version", None, "sdk_version is missing"),
        ("emoji", "ax", "emoji must be"),
        ("colorFrom", "orange", "colorFrom must be one of blue, gray"),
        ("sdk", "docker", "sdk must be gradio"),
        ("sdk_version", "latest", "sdk_version must be a release"),
        ("python_version", 3.12, "python_version must be a quoted string, not 3.12"),
        ("python_version", "2.7", "python_version must be a version"),
        ("app_file", "main.py", "app_file is 'main.py', which does not exist"),
        ("short_description", "x" * 61, "short_description has 61 characters; the maximum is 60"),
        ("license", "beerware", "license is 'beerware'"),
        ("models", MODEL, "models must be a list"),
        ("models", ["../models"], "models has"),
        ("datasets", ["a/b/c"], "datasets has 'a/b/c'"),
        ("preload_from_hub", [MODEL], "preload_from_hub must be"),
        ("preload_from_hub", [f"{MODEL} config.json main"], "preload_from_hub must be"),
        ("suggested_hardware", "big-one", "suggested_hardware must be"),
        ("hf_oauth", True, "hf_oauth is unknown"),
    ],
)
def test_front_matter_that_the_hub_would_refuse_is_reported_in_one_line(small, key, value, wrong):
    values = front_matter(small)
    values.pop(key, None)
    if value is not None:
        values[key] = value
    (small / "README.md").write_text(f"---\n{yaml.safe_dump(values, allow_unicode=True)}---\n", encoding="utf-8")
    with pytest.raises(AxionError, match=wrong) as caught:
        check_front_matter(small)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AxionError, match="is not empty"):
        build_space(tmp_path)
    assert files_in(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("secret", ["hf_" + "q7Zx" * 9, "see /home/somebody/axion"])
def test_a_secret_or_a_local_path_is_an_error(tmp_path, monkeypatch, secret):
    render = space_build.render_readme
    monkeypatch.setattr(space_build, "render_readme", lambda *arguments: render(*arguments) + secret)
    with pytest.raises(AxionError, match=r"README\.md") as caught:
        build_space(tmp_path / "space")
    assert "q7Zx" not in str(caught.value)


# --- Running by itself ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_space_runs_from_its_folder_alone_and_can_add(built, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    for texts in (copy / "playground" / "locales").iterdir():
        if texts.is_file():
            changed = texts.read_text(encoding="utf-8").replace('"title": "', '"title": "Only the copy says: ')
            texts.write_text(changed, encoding="utf-8")
    a, b = random.randrange(10), random.randrange(10)
    with serve(copy) as address:
        assert b"Only the copy says: " in urlopen(address).read()
        assert offered_models(address) == ["axion1-v0.1"]
        assert write(address, "axion1-v0.1", PROMPT.replace("5 + 3", f"{a} + {b}")).strip() == str(a + b)
    assert not list(copy.rglob("__pycache__"))


def test_a_folder_that_does_not_start_is_reported_by_its_last_line(built, tmp_path):
    shutil.copytree(built, tmp_path / "copy")
    (tmp_path / "copy" / "playground" / "server" / "launch.py").unlink()
    with pytest.raises(AxionError, match=r"does not start: ModuleNotFoundError: .*playground\.server\.launch"):
        run_locally(tmp_path / "copy")


@pytest.mark.parametrize("answer", [TimeoutError("timed out"), KeyError("components"), httpx2.ReadTimeout("slow")])
def test_a_page_that_starts_but_does_not_answer_is_reported_in_one_line(tmp_path, monkeypatch, answer):
    def fail(address):
        raise answer

    monkeypatch.setattr(local_run, "serve", lambda *arguments: nullcontext("http://127.0.0.1:1"))
    monkeypatch.setattr(local_run, "offered_models", fail)
    with pytest.raises(AxionError, match="the Space starts but does not generate: "):
        run_locally(tmp_path)


@pytest.mark.slow
def test_it_runs_on_the_oldest_torch_of_zero_gpu_with_nothing_but_its_requirements(built, tmp_path):
    """PyPI's torch includes gigabytes of CUDA, which are removed with the environment."""
    environment, oldest = tmp_path / "environment", "torch==2.8.*"
    requirements = (built / "requirements.txt").read_text().replace(space_build.TORCH, oldest)
    assert oldest in requirements
    (tmp_path / "requirements.txt").write_text(requirements)
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    try:
        install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "-r", tmp_path / "requirements.txt"]
        installed = subprocess.run(install, capture_output=True, text=True)
        if installed.returncode != 0:
            pytest.skip(f"{oldest} can't be installed here: {installed.stderr.strip()[-200:]}")
        show = "import torch; print(torch.__version__)"
        assert subprocess.check_output([python, "-I", "-c", show], text=True).startswith("2.8.")
        a, b = random.randrange(10), random.randrange(10)
        with serve(built, python=str(python)) as address:
            assert write(address, "axion1-v0.1", PROMPT.replace("5 + 3", f"{a} + {b}")).strip() == str(a + b)
    finally:
        shutil.rmtree(environment)


# --- On the Hub -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(space, "POLL_INTERVALS", (0.01,))


@pytest.fixture
def published(hub, release) -> str:
    """The commit of a model on the Hub."""
    hub_calls.create_repo(MODEL)
    return hub_calls.push(release, MODEL, "A release")


def make_space(folder: Path, models=(PINNED,), space_id: str = SPACE, **options) -> str:
    """Push a Space, which takes milliseconds."""
    return push_space(folder, space_id, models, parent=hub_calls.head(space_id, repo_type="space"), **options)


def test_a_space_is_built_run_pushed_and_started_and_the_second_time_skipped(hub, quick, published):
    lines = []
    space_request = SpaceRequest(SPACE, (f"{MODEL}@main",))
    assert publish_space(space_request, Steps(lines.append)) == f"{hub.url}/spaces/{SPACE}"
    assert [line.split()[0] for line in lines] == ["preflight", "build", "test", "push", "start"]
    assert f"{MODEL}@{published[:8]} answers" in lines[2]  # from the Hub, without a token
    assert "runs on cpu-basic" in lines[4]
    repo = hub.store.repos["spaces", SPACE]
    variables = {key: entry["value"] for key, entry in repo.space.variables.items()}
    assert variables == {"AXION_MODELS": f"{MODEL}@{published}", "OMP_NUM_THREADS": "1"}
    changes = [call for call in hub.calls("POST *") if call.endswith("/variables") or "/commit/" in call]
    assert ["/commit/" in call for call in changes[1:]] == [False, False, True]  # after the model's own commit

    lines.clear()
    publish_space(space_request, Steps(lines.append))
    assert [line.split()[:2] for line in lines[2:4]] == [["test", "skipped:"], ["push", "skipped:"]]
    assert "runs on cpu-basic" in lines[4]
    assert len(hub.calls("POST */commit/*")) == 2
    assert len(hub.calls("POST */variables")) == 2
    assert hub.surprises == []


def test_the_files_that_the_page_reads_are_preloaded(hub, release, published):
    model = find_model(MODEL)
    assert (model.commit, model.reference) == (published, f"{MODEL}@{published}")
    assert {"config.json", "model.safetensors", "tokenizer.json", "release.json"} <= set(model.files)
    assert not [name for name in model.files if name.endswith((".py", ".png", ".md"))]
    assert {"*.json", "*.safetensors"} <= set(WANTED_FROM_HUB)


def test_a_model_that_the_space_could_not_show_is_refused(hub, published):
    with pytest.raises(AxionError, match=r"--model 'v0\.1' has no owner"):
        find_model("v0.1")
    with pytest.raises(AxionError, match=r"--model is 'someone/\.\.', not a valid name on the Hub"):
        find_model("someone/..")
    with pytest.raises(AxionError, match=r"someone/None is not on the Hub"):
        find_model("someone/None")
    with pytest.raises(AxionError, match=r"no such revision"):
        find_model(f"{MODEL}@v9.9")
    hub_calls.create_repo("someone/empty")
    with pytest.raises(AxionError, match=r"not an Axion release: it has no config\.json"):
        find_model("someone/empty")
    hub.store.repos["models", MODEL].private = True
    with pytest.raises(AxionError, match="is private, so the Space could not read it"):
        find_model(MODEL)


def test_obsolete_files_are_deleted_and_others_kept(hub, small):
    make_space(small)
    (small / "playground" / "old.py").write_text("")
    (small / "notes.md").write_text("mine")
    make_space(small)
    (small / "playground" / "old.py").unlink()
    (small / "notes.md").unlink()
    assert make_space(small).startswith("one commit")
    files = set(hub_calls.api().list_repo_files(SPACE, repo_type="space"))
    assert "notes.md" in files
    assert "playground/old.py" not in files
    assert set(files_in(small)) <= files


def edit_space(name: str, content: bytes) -> None:
    """Edit a file of the Space, as somebody else."""
    hub_calls.api().upload_file(
        path_or_fileobj=content, path_in_repo=name, repo_id=SPACE, repo_type="space", commit_message="Mine"
    )


def test_others_edits_are_not_overwritten_unless_they_are_to_be_discarded(hub, small):
    space.check_edits(small, SPACE)  # no Space yet
    hub_calls.api().create_repo(SPACE, repo_type="space", space_sdk="gradio")
    space.check_edits(small, SPACE)  # a README.md created by the Hub
    make_space(small)
    edit_space("notes.md", b"a reader's")
    space.check_edits(small, SPACE)
    edit_space("README.md", (small / "README.md").read_bytes().replace("🔬".encode(), "🦔".encode()))
    edit_space("app.py", b"print('mine')\n")
    with pytest.raises(AxionError, match=r"README\.md, app\.py; undo that there") as caught:
        space.check_edits(small, SPACE)
    assert str(caught.value).endswith(f" --overwrite {SPACE}:README.md --overwrite {SPACE}:app.py")
    with pytest.raises(AxionError, match=r"on the Hub: app\.py; undo that there"):
        space.check_edits(small, SPACE, ["README.md"])
    make_space(small)
    space.check_edits(small, SPACE)


def test_a_space_that_others_made_is_not_overwritten(hub, small):
    hub_calls.api().create_repo(SPACE, repo_type="space", space_sdk="gradio")
    edit_space("app.py", b"print('mine')\n")
    with pytest.raises(AxionError, match=r"on the Hub: app\.py; undo that there"):
        space.check_edits(small, SPACE)


@pytest.fixture
def space_request(small, monkeypatch) -> SpaceRequest:
    """A Space whose build is a copy of `small`."""
    monkeypatch.setattr(space, "build_space", lambda folder, models: shutil.copytree(small, folder))
    monkeypatch.setattr(space, "find_model", lambda reference: PINNED)
    return SpaceRequest(SPACE, (MODEL,))


def app_of(hub) -> bytes:
    repo = hub.store.repos["spaces", SPACE]
    return repo.commits[repo.refs["refs/heads/main"]].tree["app.py"].data


@pytest.mark.parametrize("exists", [True, False], ids=["edited", "created"])
def test_a_space_that_changes_during_the_trial_run_is_not_overwritten(hub, small, space_request, monkeypatch, exists):
    """The trial run takes minutes, during which someone else edits or creates the Space."""
    if exists:
        make_space(small)
        (small / "notes.md").write_text("new\n")

    def run_and_interfere(folder, models):
        hub_calls.api().create_repo(SPACE, repo_type="space", space_sdk="gradio", exist_ok=True)
        edit_space("app.py", b"print('mine')\n")
        return "it answers"

    monkeypatch.setattr(space, "run_locally", run_and_interfere)
    with pytest.raises(AxionError, match="has changed in the meantime: run the same command again"):
        publish_space(space_request, Steps([].append))
    assert app_of(hub) == b"print('mine')\n"


def test_a_space_that_seems_missing_for_a_moment_is_not_overwritten(hub, small, space_request, monkeypatch):
    make_space(small)
    edit_space("app.py", b"print('mine')\n")
    monkeypatch.setattr(space, "run_locally", lambda folder, models: "it answers")
    for nth in (1, 2):  # the lookups of what is already pushed and of edits
        hub.fail("404", "GET */revision/main", nth)
    before = hub.snapshot()
    with pytest.raises(AxionError, match="has changed in the meantime: run the same command again"):
        publish_space(space_request, Steps([].append))
    assert hub.snapshot() == before and app_of(hub) == b"print('mine')\n"


def test_private_onto_a_public_space_is_refused(hub, small):
    make_space(small)
    with pytest.raises(AxionError, match="exists and is public"):
        space.check_space(SpaceRequest(SPACE, private=True), hub_calls.whoami())
    with pytest.raises(AxionError, match="exists and is public"):
        make_space(small, private=True)


def test_other_models_change_a_variable_and_one_commit(hub, small, tmp_path):
    make_space(small)
    build_space(tmp_path / "bundled")
    assert make_space(tmp_path / "bundled", ()).startswith("one commit")
    assert set(hub.store.repos["spaces", SPACE].space.variables) == {"OMP_NUM_THREADS"}
    assert make_space(tmp_path / "bundled", ()).startswith(SPACE)
    assert len(hub.calls("POST */commit/*")) == 2
    assert len(hub.calls("DELETE */variables")) == 1
    assert hub.surprises == []


def test_a_free_account_is_pointed_to_zero_gpu(hub, small, quick):
    hub.store.free.add("someone")
    with pytest.raises(AxionError, match=r"on cpu-basic need a paid plan.*--hardware zero-a10g$"):
        space.check_space(SpaceRequest(SPACE), hub_calls.whoami())
    space.check_space(SpaceRequest(SPACE, hardware="zero-a10g"), hub_calls.whoami())
    with pytest.raises(AxionError, match=r"on cpu-basic need a paid plan.*--hardware zero-a10g$"):
        make_space(small)
    assert not hub.calls("POST */commit/*")
    for number in range(2):
        make_space(small, space_id=f"someone/free-{number}", hardware="zero-a10g")
    assert hub.store.repos["spaces", "someone/free-1"].space.hardware == "zero-a10g"
    with pytest.raises(AxionError, match="are limited to two Spaces on ZeroGPU"):
        make_space(small, space_id="someone/free-2", hardware="zero-a10g")


def test_hardware_is_requested_once(hub, small):
    make_space(small)
    for _ in range(2):
        make_space(small, hardware="cpu-upgrade")
    assert len(hub.calls("POST */hardware")) == 1
    with pytest.raises(AxionError, match="'tpu' is unknown; choose one of cpu-basic"):
        publish_space(SpaceRequest(SPACE, hardware="tpu"), Steps(print))


def test_another_users_name_is_refused_before_anything_is_created(hub, monkeypatch):
    with pytest.raises(AxionError, match="not a member of stranger"):
        publish_space(SpaceRequest("stranger/page"), Steps(print))
    monkeypatch.setenv("HF_TOKEN", accounts.SOMEONE_READS)
    with pytest.raises(AxionError, match="give the token write access"):
        publish_space(SpaceRequest(SPACE), Steps(print))
    assert not hub.calls("POST */repos/create")


@pytest.mark.parametrize(
    ("stage_of_it", "wrong"),
    [
        ("BUILD_ERROR", "failed to build: its log is at .*logs=build"),
        ("RUNTIME_ERROR", "failed to start: its log is at .*logs=container"),
        ("CONFIG_ERROR", "has an invalid configuration: see .*README.md"),
        ("PAUSED", "is PAUSED: start it again at .*/settings"),
        ("STOPPED", "is STOPPED: start it again"),
        ("NO_APP_FILE", "is still NO_APP_FILE after"),
    ],
)
def test_a_space_that_will_not_run_is_reported_in_one_line(hub, small, quick, monkeypatch, stage_of_it, wrong):
    monkeypatch.setattr(space, "MAX_WAIT_SECONDS", 0.05)
    make_space(small)
    hub.store.repos["spaces", SPACE].space.stage = stage_of_it
    with pytest.raises(AxionError, match=wrong) as caught:
        space.wait_until_running(SPACE)
    assert "\n" not in str(caught.value)


def test_waiting_has_a_limit(hub, small, quick, monkeypatch):
    monkeypatch.setattr(space, "MAX_WAIT_SECONDS", 0.05)
    hub.store.polls_to_run = 10**6
    make_space(small)
    with pytest.raises(AxionError, match=r"still BUILDING after .* minutes: watch it at .*logs=build"):
        space.wait_until_running(SPACE)


def test_a_dry_run_leaves_a_folder_and_needs_no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(space, "DRY_RUN_FOLDER", tmp_path / "build" / "space")
    monkeypatch.setattr(space, "run_locally", lambda folder, models: f"{folder.name}, {models}")
    lines = []
    for _ in range(2):  # the second replaces the first
        folder = publish_space(SpaceRequest(SPACE, (MODEL,), dry_run=True), Steps(lines.append))
    assert folder == str(tmp_path / "build" / "space")
    assert (tmp_path / "build" / "space" / "app.py").is_file()
    assert "skipped: dry run" in lines[-1]


pytestmark = pytest.mark.skipif(not (RELEASES / space.BUNDLED).is_dir(), reason="releases/axion1-v0.1 is not built")
