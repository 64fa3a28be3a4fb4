"""Discussions and pull requests: open, list, get, comment, change status, merge."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request

from tests.hub.store import Commit, Pull, Repo, stamp
from tests.hub.wire import HubError, Readable, Someone, Strict, TheStore, Writable, at, page_url

router = APIRouter()


class NewPull(Strict):
    title: str
    description: str
    pullRequest: bool


class Comment(Strict):
    comment: str | None = None


class Status(Strict):
    status: Literal["open", "closed"]
    comment: str | None = None


def url_of(request: Request, repo: Repo, num: int) -> str:
    """The URL of its page; the client reads the number at its end."""
    return f"{page_url(request, repo.kind, repo.id)}/discussions/{num}"


def event(pull: Pull, kind: str, author: str, moment: int, **data: Any) -> dict:
    found = {
        "id": f"{pull.num:08x}{len(pull.events):016x}",
        "type": kind,
        "createdAt": stamp(moment),
        "author": {"name": author},
        "data": data,
    }
    pull.events.append(found)
    return found


def add_comment(pull: Pull, author: str, moment: int, text: str) -> dict:
    latest = {"raw": text, "html": text, "updatedAt": stamp(moment), "author": {"name": author}}
    return event(pull, "comment", author, moment, edited=False, hidden=False, latest=latest, history=[])


def open_pull(
    repo: Repo, title: str, description: str, author: str, moment: int, head: Commit, base: str = "refs/heads/main"
) -> Pull:
    """A new pull request at a commit."""
    pull = Pull(len(repo.pulls) + 1, title, description, author, moment, base)
    repo.pulls.append(pull)
    repo.refs[pull.ref] = head.oid
    add_comment(pull, author, moment, description)
    return pull


def summary(repo: Repo, pull: Pull) -> dict:
    found: dict[str, Any] = {
        "num": pull.num,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": stamp(pull.moment),
        "status": pull.status,
        "isPullRequest": pull.base is not None,
        "repo": {"name": repo.id, "type": repo.type},
    }
    return found


def details(repo: Repo, pull: Pull) -> dict:
    found = summary(repo, pull) | {"events": pull.events}
    if pull.base:
        merged = [entry["data"]["oid"] for entry in pull.events if entry["data"].get("status") == "merged"]
        found |= {
            "changes": {"base": pull.base, "mergeCommitId": merged[0] if merged else None},
            "filesWithConflicts": conflicts(repo, pull),
            "diff": "",
        }
    return found


def fork_point(repo: Repo, pull: Pull) -> Commit:
    """The commit where the pull request branched off."""
    base = {commit.oid for commit in repo.history(at(repo, pull.base))}
    return next(commit for commit in repo.history(at(repo, pull.ref)) if commit.oid in base)


def conflicts(repo: Repo, pull: Pull) -> list[str]:
    """Files that both sides changed differently."""
    if pull.status == "merged":
        return []
    old, ours, theirs = (commit.tree for commit in (fork_point(repo, pull), at(repo, pull.base), at(repo, pull.ref)))
    return [
        path
        for path in sorted({*old, *ours, *theirs})
        if ours.get(path) != old.get(path) != theirs.get(path) != ours.get(path)
    ]


def found_pull(repo: Repo, num: int) -> Pull:
    if not 1 <= num <= len(repo.pulls):
        raise HubError(404, f"No discussion {num}")
    return repo.pulls[num - 1]


@router.get("/api/{kind}/{ns}/{name}/discussions")
async def discussions(repo: Readable, p: int = 0, type: str = "all", status: str = "all", author: str | None = None):
    found = [
        pull
        for pull in repo.pulls
        if (type == "all" or (type == "pull_request") == (pull.base is not None))
        and (status == "all" or (status == "open") == (pull.status in ("open", "draft")))
        and author in (None, pull.author)
    ]
    return {"discussions": [summary(repo, pull) for pull in found] if p == 0 else [], "count": len(found), "start": 0}


@router.post("/api/{kind}/{ns}/{name}/discussions")
async def create(body: NewPull, repo: Readable, token: Someone, store: TheStore):
    if body.pullRequest:
        pull = open_pull(repo, body.title, body.description, token.user, store.now(), at(repo, "main"))
        pull.status = "draft"
    else:
        pull = Pull(len(repo.pulls) + 1, body.title, body.description, token.user, store.now())
        repo.pulls.append(pull)
        add_comment(pull, token.user, pull.moment, body.description)
    return {"num": pull.num}


@router.get("/api/{kind}/{ns}/{name}/discussions/{num}")
async def one(num: int, repo: Readable, diff: int = 0):
    return details(repo, found_pull(repo, num))


@router.post("/api/{kind}/{ns}/{name}/discussions/{num}/comment")
async def comment(num: int, body: Comment, repo: Readable, token: Someone, store: TheStore):
    return {"newMessage": add_comment(found_pull(repo, num), token.user, store.now(), body.comment or "")}


@router.post("/api/{kind}/{ns}/{name}/discussions/{num}/status")
async def status(num: int, body: Status, repo: Writable, token: Someone, store: TheStore):
    pull = found_pull(repo, num)
    if pull.status == "merged":
        raise HubError(400, "It is merged already")
    pull.status = body.status
    return {"newStatus": event(pull, "status-change", token.user, store.now(), status=body.status)}


@router.post("/api/{kind}/{ns}/{name}/discussions/{num}/merge")
async def merge(num: int, repo: Writable, token: Someone, store: TheStore, body: Comment | None = None):
    pull = found_pull(repo, num)
    if pull.base is None or pull.status not in ("open", "draft"):
        raise HubError(400, f"This is {pull.status} and can't be merged")
    if clash := conflicts(repo, pull):
        raise HubError(409, f"Conflicts in {', '.join(clash)}")
    old, theirs, tree = fork_point(repo, pull).tree, at(repo, pull.ref).tree, dict(at(repo, pull.base).tree)
    for path in {*old, *theirs}:
        if path not in theirs:
            tree.pop(path, None)
        elif theirs[path] != old.get(path):
            tree[path] = theirs[path]
    made = repo.add_commit(pull.base, tree, f"{pull.title} (#{num})", pull.description, token.user, store.now())
    pull.status = "merged"
    return event(pull, "status-change", token.user, store.now(), status="merged", oid=made.oid)
