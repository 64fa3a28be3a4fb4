"""Files: tree, paths-info, preupload, commit, resolve, and the storage that large downloads are redirected to."""

from __future__ import annotations

import base64
import binascii
import json
import re
from fnmatch import fnmatch
from posixpath import basename
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from tests.hub.accounts import Token
from tests.hub.lfs import check_upload, storage_url
from tests.hub.metadata import problems
from tests.hub.pulls import open_pull, url_of
from tests.hub.spaces import files_changed
from tests.hub.store import LFS_LINE, LFS_PATTERNS, Blob, Repo, Store, Tree, git_sha1
from tests.hub.wire import (
    Caller,
    HubError,
    Quoted,
    Readable,
    ReadableModel,
    Strict,
    Surprise,
    TheStore,
    at,
    entry_not_found,
    page_of,
    page_url,
)
from tests.hub.xet import find_uploaded

router = APIRouter()
REGULAR_LIMIT = 10 * 1024 * 1024
"""Maximum size in bytes of a file outside of LFS."""
SECRET = re.compile(rb"\bhf_[A-Za-z0-9]{34}\b")


class File(Strict):
    path: str
    size: int
    sample: str


class Preupload(Strict):
    files: list[File]
    gitIgnore: str | None = None


def file_entry(path: str, blob: Blob) -> dict:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.oid}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
    return entry


def folder_entry(path: str, tree: Tree) -> dict:
    content = "".join(f"{name} {blob.oid}\n" for name, blob in sorted(tree.items()) if name.startswith(f"{path}/"))
    return {"type": "directory", "path": path, "oid": git_sha1("tree", content.encode()), "size": 0}


def folders_of(tree: Tree) -> set[str]:
    parts = [path.split("/")[:-1] for path in tree]
    return {"/".join(names[:end]) for names in parts for end in range(1, len(names) + 1)}


def listing(tree: Tree, folder: str, recursive: bool) -> list[dict]:
    """The entries of a folder; "" is the root."""
    prefix = f"{folder}/" if folder else ""

    def inside(path: str) -> bool:
        return path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])

    folders = [folder_entry(path, tree) for path in sorted(folders_of(tree)) if inside(path)]
    return folders + [file_entry(path, blob) for path, blob in sorted(tree.items()) if inside(path)]


@router.get("/api/{kind}/{ns}/{name}/tree/{revision}")
@router.get("/api/{kind}/{ns}/{name}/tree/{revision}/{folder}")
async def tree(request: Request, revision: Quoted, repo: Readable, store: TheStore, folder: Quoted = ""):
    query = request.query_params
    if strange := set(query) - {"recursive", "expand", "cursor"}:
        raise Surprise(f"{sorted(strange)} is nothing that a tree can be asked for")
    commit = at(repo, revision)
    folder = folder.rstrip("/")
    if folder and folder not in folders_of(commit.tree):
        raise entry_not_found("Entry not found", commit)
    return page_of(request, store, listing(commit.tree, folder, query.get("recursive", "").lower() in ("true", "1")))


@router.post("/api/{kind}/{ns}/{name}/paths-info/{revision}")
async def paths_info(request: Request, revision: Quoted, repo: Readable):
    form = parse_qs((await request.body()).decode())
    if "paths" not in form or set(form) - {"paths", "expand"}:
        raise Surprise("paths-info takes a form with paths and expand")
    found = at(repo, revision).tree
    paths = [path.rstrip("/") for path in form["paths"]]
    files = [file_entry(path, found[path]) for path in paths if path in found]
    return files + [folder_entry(path, found) for path in paths if path in folders_of(found)]


