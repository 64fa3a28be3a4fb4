"""Collections: create, get, list by owner, update, delete; and their items."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from tests.hub.accounts import Token
from tests.hub.repos import PLURALS, info
from tests.hub.store import Store, stamp
from tests.hub.wire import Caller, HubError, Someone, Strict, TheStore, at, page_of

router = APIRouter()
PATH = "/api/collections/{owner}/{slug}"


class NewCollection(Strict):
    title: str
    namespace: str
    private: bool
    description: str | None = None


class Changes(Strict):
    title: str | None = None
    description: str | None = None
    position: int | None = None
    private: bool | None = None
    theme: str | None = None


class Target(Strict):
    id: str
    type: Literal["model", "dataset", "space", "paper", "collection", "bucket"]


class NewItem(Strict):
    item: Target
    note: str | None = None


class ItemChanges(Strict):
    note: str | None = None
    position: int | None = None


def slug_of(title: str, owner: str, identity: str) -> str:
    words = "-".join(re.findall(r"[a-z0-9]+", title.lower()))
    return f"{owner}/{words}-{identity}"


def find(store: Store, token: Token | None, slug: str) -> dict:
    found = store.collections.get(slug)
    if found is None or (found["private"] and not (token and token.belongs_to(found["owner"]))):
        raise HubError(404, "Collection not found")
    return found


def change(store: Store, token: Token, slug: str) -> dict:
    """A collection that the caller can write to."""
    found = find(store, token, slug)
    if token.role == "read" or not token.belongs_to(found["owner"]):
        raise HubError(403, "Authorization error.")
    found["moment"] = store.now()
    return found


def answer(store: Store, found: dict) -> dict:
    """The Hub's JSON for it."""
    items: list[dict[str, Any]] = []
    for position, item in enumerate(found["items"]):
        entry = {"_id": item["_id"], "type": item["type"], "id": item["id"], "position": position}
        if item["note"] is not None:
            entry["note"] = {"text": item["note"], "html": item["note"]}
        if repo := store.repos.get((PLURALS.get(item["type"], ""), item["id"])):
            about = info(store, repo, at(repo, "main"), False)
            entry |= {key: about[key] for key in ("author", "lastModified", "private", "downloads", "likes")}
        items.append(entry)
    keys = ("slug", "title", "description", "owner", "position", "private", "theme", "upvotes")
    return {key: found[key] for key in keys} | {"items": items, "lastUpdated": stamp(found["moment"])}


@router.get("/api/collections")
async def collections(
    request: Request, token: Caller, store: TheStore, owner: str | None = None, item: str | None = None, limit: int = 0
):
    seen = [
        answer(store, found)
        for found in store.collections.values()
        if owner in (None, found["owner"])
        and (not found["private"] or (token and token.belongs_to(found["owner"])))
        and (item is None or any(f"{PLURALS.get(i['type'], i['type'])}/{i['id']}" == item for i in found["items"]))
    ]
    # In a list, the position of a collection is its index.
    seen = [{key: value for key, value in found.items() if key != "position"} for found in seen]
    return page_of(request, store, seen)


@router.post("/api/collections")
async def create(body: NewCollection, token: Someone, store: TheStore):
    if not token.may_create_in(body.namespace):
        raise HubError(403, "Authorization error.")
    for found in store.collections.values():
        if (found["owner"], found["title"]) == (body.namespace, body.title):
            raise HubError(409, "A collection with this title exists already", slug=found["slug"])
    moment = store.now()
    identity = hashlib.sha1(f"{body.namespace}\n{body.title}\n{len(store.collections)}".encode()).hexdigest()[:24]
    found = {
        "slug": slug_of(body.title, body.namespace, identity),
        "title": body.title,
        "description": body.description,
        "owner": body.namespace,
        "position": len(store.collections),
        "private": body.private,
        "theme": "blue",
        "upvotes": 0,
        "moment": moment,
        "items": [],
    }
    store.collections[found["slug"]] = found
    return answer(store, found)


@router.get(PATH)
async def one(owner: str, slug: str, token: Caller, store: TheStore):
    return answer(store, find(store, token, f"{owner}/{slug}"))


@router.patch(PATH)
async def update(owner: str, slug: str, body: Changes, token: Someone, store: TheStore):
    found = change(store, token, f"{owner}/{slug}")
    found |= body.model_dump(exclude_none=True)
    if body.title is not None:
        del store.collections[found["slug"]]
        found["slug"] = slug_of(body.title, owner, found["slug"].rsplit("-", 1)[1])
    store.collections[found["slug"]] = found
    return {"success": True, "data": answer(store, found)}


@router.delete(PATH)
async def delete(owner: str, slug: str, token: Someone, store: TheStore):
    change(store, token, f"{owner}/{slug}")
    del store.collections[f"{owner}/{slug}"]
    return Response("OK")


@router.post(PATH + "/items")
async def add_item(owner: str, slug: str, body: NewItem, token: Someone, store: TheStore):
    found = change(store, token, f"{owner}/{slug}")
    kind = PLURALS.get(body.item.type)
    if kind and (kind, body.item.id) not in store.repos:
        raise HubError(404, f"Repository {body.item.id} not found")
    if any((item["type"], item["id"]) == (body.item.type, body.item.id) for item in found["items"]):
        raise HubError(409, "This item is in the collection already")
    identity = hashlib.sha1(f"{slug}\n{body.item.type}\n{body.item.id}".encode()).hexdigest()[:24]
    found["items"].append({"_id": identity, "type": body.item.type, "id": body.item.id, "note": body.note})
    return answer(store, found)


def place(found: dict, identity: str) -> int:
    for position, item in enumerate(found["items"]):
        if item["_id"] == identity:
            return position
    raise HubError(404, "No such item in the collection")


@router.patch(PATH + "/items/{identity}")
async def update_item(owner: str, slug: str, identity: str, body: ItemChanges, token: Someone, store: TheStore):
    found = change(store, token, f"{owner}/{slug}")
    item = found["items"][place(found, identity)]
    if body.note is not None:
        item["note"] = body.note
    if body.position is not None:
        found["items"].remove(item)
        found["items"].insert(body.position, item)
    return {"success": True}


@router.delete(PATH + "/items/{identity}")
async def delete_item(owner: str, slug: str, identity: str, token: Someone, store: TheStore):
    found = change(store, token, f"{owner}/{slug}")
    del found["items"][place(found, identity)]
    return Response("OK")
