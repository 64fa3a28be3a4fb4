"""Deliveries to the loopback Hub through the real client: pushed, verified, tagged, and repeated."""

import re

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, metadata_load

from axion.errors import AxionError
from publish.hub.announce import link_to_new_version, snippet
from publish.hub.delivery import PushOptions
from publish.manifest import write_manifest
from tests.hub import accounts
from tests.hub.store import Blob
from tests.publish.uploads import OLD_REPO, REPO, edit, make_folder, send, text_of, tree


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "release")


def by_name(steps: list[dict]) -> dict[str, dict]:
    return {step["name"]: step for step in steps}


def test_a_new_repository_gets_one_commit_and_a_tag_on_it(hub, folder):
    steps = by_name(send(folder))
    assert list(steps) == ["lint", "push", "verify", "tag", "announce"]
    state = hub.snapshot()
    refs = state["repos"][f"models/{REPO}"]["refs"]
    assert refs["refs/heads/main"]["commits"] == 2  # the Hub's initial commit, and ours
    assert refs["refs/tags/v0.2"] == refs["refs/heads/main"]
    assert set(refs["refs/tags/v0.2"]["tree"]) == {".gitattributes", *(path.name for path in folder.iterdir())}
    (collection,) = state["collections"].values()
    assert collection["title"] == "Tiny" and [item["id"] for item in collection["items"]] == [REPO]
    assert hub.surprises == []


@pytest.mark.parametrize("xet", [True, False])
def test_both_ways_of_uploading_end_in_the_same_state(hub, folder, monkeypatch, xet):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    send(folder)
    assert any("xet-write-token" in call for call in hub.calls()) is xet
    refs = hub.snapshot()["repos"][f"models/{REPO}"]["refs"]
    assert refs["refs/tags/v0.2"] == refs["refs/heads/main"] and hub.surprises == []


def test_a_second_delivery_has_nothing_to_do(hub, folder):
    send(folder)
    before = hub.snapshot()
    steps = by_name(send(folder))
    assert all(steps[name]["skipped"] for name in ("lint", "push", "verify", "tag"))
    assert "v0.2 at" in steps["push"]["did"] and "verified before it was tagged" in steps["push"]["did"]
    assert hub.snapshot() == before


def test_a_release_tag_is_never_moved(hub, folder, tmp_path):
    send(folder)
    before = hub.snapshot()
    with pytest.raises(AxionError, match=r"has already released v0\.2 .* give the recipe a new version"):
        send(make_folder(tmp_path / "other", word="no"))
    assert hub.snapshot() == before


def test_a_new_card_is_pushed_without_moving_the_tag(hub, folder, tmp_path):
    send(folder)
    tagged = tree(hub, ref="refs/tags/v0.2")
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("Load it.", "Load it well."))
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.2"})
    steps = by_name(send(folder))
    assert "this commit only differs in its card, licence or results" in steps["tag"]["did"] and steps["tag"]["skipped"]
    assert tree(hub)["commits"] == 3 and tree(hub, ref="refs/tags/v0.2") == tagged
    assert "Load it well." in text_of(hub, REPO)


def test_others_edits_of_the_card_survive(hub, folder):
    send(folder)
    edit(
        REPO,
        "README.md",
        lambda card: card.replace("license: mit", "license: mit\nwidget: []") + "\nA reader's note.\n",
    )
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("Load it.", "Load it well."))
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.2"})
    steps = by_name(send(folder))
    card = text_of(hub, REPO)
    assert "A reader's note." in card and "Load it well." in card and "widget: []" in card
    assert "kept" in steps["merge"]["did"]


