"""Repositories: create, delete, move, settings, info, auth-check, refs, branches, tags, the list of commits; whoami."""

from __future__ import annotations

import json
import re
import struct
from typing import Any, Literal

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tests.hub.metadata import as_list, front_matter
from tests.hub.spaces import SpaceFields, open_space, runtime
from tests.hub.store import KINDS, Commit, Repo, Store, stamp
from tests.hub.wire import (
    Caller,
    HubError,
    Quoted,
    Readable,
    Someone,
    Strict,
    Surprise,
    TheStore,
    Writable,
    at,
    check_write,
    page_of,
    page_url,
    visible,
)

router = APIRouter()
PLURALS = {singular: plural for plural, singular in KINDS.items()}
NAME = re.compile(r"[\w.-]{1,96}")


class NewRepo(SpaceFields):
    name: str
    organization: str | None = None
    type: Literal["model", "dataset", "space"] = "model"
    visibility: Literal["public", "private", "protected"] = "public"


class OldRepo(Strict):
    name: str
    organization: str | None = None
    type: Literal["model", "dataset", "space"] = "model"


class Move(Strict):
    fromRepo: str
    toRepo: str
    type: Literal["model", "dataset", "space"] = "model"


class Settings(Strict):
    visibility: Literal["public", "private", "protected"] | None = None
    gated: Literal["auto", "manual", False] | None = None


class NewBranch(Strict):
    startingPoint: str | None = None


class NewTag(Strict):
    tag: str
    message: str | None = None


@router.get("/api/whoami-v2")
async def whoami(token: Someone, store: TheStore):
    return token.whoami(pro=token.user not in store.free)


@router.post("/api/repos/create")
async def create(body: NewRepo, request: Request, token: Someone, store: TheStore):
    namespace = body.organization or token.user
    kind, repo_id = PLURALS[body.type], f"{namespace}/{body.name}"
    if not NAME.fullmatch(body.name) or ".." in body.name or "--" in body.name or body.name[0] in "-.":
        raise HubError(400, f"Invalid repo name: {body.name}")
    if not token.may_create_in(namespace):
        raise HubError(403, f'You don\'t have the rights to create a {body.type} under the namespace "{namespace}"')
    url = page_url(request, kind, repo_id)
    if (kind, repo_id) in store.repos:
        raise HubError(409, f"You already created this {body.type} repo", url=url)
    if body.type == "space":
        repo = open_space(store, body, repo_id, token.user)
    else:
        repo = store.create_repo(kind, repo_id, token.user)
    repo.private = body.visibility == "private"
    return {"url": url, "name": repo_id, "id": f"id-of-{kind}/{repo_id}"}


@router.delete("/api/repos/delete")
async def delete(body: OldRepo, token: Someone, store: TheStore):
    kind, repo_id = PLURALS[body.type], f"{body.organization or token.user}/{body.name}"
    check_write(visible(store, token, kind, repo_id), token)
    del store.repos[kind, repo_id]
    return Response("OK")


@router.post("/api/repos/move")
async def move(body: Move, token: Someone, store: TheStore):
    kind = PLURALS[body.type]
    repo = visible(store, token, kind, body.fromRepo)
    check_write(repo, token)
    if not token.may_create_in(body.toRepo.split("/")[0]):
        raise HubError(403, "Authorization error.")
    if (kind, body.toRepo) in store.repos:
        raise HubError(409, "A repository with this name already exists")
    repo.id = body.toRepo
    store.repos[kind, repo.id] = store.repos.pop((kind, body.fromRepo))
    return Response("OK")


@router.put("/api/{kind}/{ns}/{name}/settings")
async def settings(body: Settings, repo: Writable):
    if body.visibility is not None:
        repo.private = body.visibility == "private"
    if body.gated is not None:
        repo.gated = body.gated
    return {"private": repo.private, "gated": repo.gated}


@router.get("/api/{kind}/{ns}/{name}/auth-check")
async def auth_check(repo: Readable):
    return Response("OK")


@router.get("/api/{kind}/{ns}/{name}/auth-check/write")
async def auth_check_write(repo: Writable):
    return Response("OK")


def card_data(commit: Commit) -> dict:
    """The front matter of README.md."""
    blob = commit.tree.get("README.md")
    return front_matter(blob.data.decode("utf-8", "replace"))[0] if blob else {}


def tags_of(card: dict) -> list[str]:
    """The tags that the Hub derives from a card."""
    tags = [card[key] for key in ("library_name",) if key in card] + as_list(card.get("tags"))
    tags += [f"dataset:{name}" for name in as_list(card.get("datasets"))] + as_list(card.get("language"))
    for base in as_list(card.get("base_model")):
        tags.append(f"base_model:{base}")
        if relation := card.get("base_model_relation"):
            tags.append(f"base_model:{relation}:{base}")
    if "license" in card:
        tags.append(f"license:{card['license']}")
    return list(dict.fromkeys([*map(str, tags), "region:us"]))


def safetensors_of(commit: Commit) -> dict | None:
    """The number of parameters of each dtype in model.safetensors."""
    blob = commit.tree.get("model.safetensors")
    if blob is None:
        return None
    try:
        (length,) = struct.unpack("<Q", blob.data[:8])
        header = json.loads(blob.data[8 : 8 + length])
    except (struct.error, ValueError):
        return None
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            numbers = 1
            for size in tensor["shape"]:
                numbers *= size
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + numbers
    return {"parameters": counts, "total": sum(counts.values())}


def config_of(commit: Commit) -> dict:
    """The fields of config.json that the Hub shows."""
    blob = commit.tree.get("config.json")
    try:
        config = json.loads(blob.data) if blob else {}
    except ValueError:
        return {}
    return {key: config[key] for key in ("architectures", "auto_map", "model_type") if key in config}


