"""The state of the Hub, all in memory: repositories with real git object names, commits as immutable trees, refs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.hub.accounts import TOKENS, Token

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
"""The prefix in a URL → the name of the type."""
_LFS_PATTERNS = """
*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx *.ot
*.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm
*.xz *.zip *.zst *tfevents*
"""
LFS_PATTERNS = _LFS_PATTERNS.split()
"""The LFS patterns in the .gitattributes of a new repository."""
LFS_LINE = "{} filter=lfs diff=lfs merge=lfs -text\n"
SPACE_README = """---
title: {title}
emoji: 🌍
colorFrom: blue
colorTo: green
sdk: {sdk}
pinned: false
---

Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference
"""
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def git_sha1(kind: str, content: bytes) -> str:
    """The git object id (sha1) of an object."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def stamp(moment: int) -> str:
    """A timestamp as the Hub writes it. Time is a count of changes, so that runs are reproducible."""
    return (EPOCH + timedelta(seconds=moment)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(frozen=True)
class Blob:
    """A file's content, in git or in LFS."""

    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git stores of it: the content or the LFS pointer."""
        if not self.lfs:
            return self.data
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        return text.encode()

    @cached_property
    def oid(self) -> str:
        """Its git object id; for LFS, that of the pointer."""
        return git_sha1("blob", self.pointer)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


Tree = dict[str, Blob]
"""Path → file. Immutable once it belongs to a commit."""


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    tree: Tree
    title: str
    message: str
    author: str
    moment: int


@dataclass
class Pull:
    """A discussion or pull request; `ref` and `base` are only for the latter."""

    num: int
    title: str
    description: str
    author: str
    moment: int
    base: str | None = None
    status: str = "open"
    events: list[dict] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"


@dataclass
class Space:
    """The settings and runtime of a Space."""

    sdk: str
    hardware: str = "cpu-basic"
    sleep: int | None = None
    variables: dict[str, dict] = field(default_factory=dict)
    secrets: dict[str, dict] = field(default_factory=dict)
    volumes: list[dict] = field(default_factory=list)
    stage: str = "NO_APP_FILE"
    polls: int = 0
    """How often its runtime was requested since the last build started."""


@dataclass
class Repo:
    kind: str
    """models, datasets or spaces."""
    id: str
    moment: int
    private: bool = False
    gated: str | bool = False
    refs: dict[str, str] = field(default_factory=dict)
    """Commits by refs/heads/…, refs/tags/… and refs/pr/…"""
    commits: dict[str, Commit] = field(default_factory=dict)
    objects: set[str] = field(default_factory=set)
    """The sha256 of all objects in its LFS storage."""
    pulls: list[Pull] = field(default_factory=list)
    space: Space | None = None

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def type(self) -> str:
        return KINDS[self.kind]

    def ref_of(self, revision: str) -> str | None:
        """The full name of a branch, tag or pull request."""
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return name
        return None

    def find(self, revision: str) -> Commit | None:
        """The commit at a branch, tag, pull request, or a sha1 or its first seven digits or more."""
        if ref := self.ref_of(revision):
            return self.commits[self.refs[ref]]
        if re.fullmatch(r"[0-9a-f]{7,40}", revision):
            found = [commit for oid, commit in self.commits.items() if oid.startswith(revision)]
            return found[0] if len(found) == 1 else None
        return None

    def history(self, commit: Commit) -> list[Commit]:
        """A commit and its ancestors, newest first."""
        past = [commit]
        while past[-1].parent:
            past.append(self.commits[past[-1].parent])
        return past

    def add_commit(
        self, ref: str, tree: Tree, title: str, message: str, author: str, moment: int, parent: str | None = None
    ) -> Commit:
        """Add a commit to a ref. Its sha is derived from content, parent and number of commits."""
        parent = parent or self.refs.get(ref)
        listing = "".join(f"{path} {blob.oid}\n" for path, blob in sorted(tree.items()))
        oid = git_sha1("commit", f"{listing}\n{parent}\n{title}\n{message}\n{len(self.commits)}".encode())
        commit = Commit(oid, parent, dict(tree), title, message, author, moment)
        self.commits[oid] = commit
        self.refs[ref] = oid
        return commit


class Store:
    """The Hub's state. All changes happen in the server's single event loop, so each is atomic."""

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = dict(TOKENS)
        self.free: set[str] = set()
        """Accounts without a paid plan, which get 402 for a Space on cpu-basic."""
        self.page = 5
        """Entries per page of a tree or list; smaller than the real Hub's, so that tests use several pages."""
        self.polls_to_run = 2
        """How often a Space reports BUILDING before it runs."""
        self.builds_end_as = "RUNNING"
        """BUILD_ERROR, CONFIG_ERROR or RUNTIME_ERROR for a Space that fails."""
        self.multipart_from = 5 * 1024 * 1024
        """LFS uploads of at least this many bytes are multipart."""
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, Blob] = {}
        """sha256 → content of all LFS objects."""
        self.collections: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.buckets: dict[str, dict[str, Any]] = {}
        self.xet_folder: Path | None = None
        """Where hf_xet writes, with a folder for each upload."""
        self.moments = 0

    def now(self) -> int:
        self.moments += 1
        return self.moments

    def create_repo(self, kind: str, repo_id: str, author: str, private: bool = False, sdk: str | None = None) -> Repo:
        """Create a repository with an initial commit, as the Hub does."""
        repo = Repo(kind, repo_id, self.now(), private, space=Space(sdk) if sdk else None)
        tree = {".gitattributes": Blob("".join(map(LFS_LINE.format, LFS_PATTERNS)).encode())}
        if sdk:
            tree["README.md"] = Blob(SPACE_README.format(title=repo_id.split("/")[1], sdk=sdk).encode())
        repo.add_commit("refs/heads/main", tree, "initial commit", "", author, repo.moment)
        self.repos[kind, repo_id] = repo
        return repo

    def snapshot(self) -> dict[str, Any]:
        """The state for comparisons, without times, commit ids and secrets."""

        def refs(repo: Repo) -> dict:
            return {
                ref: {
                    "commits": len(repo.history(repo.commits[oid])),
                    "tree": {path: blob.sha256 for path, blob in sorted(repo.commits[oid].tree.items())},
                }
                for ref, oid in sorted(repo.refs.items())
            }

        def state(repo: Repo) -> dict:
            found: dict[str, Any] = {"private": repo.private, "gated": repo.gated, "refs": refs(repo)}
            found["pulls"] = [{"num": pull.num, "title": pull.title, "status": pull.status} for pull in repo.pulls]
            if space := repo.space:
                found["space"] = {
                    "sdk": space.sdk,
                    "hardware": space.hardware,
                    "sleep": space.sleep,
                    "variables": {key: entry["value"] for key, entry in sorted(space.variables.items())},
                    "secrets": sorted(space.secrets),
                    "volumes": space.volumes,
                }
            return found

        def items(collection: dict) -> list:
            return [{key: item.get(key) for key in ("type", "id", "note")} for item in collection["items"]]

        kept = ("title", "description", "owner", "private", "theme")
        return {
            "repos": {f"{kind}/{name}": state(repo) for (kind, name), repo in sorted(self.repos.items())},
            "collections": {
                slug: {key: collection.get(key) for key in kept} | {"items": items(collection)}
                for slug, collection in sorted(self.collections.items())
            },
            "jobs": [job["spec"] for job in self.jobs.values()],
            "buckets": sorted(self.buckets),
        }
