"""Accounts, repositories, branches and tags, as the client sees them."""

import pytest
from huggingface_hub import HfApi, create_repo, model_info
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import accounts

REPO = "someone/Axion-0.1"


def test_whoami_describes_the_account_and_its_token(hub, api):
    me = api.whoami()
    assert (me["name"], me["auth"]["accessToken"]["role"]) == ("someone", "write")
    assert [org["name"] for org in me["orgs"]] == ["team"]
    assert api.whoami(accounts.SOMEONE_READS)["auth"]["accessToken"]["role"] == "read"
    fine = api.whoami(accounts.SOMEONE_FINE)["auth"]["accessToken"]
    assert fine["fineGrained"]["scoped"][0]["entity"]["name"] == "someone/fine"


def test_an_unknown_token_is_refused_everywhere(hub, api):
    api.create_repo(REPO)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(accounts.UNKNOWN)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as refused:
        api.model_info(REPO, token=accounts.UNKNOWN)
    assert not isinstance(refused.value, RepositoryNotFoundError)


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_new_repository_has_its_first_commit(hub, api, kind):
    url = api.create_repo(REPO, repo_type=kind, private=True)
    assert url.repo_id == REPO and url.repo_type == kind and str(url).startswith(hub.url)
    info = api.repo_info(REPO, repo_type=kind)
    assert info.private and [sibling.rfilename for sibling in info.siblings] == [".gitattributes"]
    assert [commit.title for commit in api.list_repo_commits(REPO, repo_type=kind)] == ["initial commit"]


def test_creating_a_repository_twice_is_an_error_unless_exist_ok(hub, api):
    api.create_repo(REPO)
    with pytest.raises(HfHubHTTPError, match="already created") as refused:
        api.create_repo(REPO)
    assert refused.value.response.status_code == 409
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    # Without permission to create it, the client checks whether the repository already exists.
    assert api.create_repo(REPO, exist_ok=True, token=accounts.STRANGER).repo_id == REPO


def test_module_level_functions_reach_the_hub_too(hub):
    create_repo(REPO)
    assert model_info(REPO).id == REPO


@pytest.mark.parametrize("token", [accounts.SOMEONE_READS, accounts.SOMEONE_FINE, accounts.STRANGER])
def test_creating_without_permission(hub, api, token):
    with pytest.raises(HfHubHTTPError, match="don't have the rights to create a model under the namespace") as refused:
        api.create_repo(REPO, token=token)
    assert refused.value.response.status_code == 403
    assert hub.snapshot()["repos"] == {}


def test_private_repositories_are_hidden_from_others(hub, api):
    api.create_repo(REPO, private=True)
    for token in (False, accounts.STRANGER, accounts.SOMEONE_FINE):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(REPO, token=token)
        with pytest.raises(RepositoryNotFoundError):
            api.auth_check(REPO, token=token)
    assert api.model_info(REPO, token=accounts.SOMEONE_READS).private


def test_write_permissions(hub, api):
    api.create_repo(REPO)
    api.create_repo("someone/fine")
    api.create_repo("team/shared")
    api.auth_check(REPO, write=True)
    api.auth_check("someone/fine", write=True, token=accounts.SOMEONE_FINE)
    api.auth_check("team/shared", write=True, token=accounts.TEAMMATE)
    for token in (accounts.SOMEONE_READS, accounts.SOMEONE_FINE, accounts.STRANGER):
        api.auth_check(REPO, token=token)
        with pytest.raises(HfHubHTTPError) as refused:
            api.auth_check(REPO, write=True, token=token)
        assert refused.value.response.status_code == 403
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check(REPO, write=True, token=False)


def test_settings_moving_and_deleting(hub, api):
    api.create_repo(REPO)
    api.update_repo_settings(REPO, private=True, gated="auto")
    assert api.model_info(REPO).private and api.model_info(REPO).gated == "auto"
    api.move_repo(REPO, "team/Axion")
    assert list(hub.snapshot()["repos"]) == ["models/team/Axion"]
    api.delete_repo("team/Axion")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("team/Axion")
    api.delete_repo("team/Axion", missing_ok=True)


def test_a_gated_model_is_visible_but_not_readable(hub, api):
    api.create_repo(REPO)
    api.update_repo_settings(REPO, gated="manual")
    assert api.model_info(REPO, token=accounts.STRANGER).gated == "manual"
    with pytest.raises(GatedRepoError):
        api.hf_hub_download(REPO, ".gitattributes", token=accounts.STRANGER)


def test_tags_and_branches(hub, api):
    api.create_repo(REPO)
    head = api.model_info(REPO).sha
    api.create_tag(REPO, tag="v0.1", revision=head)
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(REPO, tag="v0.1")
    assert refused.value.response.status_code == 409
    api.create_tag(REPO, tag="v0.1", exist_ok=True)
    api.create_branch(REPO, branch="feature/x", revision="v0.1")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_branch(REPO, branch="feature/x")
    assert refused.value.response.status_code == 409
    refs = api.list_repo_refs(REPO, include_pull_requests=True)
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v0.1", head)]
    assert [ref.name for ref in refs.branches] == ["feature/x", "main"] and refs.pull_requests == []
    assert api.model_info(REPO, revision="feature/x").sha == api.model_info(REPO, revision=head[:7]).sha == head
    api.delete_tag(REPO, tag="v0.1")
    api.delete_branch(REPO, branch="feature/x")
    for wrong in (lambda: api.delete_tag(REPO, tag="v0.1"), lambda: api.model_info(REPO, revision="feature/x")):
        with pytest.raises(RevisionNotFoundError):
            wrong()
    with pytest.raises(BadRequestError):
        api.create_branch(REPO, branch="refs/pr/1")
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(REPO, tag="v0.2", revision="nowhere")


def test_no_log_contains_a_token(hub, api):
    HfApi(token=accounts.STRANGER).whoami()
    api.create_repo(REPO)
    assert [entry.authorized for entry in hub.log] == [True, True]
    assert "hf_" not in repr(hub.log)
