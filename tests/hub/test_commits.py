"""Commits: both ways of uploading large files, what is refused, and that commits are atomic."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    constants,
    hf_hub_download,
)
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError

from tests.hub import accounts

REPO = "someone/Axion-0.1"
WEIGHTS = random.Random(0).randbytes(100_000)
CARD = b"---\nlicense: mit\nlanguage: [en, pt]\n---\n# Axion\n"


@pytest.fixture
def repo(api) -> str:
    api.create_repo(REPO)
    return REPO


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def test_one_commit_has_all_files_in_both_modes(hub, api, repo, mode):
    files = {"README.md": CARD, "model.safetensors": WEIGHTS, "deep/er/notes.txt": b"text", "empty.bin": b""}
    files["chart.png"] = b"\x89PNG\r\n\x1a\n\0" + WEIGHTS[:1000]
    head = api.model_info(repo).sha
    made = api.create_commit(
        repo,
        [add(*file) for file in files.items()],
        commit_message="v0.1",
        commit_description="all",
        parent_commit=head,
    )
    assert made.oid == api.model_info(repo).sha and made.commit_url == f"{hub.url}/{repo}/commit/{made.oid}"
    tree = {entry.path: entry for entry in api.list_repo_tree(repo, recursive=True)}
    assert {"deep", "deep/er"} < set(tree)
    assert tree["model.safetensors"].lfs.sha256 and tree["chart.png"].lfs.size == len(files["chart.png"])
    assert tree["README.md"].lfs is None and tree["empty.bin"].lfs is None
    for path, content in files.items():
        assert Path(hf_hub_download(repo, path)).read_bytes() == content
    # Files that no pattern of .gitattributes matches get a line of their own.
    attributes = Path(hf_hub_download(repo, ".gitattributes")).read_text()
    assert "chart.png filter=lfs" in attributes and "model.safetensors filter" not in attributes
    assert ("GET /api/{kind}/{ns}/{name}/xet-write-token/{revision}" in hub.calls()) == (mode == "xet")
    assert [commit.message for commit in api.list_repo_commits(repo)] == ["all", ""]


def test_both_modes_end_in_the_same_state(hub, api, monkeypatch):
    states = []
    for disabled in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", disabled)
        hub.reset()
        api.create_repo(REPO)
        made = api.create_commit(REPO, [add("model.safetensors", WEIGHTS), add("a.txt", b"a")], commit_message="x")
        states.append((made.oid, hub.snapshot()))
    assert states[0] == states[1]


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_commits_to_datasets_and_spaces(hub, api, mode, kind):
    api.create_repo(REPO, repo_type=kind, space_sdk="static" if kind == "space" else None)
    api.create_commit(REPO, [add("data.bin", WEIGHTS)], commit_message="x", repo_type=kind)
    assert Path(hf_hub_download(REPO, "data.bin", repo_type=kind)).read_bytes() == WEIGHTS


def test_large_uploads_are_multipart(hub, api, repo, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.store.multipart_from = 30_001
    api.create_commit(repo, [add("model.safetensors", WEIGHTS)], commit_message="x")
    assert hub.calls("PUT *") == ["PUT /storage/{sha256}"] * 7
    assert Path(hf_hub_download(repo, "model.safetensors")).read_bytes() == WEIGHTS


def test_content_with_another_sha256_is_refused(hub, api, repo, mode):
    operation = add("model.safetensors", WEIGHTS)
    operation.upload_info.sha256 = bytes(32)
    with pytest.raises((RuntimeError, BadRequestError)):
        api.create_commit(repo, [operation], commit_message="x")
    assert hub.calls("POST */verify") == [] and len(api.list_repo_commits(repo)) == 1


def test_a_pointer_to_nothing_is_refused(hub, api, repo):
    operations = [add("a.txt", b"a"), add("model.safetensors", WEIGHTS)]
    operations[1]._is_uploaded, operations[1]._upload_mode = True, "lfs"
    with pytest.raises(BadRequestError, match="LFS pointer pointed to a file that does not exist"):
        api.create_commit(repo, operations, commit_message="x")
    assert list(hub.snapshot()["repos"][f"models/{repo}"]["refs"]["refs/heads/main"]["tree"]) == [".gitattributes"]


def test_a_commit_on_another_parent_is_refused(hub, api, repo):
    old = api.model_info(repo).sha
    api.create_commit(repo, [add("a.txt", b"1")], commit_message="1", parent_commit=old)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as late:
        api.create_commit(repo, [add("a.txt", b"2")], commit_message="2", parent_commit=old)
    assert late.value.response.status_code == 412 and len(api.list_repo_commits(repo)) == 2


def test_unchanged_files_are_not_uploaded_again(hub, api, repo, mode):
    operations = {"model.safetensors": WEIGHTS, "README.md": CARD}
    first = api.create_commit(repo, [add(*file) for file in operations.items()], commit_message="1")
    again = api.create_commit(repo, [add(*file) for file in operations.items()], commit_message="2")
    assert again.oid == first.oid and len(hub.calls("POST */commit/*")) == 1


def test_a_secret_is_refused(hub, api, repo):
    with pytest.raises(BadRequestError, match="valid Hugging Face secrets"):
        api.create_commit(repo, [add("notes.txt", f"token = {hub.token}\n".encode())], commit_message="x")


def test_deleting_and_copying(hub, api, repo, mode):
    files = {"a/1.txt": b"1", "a/2.txt": b"2", "b.txt": b"b", "c.bin": WEIGHTS}
    api.create_commit(repo, [add(*file) for file in files.items()], commit_message="1")
    copy = CommitOperationCopy("c.bin", "d.bin")
    gone = [CommitOperationDelete("a/"), CommitOperationDelete("b.txt")]
    api.create_commit(repo, [copy, *gone], commit_message="2")
    assert api.list_repo_files(repo) == [".gitattributes", "c.bin", "d.bin"]
    for missing in ("a/", "b.txt"):
        with pytest.raises(RemoteEntryNotFoundError, match="A file with this name doesn't exist"):
            api.create_commit(repo, [add("new", b"x"), CommitOperationDelete(missing)], commit_message="3")
    assert api.file_exists(repo, "d.bin") and not api.file_exists(repo, "new")


def test_gitignore_is_respected(hub, api, repo):
    files = {".gitignore": b"*.log\n", "a.log": b"1", "a.txt": b"1"}
    api.create_commit(repo, [add(*file) for file in files.items()], commit_message="1")
    assert set(api.list_repo_files(repo)) == {".gitattributes", ".gitignore", "a.txt"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("license: my-own", '"license" must be one of'),
        ("pipeline_tag: text-generating", '"pipeline_tag" must be one of'),
        ("language: English", '"language" with value "English" is not valid'),
        ("tags: [{a: 1}]", '"tags" must be a string or an array'),
        ("base_model: ./runs/x", '"base_model" with value "./runs/x" is not valid'),
        ("model-index: [{name: x, results: [{metrics: [{type: a, value: 1}]}]}]", "task.type.* is required"),
        (
            "model-index: [{name: x, results: [{task: {type: a}, dataset: {type: b}}]}]",
            "metrics.* is required",
        ),
        ("a: [1", "YAML Metadata Error"),
    ],
)
def test_wrong_metadata_is_refused_before_anything_is_sent(hub, api, repo, metadata, message):
    with pytest.raises(ValueError, match=message):
        api.create_commit(repo, [add("README.md", f"---\n{metadata}\n---\n".encode())], commit_message="x")
    assert hub.calls("POST */preupload/*") == []


def test_a_card_without_metadata_causes_a_warning(hub, api, repo):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata in repo card"):
        api.create_commit(repo, [add("README.md", b"# Axion\n")], commit_message="x")


@pytest.mark.parametrize("token", [accounts.SOMEONE_READS, accounts.STRANGER])
def test_without_write_access_pull_requests_are_suggested(hub, api, repo, token):
    with pytest.raises(HfHubHTTPError, match="create_pr=1") as refused:
        api.create_commit(repo, [add("a.txt", b"a")], commit_message="x", token=token)
    assert refused.value.response.status_code == 403
    assert len(api.list_repo_commits(repo)) == 1


def test_a_commit_to_a_missing_repository_or_branch(hub, api, repo):
    with pytest.raises(RepositoryNotFoundError):
        api.create_commit("someone/else", [add("a.txt", b"a")], commit_message="x")
    api.create_tag(repo, tag="v1")
    with pytest.raises(HfHubHTTPError, match="Invalid reference for a commit"):
        api.create_commit(repo, [add("a.txt", b"a")], commit_message="x", revision="v1")


def test_a_folder_is_uploaded_by_the_xet_pipeline_or_in_one_commit(hub, api, repo, mode, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_bytes(b"a")
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS)
    api.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert set(api.list_repo_files(repo)) == {".gitattributes", "sub/a.txt", "w.safetensors"}
    assert Path(hf_hub_download(repo, "w.safetensors")).read_bytes() == WEIGHTS


def test_another_process_uploads_by_xet(hub, api, repo, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS)
    code = f"""
from huggingface_hub import HfApi, CommitOperationAdd
operations = [CommitOperationAdd("w.safetensors", {str(tmp_path / "w.safetensors")!r})]
print(HfApi().create_commit({repo!r}, operations, commit_message="x").oid)
"""
    run = subprocess.run([sys.executable, "-c", code], env=hub.env, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == HfApi().model_info(repo).sha
    assert len(hub.calls("GET */xet-write-token/*")) == 1
    assert Path(hf_hub_download(repo, "w.safetensors")).read_bytes() == WEIGHTS