def goes_to_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether a file goes to LFS: by name, by size, or because its first bytes are not text."""
    if size > REGULAR_LIMIT or any(fnmatch(path, rule) or fnmatch(basename(path), rule) for rule in LFS_PATTERNS):
        return True
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        # The sample may end in the middle of a character.
        return len(sample) < 512 or error.start < len(sample) - 3
    return b"\0" in sample


def ignored(path: str, rules: str) -> bool:
    """Whether a simple .gitignore, with names and patterns for any folder, matches."""
    names = [line.strip().strip("/") for line in rules.splitlines() if line.strip() and not line.startswith("#")]
    return any(fnmatch(path, rule) or any(fnmatch(part, rule) for part in path.split("/")) for rule in names)


@router.post("/api/{kind}/{ns}/{name}/preupload/{revision}")
async def preupload(body: Preupload, revision: Quoted, repo: Readable, token: Caller, create_pr: bool = False):
    check_upload(repo, token, create_pr)
    if not 1 <= len(body.files) <= 256:
        raise Surprise(f"{len(body.files)} files in one preupload")
    there = at(repo, revision).tree
    rules = body.gitIgnore or (there[".gitignore"].data.decode() if ".gitignore" in there else "")
    answers = []
    for file in body.files:
        try:
            sample = base64.b64decode(file.sample, validate=True)
        except binascii.Error:
            raise Surprise(f"the sample of {file.path} is not base64") from None
        if len(sample) != min(file.size, 512):
            raise Surprise(f"the sample of {file.path} has {len(sample)} bytes")
        mode = "lfs" if goes_to_lfs(file.path, file.size, sample) else "regular"
        answer = {"path": file.path, "uploadMode": mode, "shouldIgnore": ignored(file.path, rules)}
        if file.path in there:
            answer["oid"] = there[file.path].etag
        answers.append(answer)
    return {"files": answers}


def read_operations(body: bytes) -> tuple[dict, list[tuple[str, dict]]]:
    """The header and the operations of a commit in NDJSON."""
    allowed = {
        "header": ({"summary"}, {"description", "parentCommit"}),
        "file": ({"path", "content", "encoding"}, set()),
        "lfsFile": ({"path", "algo", "oid"}, {"size"}),
        "deletedFile": ({"path"}, set()),
        "deletedFolder": ({"path"}, set()),
    }
    try:
        lines = [json.loads(line) for line in body.splitlines()]
        operations = [(line["key"], line["value"]) for line in lines]
    except (ValueError, KeyError, TypeError):
        raise Surprise("a commit is NDJSON of key and value") from None
    for key, value in operations:
        required, optional = allowed.get(key, (None, None))
        if required is None or not required <= set(value) <= required | optional:
            raise Surprise(f"{key} with {sorted(value)} is no line of a commit")
    if not operations or operations[0][0] != "header" or any(key == "header" for key, _ in operations[1:]):
        raise Surprise("a commit begins with its one header")
    return operations[0][1], operations[1:]


def apply(tree: Tree, operations: list[tuple[str, dict]], repo: Repo, store: Store) -> Tree:
    """The tree after all operations; if one is refused, nothing is changed."""
    tree, lfs = dict(tree), []
    for key, value in operations:
        path = value["path"]
        if not path or path.startswith("/") or {"..", ".", ".git"} & set(path.split("/")):
            raise HubError(400, f"Invalid path: {path}")
        if key == "file":
            tree[path] = Blob(regular_content(value))
        elif key == "lfsFile":
            if (oid := value["oid"]) not in repo.objects:
                find_uploaded(store, repo, oid)
            if oid not in repo.objects or value.get("size", size := len(store.blobs[oid].data)) != size:
                raise HubError(400, "LFS pointer pointed to a file that does not exist", files=[{"path": path}])
            tree[path] = store.blobs[oid]
            lfs.append(path)
        elif key == "deletedFile":
            if tree.pop(path, None) is None:
                raise entry_not_found(f"A file with this name doesn't exist: {path}")
        else:
            inside = [name for name in tree if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise entry_not_found(f"A file with this name doesn't exist: {path}")
            for name in inside:
                del tree[name]
    return with_attributes(tree, lfs)


def regular_content(value: dict) -> bytes:
    try:
        content = base64.b64decode(value["content"], validate=True)
    except (binascii.Error, TypeError):
        raise Surprise(f"the content of {value['path']} is not base64") from None
    if value["encoding"] != "base64":
        raise Surprise(f"{value['encoding']} is no encoding")
    if len(content) > REGULAR_LIMIT:
        raise HubError(400, f"Files larger than 10 MB must be uploaded to LFS: {value['path']}")
    if SECRET.search(content):
        raise HubError(
            400,
            "It appears that one or more of your files contain valid Hugging Face secrets, such as tokens or API keys. "
            f"Please remove them: {value['path']}",
        )
    return content


def with_attributes(tree: Tree, lfs: list[str]) -> Tree:
    """Add a line to .gitattributes for each new LFS file that no pattern matches, as the Hub does."""
    now = tree.get(".gitattributes", Blob(b"")).data.decode()
    rules = [line.split()[0] for line in now.splitlines() if "filter=lfs" in line]
    new = [p for p in lfs if not any(fnmatch(p, rule) or fnmatch(basename(p), rule) for rule in rules)]
    if new:
        tree[".gitattributes"] = Blob((now + "".join(map(LFS_LINE.format, sorted(new)))).encode())
    return tree


def check_card(operations: list[tuple[str, dict]], tree: Tree, repo: Repo) -> None:
    """Refuse a commit with invalid card metadata, as the Hub does."""
    if "README.md" in tree and any(value["path"] == "README.md" for _, value in operations):
        errors, _ = problems(tree["README.md"].data.decode("utf-8", "replace"), repo.type)
        if errors:
            raise HubError(400, "Invalid metadata in README.md", errors=[{"message": error} for error in errors])


@router.post("/api/{kind}/{ns}/{name}/commit/{revision}")
async def commit(
    request: Request, revision: Quoted, repo: Readable, token: Caller, store: TheStore, create_pr: bool = False
):
    check_upload(repo, token, create_pr)
    if request.headers.get("content-type") != "application/x-ndjson":
        raise Surprise(f"a commit of type {request.headers.get('content-type')}")
    header, operations = read_operations(await request.body())
    head = at(repo, revision)
    ref = repo.ref_of(revision)
    if ref is None or ref.startswith("refs/tags/"):
        raise HubError(400, f"Invalid reference for a commit: {revision}")
    if not head.oid.startswith(header.get("parentCommit", head.oid).lower()):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    changed = apply(head.tree, operations, repo, store)
    check_card(operations, changed, repo)
    message = (header["summary"], header.get("description", ""), token.user, store.now())
    answer: dict[str, Any] = {"success": True, "hookOutput": ""}
    if create_pr:
        pull = open_pull(repo, header["summary"], header.get("description", ""), token.user, store.now(), head, ref)
        made = repo.add_commit(pull.ref, changed, *message)
        answer["pullRequestUrl"] = url_of(request, repo, pull.num)
    else:
        made = repo.add_commit(ref, changed, *message)
    if repo.space and repo.refs["refs/heads/main"] == made.oid:
        files_changed(repo.space, changed)
    return answer | {"commitUrl": f"{page_url(request, repo.kind, repo.id)}/commit/{made.oid}", "commitOid": made.oid}


def ranged(request: Request, data: bytes, headers: dict[str, str]) -> Response:
    """The whole content, or the requested range."""
    headers = headers | {"Accept-Ranges": "bytes"}
    wanted = request.headers.get("range")
    if wanted is None:
        return Response(data, headers=headers, media_type="application/octet-stream")
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if not match:
        raise Surprise(f"{wanted} is no range")
    start, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
    if start > end:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers |= {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
    return Response(data[start : end + 1], 206, headers, "application/octet-stream")


def resolve(request: Request, repo: Repo, token: Token | None, revision: str, path: str) -> Response:
    if repo.gated and not (token and token.may_read(repo)):
        raise HubError(403 if token else 401, f"Access to {repo.type} {repo.id} is restricted.", "GatedRepo")
    found = at(repo, revision)
    if path not in found.tree:
        raise entry_not_found("Entry not found", found)
    blob = found.tree[path]
    headers = {"X-Repo-Commit": found.oid}
    if blob.lfs:
        headers |= {"X-Linked-Size": str(len(blob.data)), "X-Linked-Etag": f'"{blob.etag}"'}
        return RedirectResponse(storage_url(request, blob.sha256), 302, headers)
    return ranged(request, blob.data, headers | {"ETag": f'"{blob.etag}"'})


@router.api_route("/{ns}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
async def resolve_model(request: Request, revision: Quoted, path: Quoted, repo: ReadableModel, token: Caller):
    return resolve(request, repo, token, revision, path)


@router.api_route("/{kind}/{ns}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
async def resolve_other(request: Request, revision: Quoted, path: Quoted, repo: Readable, token: Caller):
    return resolve(request, repo, token, revision, path)


@router.api_route("/storage/{sha256}", methods=["GET", "HEAD"])
async def download(sha256: str, request: Request, store: TheStore):
    """The content delivery network, which must never receive a token."""
    if "authorization" in request.headers:
        raise Surprise("a token was sent to the storage")
    if request.query_params.get("signature") not in request.app.state.signatures or sha256 not in store.blobs:
        return JSONResponse({"error": "AccessDenied"}, 403)
    return ranged(request, store.blobs[sha256].data, {"ETag": f'"{sha256}"'})
