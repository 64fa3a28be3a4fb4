"""Downloads: whole releases, single files, at every kind of revision, checked against the Hub's checksums."""

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, hf_hub_download, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub.conftest import FILES, RELEASE

REPO = "someone/Axion-0.1"


@pytest.fixture
def released(api) -> str:
    """The bundled release, pushed and tagged v0.1; the sha of its commit."""
    api.create_repo(REPO, private=True)
    made = api.create_commit(REPO, [CommitOperationAdd(name, RELEASE / name) for name in FILES], commit_message="v0.1")
    api.create_tag(REPO, tag="v0.1", revision=made.oid)
    return made.oid


@pytest.mark.parametrize("revision", ["main", "v0.1", "sha"])
def test_a_release_is_downloaded_completely(hub, api, released, revision):
    revision = released if revision == "sha" else revision
    folder = Path(snapshot_download(REPO, revision=revision))
    for name in FILES:
        assert (folder / name).read_bytes() == (RELEASE / name).read_bytes()
    assert folder.is_relative_to(hub.home)
    checked = api.verify_repo_checksums(REPO, revision=revision)
    assert checked.checked_count == len(FILES) + 1
    assert not checked.mismatches and not checked.missing_paths and not checked.extra_paths


def test_a_changed_file_fails_the_checksums(api, released):
    folder = Path(snapshot_download(REPO, revision="v0.1"))
    weights = (folder / "model.safetensors").resolve()
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    assert [wrong["path"] for wrong in api.verify_repo_checksums(REPO, revision="v0.1").mismatches] == [
        "model.safetensors"
    ]


def test_long_trees_are_paginated(hub, api, released):
    entries = list(api.list_repo_tree(REPO, recursive=True))
    assert [entry.path for entry in entries if hasattr(entry, "blob_id")] == sorted([".gitattributes", *FILES])
    assert len(hub.calls("GET */tree/*")) == -(-len(entries) // hub.store.page) > 1
    for number in range(hub.store.page):
        api.create_commit(REPO, [CommitOperationAdd("n.txt", str(number).encode())], commit_message=str(number))
    assert [commit.title for commit in api.list_repo_commits(REPO)][-2:] == ["v0.1", "initial commit"]


def test_the_hubs_information_about_a_release(api, released):
    info = api.model_info(REPO, files_metadata=True)
    assert info.sha == released and info.library_name == "transformers" and "license:mit" in info.tags
    assert info.card_data.license == "mit" and info.safetensors.total > 100_000
    assert info.config["model_type"] == "axion" and info.pipeline_tag == "text-generation"
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
    assert sizes["model.safetensors"] == (RELEASE / "model.safetensors").stat().st_size
    paths = api.get_paths_info(REPO, ["model.safetensors", "config.json", "nothing"])
    assert sorted(entry.path for entry in paths) == ["config.json", "model.safetensors"]
    assert {sibling.rfilename for sibling in api.model_info(REPO, expand=["siblings"]).siblings} == set(sizes)
    assert api.model_info(REPO, expand=["sha"]).siblings is None


def test_results_of_benchmarks_are_read_from_their_folder(api, released):
    result = b"- dataset: {id: cais/hle, task_id: hle}\n  value: 20.9\n  date: 2026-01-02\n"
    api.create_commit(REPO, [CommitOperationAdd(".eval_results/hle.yaml", result)], commit_message="x")
    found = {result.dataset_id: result.value for result in api.model_info(REPO).eval_results}
    assert found["cais/hle"] == 20.9


def test_missing_files(hub, released):
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(REPO, "added_tokens.json", revision="v0.1")
    assert type(try_to_load_from_cache(REPO, "added_tokens.json", revision="v0.1")) is object
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(REPO, "config.json", revision="v9")


def test_a_private_file_needs_a_token(hub, released):
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download(REPO, "config.json", token=False)


def test_large_files_are_redirected_without_the_token(hub, released):
    hf_hub_download(REPO, "model.safetensors")
    download = next(entry for entry in hub.log if entry.path.startswith("/storage/"))
    assert (download.method, download.status, download.authorized) == ("GET", 200, False)
    assert any(entry.authorized for entry in hub.log if "/resolve/" in entry.path)


def test_range_requests(hub, released):
    headers = {"Authorization": f"Bearer {hub.token}", "Range": "bytes=10-19"}
    for name in ("config.json", "model.safetensors"):
        answer = httpx2.get(hf_hub_url(REPO, name), headers=headers, follow_redirects=False)
        if answer.is_redirect:
            answer = httpx2.get(answer.headers["location"], headers={"Range": "bytes=10-19"})
        content = (RELEASE / name).read_bytes()
        assert answer.status_code == 206 and answer.content == content[10:20]
        assert answer.headers["content-range"] == f"bytes 10-19/{len(content)}"
