"""LFS: batch, single-part and multipart uploads, verify, the list of large files; and tokens for Xet."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from math import ceil
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from tests.hub.accounts import Token
from tests.hub.store import Blob, Repo, Store, stamp
from tests.hub.wire import (
    Caller,
    HubError,
    Quoted,
    Readable,
    ReadableModel,
    Someone,
    Strict,
    Surprise,
    TheStore,
    check_write,
)

router = APIRouter()


class LfsObject(Strict):
    oid: str
    size: int


class Batch(Strict):
    operation: str
    transfers: list[str]
    objects: list[LfsObject]
    hash_algo: str
    ref: dict[str, str] | None = None


class Part(Strict):
    partNumber: int
    etag: str


class Completion(Strict):
    oid: str
    parts: list[Part]


def storage_url(request: Request, sha256: str, **query: Any) -> str:
    """A signed link to the storage, on another host than the Hub, so that the client sends no token."""
    signature = secrets.token_hex(8)
    request.app.state.signatures.add(signature)
    extra = "".join(f"&{key}={value}" for key, value in query.items())
    return f"http://localhost:{request.url.port}/storage/{sha256}?signature={signature}{extra}"


def check_signature(request: Request) -> None:
    if "authorization" in request.headers:
        raise Surprise("a token was sent to the storage")
    if request.query_params.get("signature") not in request.app.state.signatures:
        raise HubError(403, "AccessDenied")


def upload_actions(request: Request, store: Store, repo: Repo, item: LfsObject) -> dict:
    """Where to upload an object; nothing if it already exists."""
    if item.oid in repo.objects:
        return {"oid": item.oid, "size": item.size}
    target = {"repo": f"{repo.kind}/{repo.id}", "size": item.size}
    verify = f"{request.base_url}{repo.kind}/{repo.id}.git/info/lfs/verify"
    if item.size < store.multipart_from:
        upload: dict[str, Any] = {"href": storage_url(request, item.oid, **target)}
    else:
        chunk = ceil(store.multipart_from / 2)
        numbers = range(1, ceil(item.size / chunk) + 1)
        parts = {str(number): storage_url(request, item.oid, part=number, **target) for number in numbers}
        upload = {"href": storage_url(request, item.oid, **target), "header": {"chunk_size": str(chunk)} | parts}
    return {"oid": item.oid, "size": item.size, "actions": {"upload": upload, "verify": {"href": verify}}}


def check_upload(repo: Repo, token: Token | None, for_pull_request: bool) -> None:
    """Check that the caller can upload. For a pull request, any write access is enough."""
    if token is None or token.role == "read" or not for_pull_request:
        check_write(repo, token, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")


def batch(request: Request, body: Batch, store: Store, repo: Repo) -> Response:
    if body.operation != "upload" or body.hash_algo != "sha256" or "basic" not in body.transfers:
        raise Surprise(f"LFS batch for {body.operation} with {body.transfers} and {body.hash_algo}")
    objects = [upload_actions(request, store, repo, item) for item in body.objects]
    headers = [item["actions"]["upload"].get("header") for item in objects if "actions" in item]
    transfer = "multipart" if any(headers) else "basic"
    return JSONResponse({"transfer": transfer, "objects": objects}, media_type="application/vnd.git-lfs+json")


@router.post("/{ns}/{name}.git/info/lfs/objects/batch")
async def batch_of_model(request: Request, body: Batch, repo: ReadableModel, token: Caller, store: TheStore):
    check_upload(repo, token, body.ref is None)
    return batch(request, body, store, repo)


@router.post("/{kind}/{ns}/{name}.git/info/lfs/objects/batch")
async def batch_of_other(request: Request, body: Batch, repo: Readable, token: Caller, store: TheStore):
    check_upload(repo, token, body.ref is None)
    return batch(request, body, store, repo)


def accept(request: Request, store: Store, sha256: str, content: bytes) -> None:
    """Store an uploaded object for its repository, if its sha256 is right."""
    kind, _, repo_id = request.query_params["repo"].partition("/")
    if len(content) != int(request.query_params["size"]) or hashlib.sha256(content).hexdigest() != sha256:
        raise HubError(400, "The uploaded content does not match its sha256 and size")
    store.blobs.setdefault(sha256, Blob(content, lfs=True))
    if repo := store.repos.get((kind, repo_id)):
        repo.objects.add(sha256)


@router.put("/storage/{sha256}")
async def put(sha256: str, request: Request, store: TheStore):
    check_signature(request)
    content = await request.body()
    if (number := request.query_params.get("part")) is None:
        accept(request, store, sha256, content)
    else:
        request.app.state.parts[sha256, int(number)] = content
    return Response(headers={"ETag": f'"{hashlib.md5(content).hexdigest()}"'})


@router.post("/storage/{sha256}")
async def complete(sha256: str, body: Completion, request: Request, store: TheStore):
    """Complete a multipart upload."""
    check_signature(request)
    if body.oid != sha256 or [part.partNumber for part in body.parts] != list(range(1, len(body.parts) + 1)):
        raise Surprise("the parts of an upload are not in order")
    uploaded = request.app.state.parts
    contents = [uploaded.get((sha256, part.partNumber), b"") for part in body.parts]
    if any(
        part.etag.strip('"') != hashlib.md5(content).hexdigest()
        for part, content in zip(body.parts, contents, strict=True)
    ):
        raise HubError(400, "InvalidPart")
    accept(request, store, sha256, b"".join(contents))
    for part in body.parts:
        del uploaded[sha256, part.partNumber]
    return {}


@router.post("/{kind}/{ns}/{name}.git/info/lfs/verify")
async def verify(body: LfsObject, repo: Readable, token: Someone, store: TheStore):
    if body.oid not in repo.objects or len(store.blobs[body.oid].data) != body.size:
        raise HubError(404, "The object is not there")
    return {}


@router.get("/api/{kind}/{ns}/{name}/lfs-files")
async def lfs_files(repo: Readable, store: TheStore):
    heads = {ref: repo.commits[oid].tree for ref, oid in repo.refs.items()}
    return [
        {
            "fileOid": sha,
            "filename": path,
            "oid": sha,
            "pushedAt": stamp(repo.moment),
            "ref": ref,
            "size": len(blob.data),
        }
        for sha in sorted(repo.objects)
        for ref, tree in heads.items()
        for path, blob in tree.items()
        if blob.lfs and blob.sha256 == sha
    ]


def write_token(store: Store) -> dict:
    folder = tempfile.mkdtemp(prefix="xet-", dir=store.xet_folder)
    return {"accessToken": "loopback", "exp": int(time.time()) + 3600, "casUrl": f"local://{folder}"}


@router.get("/api/{kind}/{ns}/{name}/xet-write-token/{revision}")
async def xet_write_token(revision: Quoted, repo: Readable, token: Caller, store: TheStore, create_pr: bool = False):
    """Each token gets an empty local folder that hf_xet writes to, and that commits read."""
    check_upload(repo, token, create_pr)
    return write_token(store)
