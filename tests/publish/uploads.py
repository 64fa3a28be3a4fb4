"""A delivery that takes milliseconds: a folder like a release, and checks that load no model.

This module does not import torch, so that processes that are killed start fast.
"""

import json
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import disable_progress_bars

from publish.hub.announce import add_to_collection, link_to_new_version
from publish.hub.delivery import Checks, Download, PushOptions, ReleaseUpload, deliver
from publish.manifest import check_files, write_manifest
from publish.steps import Steps

disable_progress_bars()

REPO, OLD_REPO = "someone/Tiny-2", "someone/Tiny-1"
CARD = """---
license: mit
language:
- en
tags:
- tiny
---

<!-- axion:start what -->
# {repo}

A model that says {word}.
<!-- axion:end what -->

<!-- axion:start use -->
Load it.
<!-- axion:end use -->
"""


def make_folder(folder: Path, repo_id: str = REPO, word: str = "yes", tag: str = "v0.2") -> Path:
    """Write a folder with a card, a text, weights and a manifest."""
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD.format(repo=repo_id, word=word))
    (folder / "config.json").write_text('{"model_type": "axion"}\n')
    (folder / "model.safetensors").write_bytes(word.encode() * 1000)
    write_manifest(folder, {"repo_id": repo_id, "tag": tag})
    return folder


def edit(repo_id: str, name: str, change: Callable[[str], str]) -> None:
    """Edit a file on the Hub, as somebody else."""
    api = HfApi()
    text = Path(api.hf_hub_download(repo_id, name)).read_bytes().decode()
    add(repo_id, {name: change(text)})


def add(repo_id: str, files: dict[str, str | None]) -> None:
    """Write files on the Hub, as somebody else; None deletes one."""
    operations = [
        CommitOperationDelete(name) if text is None else CommitOperationAdd(name, text.encode())
        for name, text in files.items()
    ]
    HfApi().create_commit(repo_id, operations, commit_message="An edit on the Hub")


def tree(hub, repo_id: str = REPO, ref: str = "refs/heads/main") -> dict:
    """The number of commits of a ref on the Hub, and the sha256 of each file."""
    return hub.snapshot()["repos"][f"models/{repo_id}"]["refs"][ref]


def text_of(hub, repo_id: str, name: str = "README.md") -> str:
    """The text of a file at the head of main."""
    repo = hub.store.repos["models", repo_id]
    return repo.commits[repo.refs["refs/heads/main"]].tree[name].data.decode()


def send(
    folder: Path, repo_id: str = REPO, tag: str = "v0.2", options: PushOptions | None = None, events=None
) -> list[dict]:
    """Deliver and announce. Verified commits are appended to `events`. Returns the steps."""
    events = [] if events is None else events

    def check_download(download: Download) -> str:
        check_files(download.folder)
        events.append(download.commit)
        return "checked"

    def check_staged(folder: Path) -> str:
        check_files(folder)
        return "fine"

    steps, options = Steps(lambda line: None), options or PushOptions()
    deliver(
        ReleaseUpload(folder, repo_id, tag, f"Release {tag}"),
        options,
        Checks({"lint": check_staged}, check_download),
        steps,
    )
    if options.is_release:
        with steps.step("announce") as did:
            did(add_to_collection(repo_id, "Tiny"))
            did(link_to_new_version(OLD_REPO, REPO) or "first of its series")
    return steps.as_json()


def send_and_log(folder: Path, log: Path) -> None:
    """Deliver, for a process that a test may kill, and write the verified commits to `log`."""
    verified: list[str] = []
    try:
        send(folder, events=verified)
    finally:
        log.write_text(json.dumps(verified))