def eval_results_of(commit: Commit) -> list:
    """The entries of .eval_results/*.yaml."""
    found = []
    for path, blob in sorted(commit.tree.items()):
        if re.fullmatch(r"\.eval_results/[^/]+\.ya?ml", path):
            entries = yaml.safe_load(blob.data)
            found += [{"filename": path, "verified": False, "data": entry} for entry in as_list(entries)]
    return found


def sibling(path: str, blob: Any, blobs: bool) -> dict:
    entry: dict[str, Any] = {"rfilename": path}
    if blobs:
        entry |= {"blobId": blob.oid, "size": len(blob.data)}
        if blob.lfs:
            entry["lfs"] = {"sha256": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
    return entry


def info(store: Store, repo: Repo, commit: Commit, blobs: bool) -> dict:
    """The Hub's information about a repository at a commit."""
    card = card_data(commit)
    found: dict[str, Any] = {
        "_id": f"id-of-{repo.kind}/{repo.id}",
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "lastModified": stamp(commit.moment),
        "createdAt": stamp(repo.moment),
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": tags_of(card),
        "cardData": card,
        "siblings": [sibling(path, blob, blobs) for path, blob in sorted(commit.tree.items())],
        "usedStorage": sum(len(store.blobs[sha].data) for sha in repo.objects if sha in store.blobs),
    }
    if repo.kind == "models":
        found |= {
            "modelId": repo.id,
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"),
            "model-index": card.get("model-index"),
            "config": config_of(commit),
            "safetensors": safetensors_of(commit),
            "evalResults": eval_results_of(commit),
            "spaces": [],
        }
    if repo.space:
        found |= {
            "sdk": repo.space.sdk,
            "subdomain": repo.id.replace("/", "-").lower(),
            "runtime": runtime(repo.space),
            "models": as_list(card.get("models")),
            "datasets": as_list(card.get("datasets")),
        }
    return {key: value for key, value in found.items() if value is not None}


def answer_info(request: Request, store: Store, repo: Repo, commit: Commit) -> dict:
    query = request.query_params
    if strange := set(query) - {"blobs", "expand", "securityStatus"}:
        raise Surprise(f"{sorted(strange)} is nothing that an info can be asked for")
    found = info(store, repo, commit, query.get("blobs") == "true")
    if wanted := query.getlist("expand"):
        found = {key: found[key] for key in ("_id", "id", *wanted) if key in found}
    return found


@router.get("/api/{kind}/{ns}/{name}")
async def repo_info(request: Request, repo: Readable, store: TheStore):
    return answer_info(request, store, repo, at(repo, "main"))


@router.get("/api/{kind}/{ns}/{name}/revision/{revision}")
async def repo_info_at(revision: Quoted, request: Request, repo: Readable, store: TheStore):
    return answer_info(request, store, repo, at(repo, revision))


@router.get("/api/{kind}/{ns}/{name}/refs")
async def refs(repo: Readable, include_prs: bool = False):
    def under(prefix: str) -> list[dict]:
        return [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
            for ref, oid in sorted(repo.refs.items())
            if ref.startswith(prefix)
        ]

    found = {"branches": under("refs/heads/"), "converts": [], "tags": under("refs/tags/")}
    if include_prs:
        found["pullRequests"] = under("refs/pr/")
    return found


@router.get("/api/{kind}/{ns}/{name}/commits/{revision}")
async def commits(revision: Quoted, request: Request, repo: Readable, store: TheStore):
    entries = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": stamp(commit.moment),
        }
        for commit in repo.history(at(repo, revision))
    ]
    return page_of(request, store, entries)


@router.post("/api/{kind}/{ns}/{name}/branch/{branch}")
async def create_branch(branch: Quoted, body: NewBranch, repo: Writable):
    if branch.startswith("refs/"):
        raise HubError(400, f"Invalid reference for a branch: {branch}")
    if f"refs/heads/{branch}" in repo.refs:
        raise HubError(409, f"Reference already exists: {branch}")
    repo.refs[f"refs/heads/{branch}"] = at(repo, body.startingPoint or "main").oid
    return Response("OK")


@router.delete("/api/{kind}/{ns}/{name}/branch/{branch}")
async def delete_branch(branch: Quoted, repo: Writable):
    if branch == "main":
        raise HubError(403, "Can't delete the main branch")
    if repo.refs.pop(f"refs/heads/{branch}", None) is None:
        raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    return Response("OK")


@router.post("/api/{kind}/{ns}/{name}/tag/{revision}")
async def create_tag(revision: Quoted, body: NewTag, repo: Writable):
    if not NAME.fullmatch(body.tag):
        raise HubError(400, f"Invalid tag name: {body.tag}")
    if f"refs/tags/{body.tag}" in repo.refs:
        raise HubError(409, f"Tag reference exists already: {body.tag}")
    repo.refs[f"refs/tags/{body.tag}"] = at(repo, revision).oid
    return Response("OK")


@router.delete("/api/{kind}/{ns}/{name}/tag/{tag}")
async def delete_tag(tag: Quoted, repo: Writable):
    if repo.refs.pop(f"refs/tags/{tag}", None) is None:
        raise HubError(404, f"Invalid rev id: {tag}", "RevisionNotFound")
    return Response("OK")


@router.get("/api/agent-harnesses")
async def agent_harnesses(token: Caller):
    """The client requests the list of coding agents once a day; here it is empty."""
    return {"standardEnvVars": [], "harnesses": {}}


@router.head("/api/telemetry/{topic:path}")
async def telemetry(topic: str):
    return JSONResponse(None)