def test_an_edit_survives_any_number_of_publications(hub, folder, tmp_path):
    send(folder)
    edit(REPO, "README.md", lambda card: card.replace("- tiny", "- tiny\n- classroom") + "\nA reader's note.\n")
    for turn in range(3):
        again = make_folder(tmp_path / f"again-{turn}")
        (again / "README.md").write_text((again / "README.md").read_text().replace("Load it.", f"Load it, {turn}."))
        write_manifest(again, {"repo_id": REPO, "tag": "v0.2"})
        send(again)
        card = text_of(hub, REPO)
        assert "A reader's note." in card and "classroom" in card and f"Load it, {turn}." in card
    before = hub.snapshot()
    again = make_folder(tmp_path / "last")
    (again / "README.md").write_text((again / "README.md").read_text().replace("Load it.", "Load it, 2."))
    write_manifest(again, {"repo_id": REPO, "tag": "v0.2"})
    steps = by_name(send(again))
    assert steps["push"]["skipped"] and hub.snapshot() == before


def test_an_edit_of_our_own_text_is_refused_unless_the_card_is_to_be_replaced(hub, folder):
    send(folder)
    edit(REPO, "README.md", lambda card: card.replace("Load it.", "Burn it."))
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("Load it.", "Load it well."))
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.2"})
    before = hub.snapshot()
    with pytest.raises(AxionError, match=r"the section use; .*--overwrite someone/Tiny-2:README\.md$"):
        send(folder)
    assert hub.snapshot() == before
    send(folder, options=PushOptions(overwrite=frozenset(["README.md"])))
    assert "Load it well." in text_of(hub, REPO) and "Burn it." not in text_of(hub, REPO)


def test_a_repository_created_on_the_website_can_be_published_to(hub, folder):
    api = HfApi()
    api.create_repo(REPO)
    operation = CommitOperationAdd("README.md", b"---\nlicense: mit\n---\n")
    api.create_commit(REPO, [operation], commit_message="initial commit")
    send(folder)
    assert text_of(hub, REPO) == (folder / "README.md").read_text()


def test_somebody_elses_card_is_not_overwritten(hub, folder):
    api = HfApi()
    api.create_repo(REPO)
    api.create_commit(REPO, [CommitOperationAdd("README.md", b"# My model\n\nWith a text.\n")], commit_message="mine")
    with pytest.raises(AxionError, match=r"--overwrite someone/Tiny-2:README\.md$"):
        send(folder)
    assert "With a text." in text_of(hub, REPO)


def test_files_that_others_added_stay_and_obsolete_ones_are_deleted(hub, folder):
    (folder / "old.txt").write_text("of an earlier release\n")
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.1"})
    send(folder, tag="v0.1")
    HfApi().create_commit(REPO, [CommitOperationAdd("theirs.txt", b"a reader's\n")], commit_message="more")
    (folder / "old.txt").unlink()
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.2"})
    send(folder)
    assert "theirs.txt" in tree(hub)["tree"] and "old.txt" not in tree(hub)["tree"]
    assert "old.txt" in tree(hub, ref="refs/tags/v0.1")["tree"]


def test_a_change_between_reading_and_pushing_is_not_overwritten(hub, folder):
    send(folder)
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("Load it.", "Load it well."))
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.2"})
    repo = hub.store.repos["models", REPO]

    def interfere():
        head = repo.commits[repo.refs["refs/heads/main"]]
        repo.add_commit("refs/heads/main", head.tree, "meanwhile", "", "somebody", 99)

    hub.fail("reset before", "POST */commit/*", call=interfere)
    with pytest.raises(AxionError, match="has changed in the meantime: run the same command again"):
        send(folder)
    send(folder)
    assert tree(hub)["commits"] == 4 and "Load it well." in text_of(hub, REPO)


def test_a_conflict_with_an_identical_commit_is_not_an_error(hub, folder, tmp_path):
    """Two publishers push the same release: either commit will do."""
    send(folder)
    repo = hub.store.repos["models", REPO]
    ours = repo.commits[repo.refs.pop("refs/tags/v0.2")]
    repo.refs["refs/heads/main"] = ours.parent  # as if it had never been pushed

    def land():
        repo.add_commit("refs/heads/main", ours.tree, "the same", "", "somebody", 99)

    hub.fail("412", "POST */commit/*", call=land)
    send(make_folder(tmp_path / "same"))
    assert tree(hub)["commits"] == 2 and tree(hub, ref="refs/tags/v0.2") == tree(hub)


