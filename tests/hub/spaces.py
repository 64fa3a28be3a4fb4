"""Spaces: variables, secrets (write-only), volumes, hardware, sleep, pause, restart, and the runtime."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from tests.hub.metadata import front_matter
from tests.hub.store import Blob, Repo, Space, Store, Tree, stamp
from tests.hub.wire import Caller, HubError, Quoted, Strict, TheStore, readable, writable

router = APIRouter()
PATH = "/api/spaces/{ns}/{name}"
FREE_ZERO_SPACES = 2
"""ZeroGPU Spaces allowed to an account without a paid plan."""
PAYMENT = "Subscribe to PRO to create Spaces that run on cpu-basic hardware; static Spaces are free"


class Entry(Strict):
    key: str
    value: str
    description: str | None = None


class Key(Strict):
    key: str


class SpaceFields(Strict):
    """The fields about Spaces of a request to create a repository."""

    sdk: str | None = None
    hardware: str | None = None
    sleepTimeSeconds: int | None = None
    secrets: list[Entry] | None = None
    variables: list[Entry] | None = None
    volumes: list[dict[str, Any]] | None = None


class Hardware(Strict):
    flavor: str
    sleepTimeSeconds: int | None = None


class Sleep(Strict):
    seconds: int


class Volumes(Strict):
    volumes: list[dict[str, Any]]


def check_payment(store: Store, namespace: str, sdk: str, hardware: str) -> None:
    """Free accounts can have static Spaces, and two on ZeroGPU."""
    if namespace not in store.free or sdk == "static":
        return
    zero = [
        repo
        for repo in store.repos.values()
        if repo.space and repo.namespace == namespace and repo.space.hardware == "zero-a10g"
    ]
    if hardware != "zero-a10g":
        raise HubError(402, PAYMENT if hardware == "cpu-basic" else "A payment method is required for this hardware")
    if len(zero) >= FREE_ZERO_SPACES:
        raise HubError(402, f"Free accounts may have {FREE_ZERO_SPACES} ZeroGPU Spaces")


def open_space(store: Store, body: SpaceFields, repo_id: str, author: str) -> Repo:
    """A new Space."""
    if body.sdk is None:
        raise HubError(400, '"sdk" is required')
    hardware = body.hardware or "cpu-basic"
    check_payment(store, repo_id.split("/")[0], body.sdk, hardware)
    repo = store.create_repo("spaces", repo_id, author, sdk=body.sdk)
    space = repo.space
    space.hardware, space.sleep, space.volumes = hardware, body.sleepTimeSeconds, body.volumes or []
    for entries, given in ((space.variables, body.variables), (space.secrets, body.secrets)):
        for entry in given or ():
            keep(entries, entry, store.now())
    return repo


def keep(entries: dict[str, dict], entry: Entry, moment: int) -> None:
    entries[entry.key] = {"key": entry.key, "value": entry.value, "updatedAt": stamp(moment)}
    if entry.description is not None:
        entries[entry.key]["description"] = entry.description


def runtime(space: Space) -> dict:
    current = space.hardware if space.stage in ("RUNNING", "SLEEPING") else None
    return {
        "stage": space.stage,
        "hardware": {"current": current, "requested": space.hardware},
        "storage": None,
        "gcTimeout": space.sleep,
        "replicas": {"current": int(space.stage == "RUNNING"), "requested": 1},
        "devMode": False,
        "volumes": space.volumes,
    }


def build(space: Space) -> None:
    """Start a build, as a change of settings does."""
    if space.stage not in ("NO_APP_FILE", "PAUSED"):
        space.stage, space.polls = "BUILDING", 0


def files_changed(space: Space, tree: Tree) -> None:
    """Start a build after a commit, if the app file exists."""
    readme = tree.get("README.md", Blob(b"")).data.decode("utf-8", "replace")
    usual = {"docker": "Dockerfile", "static": "index.html"}.get(space.sdk, "app.py")
    there = front_matter(readme)[0].get("app_file", usual) in tree
    space.stage, space.polls = "BUILDING" if there else "NO_APP_FILE", 0


async def readable_space(ns: Quoted, name: Quoted, store: TheStore, token: Caller) -> Repo:
    return await readable("spaces", ns, name, store, token)


async def writable_space(repo: Annotated[Repo, Depends(readable_space)], token: Caller) -> Repo:
    return await writable(repo, token)


ReadableSpace = Annotated[Repo, Depends(readable_space)]
WritableSpace = Annotated[Repo, Depends(writable_space)]


@router.get(PATH + "/variables")
async def variables(repo: WritableSpace):
    return repo.space.variables


@router.post(PATH + "/variables")
async def set_variable(body: Entry, repo: WritableSpace, store: TheStore):
    keep(repo.space.variables, body, store.now())
    build(repo.space)
    return repo.space.variables


@router.delete(PATH + "/variables")
async def delete_variable(body: Key, repo: WritableSpace):
    if repo.space.variables.pop(body.key, None) is None:
        raise HubError(404, f"No variable {body.key}")
    build(repo.space)
    return repo.space.variables


@router.get(PATH + "/secrets")
async def secrets(repo: WritableSpace):
    return {
        key: {name: value for name, value in entry.items() if name != "value"}
        for key, entry in repo.space.secrets.items()
    }


@router.post(PATH + "/secrets")
async def set_secret(body: Entry, repo: WritableSpace, store: TheStore):
    keep(repo.space.secrets, body, store.now())
    build(repo.space)
    return Response("OK")


@router.delete(PATH + "/secrets")
async def delete_secret(body: Key, repo: WritableSpace):
    if repo.space.secrets.pop(body.key, None) is None:
        raise HubError(404, f"No secret {body.key}")
    build(repo.space)
    return Response("OK")


@router.put(PATH + "/volumes")
async def set_volumes(body: Volumes, repo: WritableSpace):
    repo.space.volumes = body.volumes
    build(repo.space)
    return Response("OK")


@router.delete(PATH + "/volumes")
async def delete_volumes(repo: WritableSpace):
    if not repo.space.volumes:
        raise HubError(400, "The Space has no volumes")
    repo.space.volumes = []
    build(repo.space)
    return Response("OK")


@router.get(PATH + "/runtime")
async def get_runtime(repo: ReadableSpace, store: TheStore):
    space = repo.space
    if space.stage == "BUILDING":
        space.polls += 1
        if space.polls > store.polls_to_run:
            space.stage = store.builds_end_as
    return runtime(space)


@router.post(PATH + "/hardware")
async def set_hardware(body: Hardware, repo: WritableSpace, store: TheStore):
    if body.flavor != repo.space.hardware:
        check_payment(store, repo.namespace, repo.space.sdk, body.flavor)
    repo.space.hardware = body.flavor
    if body.sleepTimeSeconds is not None:
        repo.space.sleep = body.sleepTimeSeconds
    build(repo.space)
    return runtime(repo.space)


@router.post(PATH + "/sleeptime")
async def set_sleep(body: Sleep, repo: WritableSpace):
    repo.space.sleep = body.seconds
    return runtime(repo.space)


@router.post(PATH + "/pause")
async def pause(repo: WritableSpace):
    repo.space.stage = "PAUSED"
    return runtime(repo.space)


@router.post(PATH + "/restart")
async def restart(repo: WritableSpace, factory: bool = False):
    if repo.space.stage != "NO_APP_FILE":
        repo.space.stage, repo.space.polls = "BUILDING", 0
    return runtime(repo.space)
