"""Pushing and tagging, with the client's own methods replaced: no network."""

from types import SimpleNamespace

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from axion.errors import AxionError
from publish import hub

REPO = "someone/Axion1-350k-A250k"
SECRET = "hf_" + "abcdefghijklmnop"


class FakeHub:
    """What the Hub's client was asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.calls, self.commits, self.tags = [], [], {}
        for name in ("create_repo", "model_info", "create_commit", "list_repo_refs", "create_tag"):
            monkeypatch.setattr(HfApi, name, self._recorder(name))

    def _recorder(self, name):
        def call(api, *args, **kwargs):
            self.calls.append(name)
            return getattr(self, name)(*args, **kwargs)

        return call

    def create_repo(self, repo_id, private=None, exist_ok=False):
        self.private = private
        assert exist_ok

    def model_info(self, repo_id):
        return SimpleNamespace(sha="0" * 40)

    def create_commit(self, repo_id, operations, commit_message, parent_commit):
        self.commits.append({operation.path_in_repo: operation.path_or_fileobj for operation in operations})
        self.parent, self.message = parent_commit, commit_message
        return SimpleNamespace(oid="1" * 40)

    def list_repo_refs(self, repo_id):
        return SimpleNamespace(tags=[SimpleNamespace(name=n, target_commit=c) for n, c in self.tags.items()])

    def create_tag(self, repo_id, tag, revision):
        self.tags[tag] = revision


@pytest.fixture
def fake(monkeypatch):
    return FakeHub(monkeypatch)


def refusal(status: int, message: str = "") -> HfHubHTTPError:
    request = httpx2.Request("POST", "https://huggingface.co/api")
    response = httpx2.Response(status, request=request)
    return HfHubHTTPError(message or f"{status} error", response=response, server_message=message)


def test_push_is_one_commit_of_the_allowed_files_on_the_head_that_was_read(fake, tmp_path):
    for name in ("a.txt", "b.txt", "private.key"):
        (tmp_path / name).write_text(name)
    commit = hub.push(tmp_path, ["a.txt", "b.txt"], REPO, "Release", private=True)
    assert commit == "1" * 40
    assert fake.commits == [{name: str(tmp_path / name) for name in ("a.txt", "b.txt")}]
    assert fake.parent == "0" * 40 and fake.message == "Release" and fake.private is True
    assert fake.calls == ["create_repo", "model_info", "create_commit"]


def test_tag_is_made_once_and_never_moves(fake):
    assert hub.tag(REPO, "v0.1", "1" * 40) is True
    assert hub.tag(REPO, "v0.1", "1" * 40) is False
    with pytest.raises(AxionError, match="a released tag does not move"):
        hub.tag(REPO, "v0.1", "2" * 40)
    assert fake.tags == {"v0.1": "1" * 40} and fake.calls.count("create_tag") == 1


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (refusal(401), "hf auth login"),
        (refusal(403), "write role"),
        (refusal(412), "has changed meanwhile"),
        (refusal(500, "it is broken\nmore lines"), "it is broken$"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        (httpx2.ConnectError("no route to host"), "not to be reached"),
        (refusal(400, f"bad token {SECRET}"), "bad token hf_…$"),
    ],
)
def test_refusals_are_one_line_of_advice_without_a_token(fake, monkeypatch, tmp_path, error, advice):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(HfApi, "create_commit", fail)
    with pytest.raises(AxionError, match=advice) as caught:
        hub.push(tmp_path, [], REPO, "Release")
    assert "\n" not in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize("repo_id", ["", "Axion1", "a/b/c", "some one/Axion1", "someone/Axion1..x", "someone/-Axion1"])
def test_repository_names_that_the_hub_would_refuse(repo_id):
    with pytest.raises(AxionError, match="--repo-id"):
        hub.check_repo_id(repo_id)


def test_a_name_with_a_dot_is_fine():
    hub.check_repo_id("someone/Axion1-v0.1")


def test_token_is_found_in_the_environment_alone(monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(AxionError, match="hf auth login"):
        hub.check_token()
    monkeypatch.setattr(hub, "get_token", lambda: SECRET)
    hub.check_token()