def test_a_branch_and_a_pull_request_are_verified_and_not_tagged(hub, folder):
    send(folder)
    (folder / "config.json").write_text('{"model_type": "axion", "more": 1}\n')
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.2"})
    steps = by_name(send(folder, options=PushOptions(branch="trial")))
    assert "branch trial" in steps["tag"]["did"] and not steps["verify"]["skipped"]
    for _ in range(2):
        steps = by_name(send(folder, options=PushOptions(pull_request=True)))
        assert "pull request" in steps["tag"]["did"]
    state = hub.snapshot()["repos"][f"models/{REPO}"]
    assert len(state["pulls"]) == 1 and state["refs"]["refs/heads/main"]["commits"] == 2
    assert state["refs"]["refs/pr/1"]["tree"] == state["refs"]["refs/heads/trial"]["tree"]
    assert [ref for ref in state["refs"] if "tags" in ref] == ["refs/tags/v0.2"]


def test_a_new_repository_can_be_private(hub, folder):
    send(folder, options=PushOptions(private=True))
    assert hub.snapshot()["repos"][f"models/{REPO}"]["private"] is True


def test_the_preceding_version_links_to_the_new_one(hub, folder, tmp_path):
    old = make_folder(tmp_path / "old", OLD_REPO, tag="v0.1")
    send(old, OLD_REPO, "v0.1")
    send(folder)
    (tmp_path / "card.md").write_text(text_of(hub, OLD_REPO))
    assert metadata_load(tmp_path / "card.md")["new_version"] == REPO
    commits = tree(hub, OLD_REPO)["commits"]
    send(folder)
    assert tree(hub, OLD_REPO)["commits"] == commits
    for turn in ("again", "and again"):  # the first time, the manifest records the edited card
        send(make_folder(tmp_path / turn, OLD_REPO, tag="v0.1"), OLD_REPO, "v0.1")
        assert "new_version" in text_of(hub, OLD_REPO) and tree(hub, OLD_REPO)["commits"] == commits + 1


def test_a_hand_made_card_of_the_preceding_version_gets_no_link(hub, folder):
    api = HfApi()
    api.create_repo(OLD_REPO)
    repo = hub.store.repos["models", OLD_REPO]
    head = repo.commits[repo.refs["refs/heads/main"]]
    for card in (b"---\n- a list\n---\n", b"---\nlicense: [mit\n---\n", b"\xff\xfe"):
        repo.add_commit("refs/heads/main", head.tree | {"README.md": Blob(card)}, "mine", "", "someone", 99)
        assert link_to_new_version(OLD_REPO, REPO).startswith(f"no link from {OLD_REPO}, whose card cannot be read: ")
    repo.add_commit("refs/heads/main", head.tree | {"README.md": Blob(b"# Mine\n")}, "mine", "", "someone", 99)
    assert link_to_new_version(OLD_REPO, REPO) == f"{OLD_REPO} links to it"
    assert text_of(hub, OLD_REPO).endswith("# Mine\n")


def test_a_token_for_one_repository_cannot_link_another(hub, folder, monkeypatch, tmp_path):
    send(make_folder(tmp_path / "old", OLD_REPO, tag="v0.1"), OLD_REPO, "v0.1")
    monkeypatch.setenv("HF_TOKEN", accounts.SOMEONE_FINE)
    assert (
        link_to_new_version(OLD_REPO, "someone/Tiny-3")
        == f"no link from {OLD_REPO}: the token has no write access to it"
    )


def test_the_printed_snippet_does_not_prompt_the_user(hub):
    loads = re.findall(r"from_pretrained\((.*)\)", snippet(REPO, "v0.2"))
    assert len(loads) == 2 and all("revision=revision, trust_remote_code=True" in load for load in loads)


