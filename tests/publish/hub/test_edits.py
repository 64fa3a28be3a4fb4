"""Others' edits of a release's files on the Hub are kept, or refused by name where they conflict with the release.

Edits of the card are in `test_delivery` and `test_merge`.
"""

import json

import pytest

from axion.errors import AxionError
from publish.hub import client
from publish.hub.delivery import AlreadyReleased, PushOptions
from publish.manifest import write_manifest
from tests.publish.uploads import REPO, add, edit, make_folder, send, text_of, tree

RESULTS = ".eval_results/gsm8k.yaml"
ENTRY = "- dataset:\n    id: openai/gsm8k\n    task_id: gsm8k\n  value: 0.5\n"
SIGNED = ENTRY + "  verifyToken: a-signature\n"


class Publisher:
    """Makes a fresh copy of the release for each delivery, as the pipeline does."""

    def __init__(self, folder):
        self.folder, self.turns = folder, 0

    def __call__(self, overwrite=(), tag="v0.2", **changes) -> list[dict]:
        """Deliver the release with some files changed: their names with __ for a dot."""
        self.turns += 1
        copy = make_folder(self.folder / str(self.turns), tag=tag)
        (copy / ".eval_results").mkdir()
        (copy / RESULTS).write_text(ENTRY)
        for name, text in changes.items():
            (copy / name.replace("__", ".")).write_text(text)
        write_manifest(copy, {"repo_id": REPO, "tag": tag})
        return send(copy, tag=tag, options=PushOptions(overwrite=frozenset(overwrite)))


@pytest.fixture
def publish(hub, tmp_path):
    """Delivers the release, which is on the Hub already."""
    deliver = Publisher(tmp_path)
    deliver()
    return deliver


def merged(steps: list[dict]) -> str:
    [step] = [step for step in steps if step["name"] == "merge"]
    return step["did"]


CARD = "---\nlicense: mit\n---\n\n<!-- axion:start what -->\nAnother card.\n<!-- axion:end what -->\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_rerun_leaves_an_edited_file_as_it_is_and_says_so(hub, publish, name):
    add(REPO, {name: "edited"})
    before = hub.snapshot()
    assert merged(publish()) == f"kept edits made on the Hub: {name}"
    assert hub.snapshot() == before


@pytest.mark.parametrize("text", ["edited", None], ids=["edited", "deleted"])
def test_a_push_that_would_revert_an_edit_is_refused_by_name(hub, publish, text):
    add(REPO, {"config.json": text})
    before = hub.snapshot()
    with pytest.raises(
        AxionError, match=r"others have changed .* config\.json; .*--overwrite someone/Tiny-2:config\.json$"
    ):
        publish(README__md=CARD)
    with pytest.raises(AxionError, match=r"--overwrite someone/Tiny-2:config\.json$"):
        publish(tag="v0.3", config__json='{"model_type": "axion", "more": 1}')
    assert hub.snapshot() == before
    publish(overwrite=["config.json"], README__md=CARD)
    assert "model_type" in text_of(hub, REPO, "config.json") and "Another card." in text_of(hub, REPO)


def test_signed_results_are_kept_by_every_later_push(hub, publish):
    add(REPO, {RESULTS: SIGNED})
    commits = tree(hub)["commits"]
    assert merged(publish()) == f"kept edits made on the Hub: {RESULTS}"
    assert text_of(hub, REPO, RESULTS) == SIGNED
    for turn in range(2):  # the manifest of the first push lists the signed file
        assert RESULTS in merged(publish(README__md=CARD.replace("Another", f"Card {turn}")))
        assert text_of(hub, REPO, RESULTS) == SIGNED
    assert tree(hub)["commits"] > commits


def test_results_signed_before_the_tag_do_not_make_it_another_release(hub, tmp_path, monkeypatch):
    """The publisher is killed between push and tag, the Hub signs the results, and the next run tags that file."""
    publish, killed = Publisher(tmp_path), pytest.MonkeyPatch()
    killed.setattr(client, "tag", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish()
    killed.undo()
    add(REPO, {RESULTS: SIGNED})
    publish()
    tagged = tree(hub, ref="refs/tags/v0.2")
    before = hub.snapshot()
    publish()
    assert hub.snapshot() == before and text_of(hub, REPO, RESULTS) == SIGNED
    publish(README__md=CARD)
    assert tree(hub, ref="refs/tags/v0.2") == tagged and text_of(hub, REPO, RESULTS) == SIGNED
    with pytest.raises(AlreadyReleased, match=r"gsm8k\.yaml"):
        publish(**{RESULTS.replace(".", "__"): ENTRY.replace("0.5", "0.6")})


def test_new_results_do_not_replace_signed_ones(publish):
    add(REPO, {RESULTS: SIGNED})
    with pytest.raises(AxionError, match=r"--overwrite someone/Tiny-2:\.eval_results/gsm8k\.yaml$"):
        publish(tag="v0.3", **{RESULTS.replace(".", "__"): ENTRY.replace("0.5", "0.6")})


def test_a_file_that_others_added_stays(hub, publish):
    add(REPO, {".eval_results/mmlu.yaml": ENTRY, "LICENSE": "MIT"})
    assert merged(publish(README__md=CARD)) == "no edits on the Hub"
    assert {".eval_results/mmlu.yaml", "LICENSE"} < set(tree(hub)["tree"])


@pytest.mark.parametrize("change", [lambda text: text[:20], lambda text: text.replace('"tag"', '"note": "x", "tag"')])
def test_an_edited_manifest_is_not_overwritten_by_default(hub, publish, change):
    edit(REPO, "release.json", change)
    with pytest.raises(AxionError, match=r"--overwrite someone/Tiny-2:release\.json$"):
        publish()
    publish(overwrite=["release.json"])
    assert json.loads(text_of(hub, REPO, "release.json"))["tag"] == "v0.2"
    assert "note" not in text_of(hub, REPO, "release.json")


FOREIGN = ["[]", *(f'{{"files": {files}}}' for files in ('["README.md"]', '{"../x": "0"}', "{}", '{"x": 1}'))]
OTHERS_KEPT = [json.dumps({"files": {"README.md": "0" * 64}, "kept": kept}) for kept in ([1], None, {"x": 1})]


@pytest.mark.parametrize("manifest", FOREIGN + OTHERS_KEPT)
def test_a_foreign_manifest_and_its_files_are_not_overwritten(hub, tmp_path, manifest):
    from huggingface_hub import HfApi

    HfApi().create_repo(REPO)
    add(REPO, {"release.json": manifest, "config.json": "theirs"})
    before = hub.snapshot()
    with pytest.raises(AxionError, match=r"config\.json, release\.json; .*:config\.json --overwrite .*:rel"):
        send(make_folder(tmp_path / "release"))
    assert hub.snapshot() == before


def test_a_card_that_is_not_text_is_reported_in_one_line(hub, publish):
    repo = hub.store.repos["models", REPO]
    head = repo.commits[repo.refs["refs/heads/main"]]
    blob = type(head.tree["README.md"])(b"\xff\xfe a card")
    repo.add_commit("refs/heads/main", head.tree | {"README.md": blob}, "mine", "", "somebody", 99)
    with pytest.raises(AxionError, match=r"is not UTF-8 text; .* --overwrite someone/Tiny-2:README\.md$"):
        publish(README__md=CARD)
