"""Each kind of fault, as the client sees it."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

REPO = "someone/Axion"
BINARY = bytes(range(256)) * 400


@pytest.fixture
def repo(hub, api) -> str:
    """A repository with a text and a large file, and an empty log."""
    api.create_repo(REPO)
    files = {"weights.bin": BINARY, "notes.txt": b"notes, and more notes\n" * 50}
    api.create_commit(REPO, [CommitOperationAdd(*file) for file in files.items()], commit_message="x")
    hub.log.clear()
    return REPO


@pytest.mark.parametrize("kind", ["402", "429", "500", "503"])
def test_a_status_as_a_fault(hub, api, kind):
    hub.fail(kind, "POST /api/repos/create")
    with pytest.raises(HfHubHTTPError, match=kind) as failed:
        api.create_repo(REPO)
    assert failed.value.response.status_code == int(kind)
    assert hub.snapshot()["repos"] == {}
    assert ("ratelimit" in failed.value.response.headers) == (kind == "429")
    api.create_repo(REPO)


@pytest.mark.parametrize("kind", ["429", "503", "reset before", "reset after"])
def test_the_client_retries_a_preupload(hub, api, repo, kind):
    hub.fail(kind, "POST */preupload/*")
    api.create_commit(repo, [CommitOperationAdd("a.txt", b"a")], commit_message="x")
    assert len(hub.calls("POST */preupload/*")) == 2


@pytest.mark.parametrize(("kind", "happened"), [("reset before", False), ("reset after", True)])
def test_a_reset_at_the_commit_reaches_the_caller(hub, api, repo, kind, happened):
    head = api.model_info(repo).sha
    hub.fail(kind, "POST */commit/*")
    with pytest.raises(httpx2.NetworkError):
        api.create_commit(repo, [CommitOperationAdd("a.txt", b"a")], commit_message="x", parent_commit=head)
    assert api.file_exists(repo, "a.txt") == happened
    assert len(api.list_repo_commits(repo)) == 2 + happened
    assert [entry.status for entry in hub.log if "/commit/" in entry.path] == [None]


def test_an_interrupted_download_is_resumed(hub, repo, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.fail("truncated", "GET /storage/*")
    assert Path(hf_hub_download(repo, "weights.bin")).read_bytes() == BINARY
    assert [entry.status for entry in hub.log if entry.path.startswith("/storage/")] == [200, 206]


@pytest.mark.parametrize("kind", ["reset after", "reset within"])
def test_a_reset_within_a_download_reaches_the_caller(hub, repo, kind):
    hub.fail(kind, "GET /storage/*")
    with pytest.raises(httpx2.NetworkError):
        hf_hub_download(repo, "weights.bin")


@pytest.mark.parametrize("name", ["weights.bin", "notes.txt"])
def test_a_flipped_byte_passes_the_download_but_not_the_checksums(hub, api, repo, name):
    hub.fail("corrupted", "GET /storage/*" if name == "weights.bin" else f"GET */{name}")
    snapshot_download(repo)
    assert [wrong["path"] for wrong in api.verify_repo_checksums(repo).mismatches] == [name]


def test_the_nth_request_and_all_after_it(hub, api):
    hub.fail("500", nth=3)
    api.whoami()
    api.whoami()
    with pytest.raises(HfHubHTTPError):
        api.whoami()
    api.whoami()
    hub.fail("503", "GET /api/whoami-v2", nth=2, sticky=True)
    api.whoami()
    for _ in range(3):
        with pytest.raises(HfHubHTTPError):
            api.whoami()
    assert [entry.status for entry in hub.log] == [200, 200, 500, 200, 200, 503, 503, 503]


@pytest.mark.parametrize(("kind", "happened"), [("reset before", False), ("reset after", True)])
def test_a_process_is_killed_at_a_request(hub, api, kind, happened):
    code = f"from huggingface_hub import HfApi; HfApi().create_repo({REPO!r})"
    process = subprocess.Popen([sys.executable, "-c", code], env=hub.env, stderr=subprocess.PIPE)
    hub.fail(kind, "POST /api/repos/create", call=process.kill)
    process.communicate(timeout=30)
    assert process.returncode == -9
    assert (f"models/{REPO}" in hub.snapshot()["repos"]) == happened


def test_a_state_can_be_saved_and_restored(hub, api, repo):
    saved, before = hub.save(), hub.snapshot()
    hub.fail("500", sticky=True)
    for _ in range(2):
        hub.restore(saved)
        assert hub.snapshot() == before and hub.log == []
        api.delete_repo(repo)
    hub.fail("500", sticky=True)
    hub.heal()
    api.whoami()


def test_an_unknown_kind_is_an_error(hub):
    with pytest.raises(ValueError, match="reset before"):
        hub.fail("reset")


def test_unexpected_requests_are_refused_and_recorded(hub):
    for method, path, options in (
        ("GET", "/api/nothing", {}),
        ("POST", "/api/repos/create", {"json": {"name": "x", "colour": "red"}}),
        ("POST", "/api/repos/create", {"content": b"{"}),
        ("POST", f"/api/models/{REPO}/commit/main", {"content": b"", "headers": {"Content-Type": "text/plain"}}),
    ):
        headers = {"Authorization": f"Bearer {hub.token}"} | options.pop("headers", {})
        answer = httpx2.request(method, hub.url + path, headers=headers, **options)
        assert 400 <= answer.status_code < 500
    # The last request was refused because of its repository, before its body was checked.
    assert len(hub.surprises) == 3 and "hf_" not in "".join(hub.surprises)
    hub.surprises.clear()