def test_a_download_that_stays_damaged_is_never_tagged(hub, folder):
    hub.fail("corrupted", "GET /storage/*", sticky=True)
    with pytest.raises(AxionError, match=r"checksum of model\.safetensors does not match"):
        send(folder)
    assert "refs/tags/v0.2" not in hub.snapshot()["repos"][f"models/{REPO}"]["refs"]


def test_a_check_that_fails_pushes_nothing(hub, folder):
    (folder / "config.json").write_text("{}")
    with pytest.raises(AxionError, match=r"config\.json does not match its sha256"):
        send(folder)
    assert hub.snapshot()["repos"] == {}


def test_a_repository_that_somebody_else_creates_meanwhile_is_not_overwritten(hub, folder):
    """Someone else creates the repository with a card between the first check, which finds nothing, and the push."""

    def create():
        repo = hub.store.create_repo("models", REPO, "teammate")
        head = repo.commits[repo.refs["refs/heads/main"]]
        tree = head.tree | {"README.md": Blob(b"# A colleague's card")}
        repo.add_commit("refs/heads/main", tree, "mine", "", "teammate", 99)

    hub.fail("reset before", "POST /api/repos/create", call=create)
    with pytest.raises(AxionError, match="has changed in the meantime: run the same command again"):
        send(folder)
    assert text_of(hub, REPO) == "# A colleague's card"
    assert list(hub.snapshot()["repos"][f"models/{REPO}"]["refs"]) == ["refs/heads/main"]


def test_a_repository_that_seems_missing_for_a_moment_is_not_overwritten(hub, folder):
    send(folder)
    edit(REPO, "README.md", lambda card: card + "\nA reader's note.\n")
    before = hub.snapshot()
    for nth in (1, 2):  # the branch, which is main, and main itself
        hub.fail("404", "GET */revision/main", nth)
    with pytest.raises(AxionError, match="has changed in the meantime: run the same command again"):
        send(folder)
    assert hub.snapshot() == before


def test_private_onto_a_public_repository_is_refused(hub, folder):
    HfApi().create_repo(REPO)
    before = hub.snapshot()
    with pytest.raises(AxionError, match="exists and is public, and --private does not change that"):
        send(folder, options=PushOptions(private=True))
    assert hub.snapshot() == before


def test_a_gitignore_that_would_drop_a_file_is_an_error_that_names_it(hub, folder):
    api = HfApi()
    api.create_repo(REPO)
    api.create_commit(REPO, [CommitOperationAdd(".gitignore", b"*.safetensors\n")], commit_message="mine")
    before = hub.snapshot()
    with pytest.raises(AxionError, match=r"the \.gitignore of someone/Tiny-2 names model\.safetensors"):
        send(folder)
    assert hub.snapshot() == before
    api.create_commit(REPO, [CommitOperationAdd(".gitignore", b"*.tmp\n")], commit_message="mine")
    send(folder)
    assert ".gitignore" in tree(hub)["tree"]


def test_a_pull_request_needs_no_write_access(hub, folder, monkeypatch, tmp_path):
    send(folder)
    monkeypatch.setenv("HF_TOKEN", accounts.STRANGER)
    (folder / "config.json").write_text('{"model_type": "axion", "more": 1}\n')
    write_manifest(folder, {"repo_id": REPO, "tag": "v0.2"})
    with pytest.raises(AxionError, match="HTTP 403"):
        send(folder, options=PushOptions(branch="trial"))
    send(folder, options=PushOptions(pull_request=True))
    [pull] = hub.snapshot()["repos"][f"models/{REPO}"]["pulls"]
    assert pull["status"] == "open"


def test_a_tag_that_the_hub_does_not_show_is_reported_in_one_line(hub, folder, monkeypatch):
    monkeypatch.setattr(HfApi, "create_tag", lambda *arguments, **options: None)
    with pytest.raises(AxionError, match=r"does not show the new tag v0\.2 .*run the same command again"):
        send(folder)
