"""Shared by all routes: errors in the Hub's format, strict request bodies, and permission checks."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict

from tests.hub.accounts import Token
from tests.hub.store import KINDS, Commit, Repo, Store

Quoted = Annotated[str, AfterValidator(unquote)]
"""A segment of a path. Paths are matched as sent, so that %2F in a revision is not a separator."""


class HubError(Exception):
    """An error response as the Hub sends it: JSON body, X-Error-Message and, if given, X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict | None = None, **body: Any):
        super().__init__(message)
        self.status, self.message, self.code, self.headers, self.body = status, message, code, headers or {}, body

    def response(self) -> JSONResponse:
        headers = {**self.headers, "X-Error-Message": quote(self.message, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~")}
        if self.code:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.message, **self.body}, self.status, headers)


class Surprise(HubError):
    """A request that the real client would never send; it fails the test."""

    def __init__(self, message: str):
        super().__init__(400, message)


class Strict(BaseModel):
    """A JSON request body; undeclared fields are recorded as surprises."""

    model_config = ConfigDict(extra="forbid", strict=True)


def entry_not_found(message: str, commit: Commit | None = None) -> HubError:
    """The client caches that a commit lacks a file, if the response names the commit."""
    return HubError(404, message, "EntryNotFound", {"X-Repo-Commit": commit.oid} if commit else {})


async def the_store(request: Request) -> Store:
    return request.app.state.store


TheStore = Annotated[Store, Depends(the_store)]


async def caller(request: Request, store: TheStore) -> Token | None:
    """The caller, or None if anonymous."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    token = store.tokens.get(secret)
    if scheme != "Bearer" or token is None:
        raise HubError(401, "Invalid credentials in Authorization header")
    return token


Caller = Annotated[Token | None, Depends(caller)]


async def someone(token: Caller) -> Token:
    """The caller; anonymous requests are refused."""
    if token is None:
        raise HubError(401, "Invalid username or password.")
    return token


Someone = Annotated[Token, Depends(someone)]


def visible(store: Store, token: Token | None, kind: str, repo_id: str) -> Repo:
    """The repository, if it exists and the caller can read it."""
    repo = store.repos.get((kind, repo_id))
    if repo is None or (repo.private and not (token and token.may_read(repo))):
        if token is None:
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        raise HubError(404, "Repository not found", "RepoNotFound")
    return repo


def check_write(repo: Repo, token: Token | None, message: str = "Authorization error.") -> None:
    """Refuse callers that can read a repository but not write to it."""
    if token is None:
        raise HubError(401, "Invalid username or password.", "RepoNotFound")
    if not token.may_write(repo):
        raise HubError(403, message)


async def readable(kind: str, ns: Quoted, name: Quoted, store: TheStore, token: Caller) -> Repo:
    if kind not in KINDS:
        raise Surprise(f"{kind} is no type of repository")
    return visible(store, token, kind, f"{ns}/{name}")


Readable = Annotated[Repo, Depends(readable)]


async def writable(repo: Readable, token: Caller) -> Repo:
    check_write(repo, token)
    return repo


Writable = Annotated[Repo, Depends(writable)]


async def readable_model(ns: Quoted, name: Quoted, store: TheStore, token: Caller) -> Repo:
    return visible(store, token, "models", f"{ns}/{name}")


ReadableModel = Annotated[Repo, Depends(readable_model)]
"""The type of paths without a prefix: models."""


def at(repo: Repo, revision: str) -> Commit:
    """The commit at a revision."""
    commit = repo.find(revision)
    if commit is None:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def page_url(request: Request, kind: str, repo_id: str) -> str:
    """The URL of a repository's page."""
    prefix = "" if kind == "models" else f"{kind}/"
    return f"{request.base_url}{prefix}{repo_id}"


def page_of(request: Request, store: Store, entries: list[dict]) -> JSONResponse:
    """One page of a list, with the link to the next."""
    cursor = request.query_params.get("cursor", "0")
    if not cursor.isdecimal():
        raise Surprise(f"{cursor} is no cursor")
    start, end = int(cursor), int(cursor) + store.page
    headers = {}
    if end < len(entries):
        headers["Link"] = f'<{request.url.include_query_params(cursor=end)}>; rel="next"'
    return JSONResponse(entries[start:end], headers=headers)
