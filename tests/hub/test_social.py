"""Collections, discussions and pull requests."""

import pytest
from huggingface_hub import CommitOperationAdd, list_collections
from huggingface_hub.errors import HfHubHTTPError

from tests.hub import accounts

REPO = "someone/Axion"


@pytest.fixture
def repo(api) -> str:
    api.create_repo(REPO)
    return REPO


def test_items_are_added_to_a_collection(hub, api, repo):
    api.create_repo("someone/Axion-demo", repo_type="space", space_sdk="static")
    made = api.create_collection("Axion models", description="small ones")
    assert made.slug.startswith("someone/axion-models-") and made.items == [] and made.url.startswith(hub.url)
    api.add_collection_item(made.slug, repo, "model", note="the newest")
    api.add_collection_item(made.slug, "someone/Axion-demo", "space")
    found = api.get_collection(made.slug)
    assert [(item.item_id, item.item_type, item.note) for item in found.items] == [
        (repo, "model", "the newest"),
        ("someone/Axion-demo", "space", None),
    ]
    api.update_collection_item(made.slug, found.items[1].item_object_id, position=0, note="try it")
    assert [item.note for item in api.get_collection(made.slug).items] == ["try it", "the newest"]
    api.delete_collection_item(made.slug, found.items[0].item_object_id)
    assert [item.item_type for item in api.get_collection(made.slug).items] == ["space"]
    changed = api.update_collection_metadata(made.slug, title="Axion", theme="pink")
    assert changed.slug == f"someone/axion-{made.slug.rsplit('-', 1)[1]}"
    api.delete_collection(changed.slug)
    assert hub.snapshot()["collections"] == {}


def test_creating_a_collection_twice(hub, api, repo):
    made = api.create_collection("Axion", private=True)
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_collection("Axion")
    assert refused.value.response.status_code == 409
    assert api.create_collection("Axion", exists_ok=True).slug == made.slug
    api.add_collection_item(made.slug, repo, "model")
    with pytest.raises(HfHubHTTPError) as refused:
        api.add_collection_item(made.slug, repo, "model")
    assert refused.value.response.status_code == 409
    assert len(api.add_collection_item(made.slug, repo, "model", exists_ok=True).items) == 1


def test_an_owners_collections_are_listed(hub, api):
    titles = [f"number {number}" for number in range(hub.store.page + 2)]
    for title in titles:
        api.create_collection(title)
    api.create_collection("of the team", namespace="team")
    assert [found.title for found in list_collections(owner="someone")] == titles


def test_permissions_of_collections(hub, api, repo):
    slug = api.create_collection("Axion").slug
    hidden = api.create_collection("hidden", private=True).slug
    assert api.get_collection(slug, token=False).title == "Axion"
    for call in (
        lambda: api.get_collection(hidden, token=False),
        lambda: api.add_collection_item(slug, repo, "model", token=accounts.STRANGER),
        lambda: api.add_collection_item(slug, repo, "model", token=accounts.SOMEONE_READS),
        lambda: api.create_collection("mine", namespace="team", token=accounts.STRANGER),
        lambda: api.add_collection_item(slug, "someone/nothing", "model"),
    ):
        with pytest.raises(HfHubHTTPError):
            call()


def test_a_strangers_pull_request_can_be_read_and_merged(hub, api, repo, mode):
    operations = [CommitOperationAdd("a.txt", b"theirs"), CommitOperationAdd("w.bin", bytes(1000))]
    made = api.create_commit(repo, operations, commit_message="Mine", create_pr=True, token=accounts.STRANGER)
    assert made.pr_num == 1 and made.pr_revision == "refs/pr/1" and made.pr_url == f"{hub.url}/{repo}/discussions/1"
    assert not api.file_exists(repo, "a.txt") and api.file_exists(repo, "a.txt", revision="refs/pr/1")
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests] == [("refs/pr/1", made.oid)]
    api.create_commit(
        repo, [CommitOperationAdd("b.txt", b"b")], commit_message="more", revision="refs/pr/1", parent_commit=made.oid
    )
    api.create_commit(repo, [CommitOperationAdd("c.txt", b"c")], commit_message="meanwhile")
    details = api.get_discussion_details(repo, 1)
    assert details.is_pull_request and details.author == "stranger" and details.conflicting_files == []
    with pytest.raises(HfHubHTTPError):
        api.merge_pull_request(repo, 1, token=accounts.STRANGER)
    api.merge_pull_request(repo, 1)
    assert set(api.list_repo_files(repo)) == {".gitattributes", "a.txt", "b.txt", "c.txt", "w.bin"}
    assert api.get_discussion_details(repo, 1).status == "merged"
    assert api.get_discussion_details(repo, 1).merge_commit_oid == api.model_info(repo).sha


def test_a_pull_request_with_a_conflict_is_not_merged(hub, api, repo):
    api.create_commit(repo, [CommitOperationAdd("a.txt", b"theirs")], commit_message="x", create_pr=True)
    api.create_commit(repo, [CommitOperationAdd("a.txt", b"ours")], commit_message="y")
    assert api.get_discussion_details(repo, 1).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match="Conflicts in a"):
        api.merge_pull_request(repo, 1)


def test_discussions(hub, api, repo):
    api.create_discussion(repo, "A question", description="Why?", token=accounts.STRANGER)
    pull = api.create_pull_request(repo, "A change")
    assert pull.status == "draft" and pull.git_reference == "refs/pr/2"
    assert api.comment_discussion(repo, 1, "Because.").content == "Because."
    assert [found.title for found in api.get_repo_discussions(repo)] == ["A question", "A change"]
    api.change_discussion_status(repo, 1, "closed")
    assert [found.num for found in api.get_repo_discussions(repo, discussion_status="open")] == [2]
    assert [type(event).__name__ for event in api.get_discussion_details(repo, 1).events] == [
        "DiscussionComment",
        "DiscussionComment",
        "DiscussionStatusChange",
    ]
