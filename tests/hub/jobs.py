"""Jobs: start, get, list, cancel. Nothing is run; requests are stored for tests to inspect. Also buckets, which
Jobs mount: create, get, add files, list."""

from __future__ import annotations

import json
from typing import Any, Literal

from fastapi import APIRouter, Request

from tests.hub.accounts import Token
from tests.hub.lfs import write_token
from tests.hub.store import Store, stamp
from tests.hub.wire import Caller, HubError, Quoted, Someone, Strict, Surprise, TheStore, page_of
from tests.hub.xet import content_of

router = APIRouter()


class NewJob(Strict):
    command: list[str]
    arguments: list[str]
    environment: dict[str, Any]
    flavor: str
    dockerImage: str | None = None
    spaceId: str | None = None
    secrets: dict[str, Any] | None = None
    timeoutSeconds: int | None = None
    attempts: int | None = None
    labels: dict[str, str] | None = None
    volumes: list[dict[str, Any]] | None = None


class NewBucket(Strict):
    visibility: Literal["public", "private"] = "public"


def answer(job: dict) -> dict:
    spec = job["spec"]
    return {
        **{key: value for key, value in spec.items() if key != "secrets"},
        "secrets": dict.fromkeys(spec.get("secrets", ())) or None,
        "id": job["id"],
        "createdAt": stamp(job["moment"]),
        "status": {"stage": job["stage"], "message": None},
        "owner": {"id": f"id-of-{job['owner']}", "name": job["owner"], "type": "user"},
        "initiator": {"type": "user", "id": f"id-of-{job['user']}", "name": job["user"]},
    }


def check_rights(token: Token, namespace: str) -> None:
    if token.role == "read" or not token.belongs_to(namespace):
        raise HubError(403, f"You don't have the rights to run jobs in the namespace {namespace}")


def found_job(store: Store, token: Token, ns: str, job_id: str) -> dict:
    job = store.jobs.get(job_id)
    if job is None or job["owner"] != ns or not token.belongs_to(ns):
        raise HubError(404, "Job not found")
    return job


@router.post("/api/jobs/{ns}")
async def start(ns: str, body: NewJob, token: Someone, store: TheStore):
    check_rights(token, ns)
    if (body.dockerImage is None) == (body.spaceId is None):
        raise Surprise("a job runs an image or a Space")
    number = len(store.jobs) + 1
    spec = body.model_dump(exclude_none=True)
    job = {
        "id": f"{number:024x}",
        "owner": ns,
        "user": token.user,
        "stage": "RUNNING",
        "moment": store.now(),
        "spec": spec,
    }
    store.jobs[job["id"]] = job
    return answer(job)


@router.get("/api/jobs/{ns}")
async def jobs(ns: str, request: Request, token: Someone, store: TheStore):
    return page_of(request, store, [answer(job) for job in store.jobs.values() if job["owner"] == ns])


@router.get("/api/jobs/{ns}/{job_id}")
async def one(ns: str, job_id: str, token: Someone, store: TheStore):
    return answer(found_job(store, token, ns, job_id))


@router.post("/api/jobs/{ns}/{job_id}/cancel")
async def cancel(ns: str, job_id: str, token: Someone, store: TheStore):
    job = found_job(store, token, ns, job_id)
    job["stage"] = "CANCELED"
    return answer(job)


def found_bucket(store: Store, token: Token | None, bucket_id: str) -> dict:
    bucket = store.buckets.get(bucket_id)
    if bucket is None or (bucket["private"] and not (token and token.belongs_to(bucket_id.split("/")[0]))):
        raise HubError(404, "Bucket not found", "RepoNotFound")
    return bucket


def describe(bucket: dict) -> dict:
    sizes = [len(content) for content in bucket["files"].values()]
    about = {key: bucket[key] for key in ("id", "private")}
    return about | {"createdAt": stamp(bucket["moment"]), "size": sum(sizes), "totalFiles": len(sizes)}


@router.post("/api/buckets/{ns}/{name}")
async def create_bucket(ns: str, name: str, body: NewBucket, request: Request, token: Someone, store: TheStore):
    ns = token.user if ns == "me" else ns
    check_rights(token, ns)
    bucket_id = f"{ns}/{name}"
    url = f"{request.base_url}buckets/{bucket_id}"
    if bucket_id in store.buckets:
        raise HubError(409, "You already created this bucket", url=url)
    private = body.visibility == "private"
    store.buckets[bucket_id] = {"id": bucket_id, "private": private, "moment": store.now(), "files": {}}
    return {"url": url}


@router.get("/api/buckets/{ns}/{name}")
async def bucket_info(ns: str, name: str, token: Caller, store: TheStore):
    return describe(found_bucket(store, token, f"{ns}/{name}"))


@router.get("/api/buckets/{ns}/{name}/xet-write-token")
async def bucket_token(ns: str, name: str, token: Someone, store: TheStore):
    found_bucket(store, token, f"{ns}/{name}")
    check_rights(token, ns)
    return write_token(store)


@router.post("/api/buckets/{ns}/{name}/batch")
async def bucket_batch(ns: str, name: str, request: Request, token: Someone, store: TheStore):
    """Add and delete files, given as NDJSON. hf_xet has uploaded the content."""
    files = found_bucket(store, token, f"{ns}/{name}")["files"]
    check_rights(token, ns)
    failed = []
    for line in (await request.body()).splitlines():
        operation = json.loads(line)
        path = operation["path"]
        if operation["type"] == "addFile":
            content = content_of(store, operation["xetHash"])
            if content is None:
                failed.append({"path": path, "error": "The file was not uploaded"})
            else:
                files[path] = content
        elif operation["type"] == "deleteFile":
            files.pop(path, None)
        else:
            raise Surprise(f"a bucket's operation {operation['type']}")
    return {"success": not failed, "failed": failed}


@router.get("/api/buckets/{ns}/{name}/tree")
@router.get("/api/buckets/{ns}/{name}/tree/{prefix}")
async def bucket_tree(
    ns: str, name: str, request: Request, token: Caller, store: TheStore, prefix: Quoted = "", recursive: bool = False
):
    bucket = found_bucket(store, token, f"{ns}/{name}")
    return page_of(
        request,
        store,
        [
            {"type": "file", "path": path, "size": len(content), "xetHash": "0" * 64, "mtime": stamp(bucket["moment"])}
            for path, content in sorted(bucket["files"].items())
            if path.startswith(prefix)
        ],
    )
