"""`publish page`, and the page without a server as a static Space."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from axion.errors import AxionError
from axion.shipped import ROOT
from playground.web import assemble
from publish.hub import client as hub_calls
from publish.space import page
from publish.space import publish as space
from publish.space.build import PublishedModel
from publish.space.page import build_static_space, check_page
from publish.space.publish import SpaceRequest, publish_space
from publish.steps import Steps

SPACE = "someone/see.the-experts"
PINNED = PublishedModel("someone/Axion-tiny", "a" * 40, ("config.json",), ("openai/gsm8k",))


@pytest.fixture(scope="module")
def written(release, tmp_path_factory) -> Path:
    """A page with the release of the tests. Read it, don't change it."""
    folder = tmp_path_factory.mktemp("page") / "page"
    assemble.write_page([str(release)], folder)
    return folder


@pytest.fixture
def quick(written, monkeypatch):
    """The page is a copy of `written`, and the Hub is asked without pauses."""
    monkeypatch.setattr(page, "write_page", lambda references, folder, linked: shutil.copytree(written, folder))
    monkeypatch.setattr(space, "find_model", lambda reference: PINNED)
    monkeypatch.setattr(space, "POLL_INTERVALS", (0.01,))


def test_a_static_space_is_built_checked_pushed_and_watched_and_the_second_time_skipped(hub, quick):
    hub.store.free.add("someone")  # a static Space costs nothing
    lines = []
    request = SpaceRequest(SPACE, (PINNED.repo_id,), static=True)
    assert publish_space(request, Steps(lines.append)) == f"{hub.url}/spaces/{SPACE}"
    assert [line.split()[0] for line in lines] == ["preflight", "build", "test", "push", "start"]
    assert "files of models beside the page" in lines[2] and "runs in its visitors' browsers" in lines[4]
    repo = hub.store.repos["spaces", SPACE]
    tree = repo.commits[repo.refs["refs/heads/main"]].tree
    assert {"index.html", "decoder.wasm", "README.md", "LICENSE"} <= tree.keys()
    front_matter = yaml.safe_load(tree["README.md"].data.decode().split("---\n")[1])
    assert (front_matter["sdk"], front_matter["app_file"]) == ("static", "index.html")
    assert (front_matter["models"], front_matter["datasets"]) == ([PINNED.repo_id], ["openai/gsm8k"])
    assert repo.space.sdk == "static" and not repo.space.variables
    lines.clear()
    publish_space(request, Steps(lines.append))
    assert [line.split()[:2] for line in lines[2:4]] == [["test", "skipped:"], ["push", "skipped:"]]
    assert len(hub.calls("POST */commit/*")) == 1 and hub.surprises == []


def test_a_gradio_space_becomes_static(hub, quick, tmp_path):
    build_static_space(tmp_path / "static", [PINNED])
    gradio = tmp_path / "gradio"
    (gradio / "playground").mkdir(parents=True)
    for name in ("app.py", "requirements.txt", "playground/old.py", "notes.md"):
        (gradio / name).write_text("")
    (gradio / "README.md").write_text("---\nsdk: gradio\n---\n")
    for folder in (gradio, tmp_path / "static"):
        space.push_space(folder, SPACE, [PINNED], parent=hub_calls.head(SPACE, repo_type="space"))
    files = set(hub_calls.api().list_repo_files(SPACE, repo_type="space"))
    assert "notes.md" in files and not {"app.py", "requirements.txt", "playground/old.py"} & files


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"static": True, "hardware": "cpu-basic"}, "omit --hardware or --static"),
        ({"linked": True}, "add --static and --model"),
        ({"static": True, "linked": True}, "add --static and --model"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, wrong):
    with pytest.raises(AxionError, match=wrong):
        publish_space(SpaceRequest(SPACE, **options), Steps(print))


def test_a_page_that_lacks_a_file_is_not_pushed(written, tmp_path):
    copy = shutil.copytree(written, tmp_path / "page")
    assert check_page(copy).startswith("axion-tiny: ")
    [weights] = copy.rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(AxionError, match=r"model\.safetensors is missing, or not the file"):
        check_page(copy)
    (copy / "worker.js").unlink()
    with pytest.raises(AxionError, match=r"the page has no worker\.js"):
        check_page(copy)


def test_the_builder_is_told_where_weights_stay_and_its_mistakes_are_one_line(monkeypatch, tmp_path):
    calls = []

    def run(command, **_):
        calls.append(command)
        error = "no release 'x'; here: axion1-v0.1\n" if "x" in command else ""
        return subprocess.CompletedProcess(command, 2 if error else 0, '{"folder": "a"}\n', error)

    monkeypatch.setattr(page.subprocess, "run", run)
    assert page.write_page(["a/b@c"], tmp_path, linked=True) == {"folder": "a"}
    assert calls[0][1:4] == ["-m", "playground.web", "a/b@c"] and calls[0][-1] == "--weights-on-hub"
    with pytest.raises(AxionError, match=r"^no release 'x'; here: axion1-v0\.1$"):
        page.write_page(["x"], tmp_path)


@pytest.mark.slow
def test_the_command_writes_a_folder_and_a_file_below_three_megabytes(tmp_path):
    command = [sys.executable, "-m", "publish", "page", "axion1-v0.1", "--out", str(tmp_path / "page"), "--json"]
    written = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
    assert Path(written["folder"]).is_file() and Path(written["file"]).stat().st_size < 3_000_000
    assert check_page(tmp_path / "page").startswith("axion1-v0.1: ")
    again = subprocess.run(
        [*command[:4], "nothing", "--out", str(tmp_path / "other")], capture_output=True, text=True, cwd=ROOT
    )
    assert (again.returncode, again.stderr.count("\n"), (tmp_path / "other").exists()) == (2, 1, False)
    assert "no release 'nothing'" in again.stderr
