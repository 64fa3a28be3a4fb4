"""The outermost layer of the server: logs requests and injects faults.

A fault occurs at the nth request that matches it. The kinds of faults:
    429, 503, …      a response of that status, without an effect; 429 with Retry-After: 0 and RateLimit headers, 404
                     as for a missing repository
    not JSON         a page of HTML instead of the response, without an effect, as from a proxy
    reset before     the connection is reset, without an effect
    reset after      the request takes effect, but the connection is reset instead of a response
    reset within     the connection is reset after half of the response's body
    truncated        the connection is closed after half of the response's body
    corrupted        one bit of the response's body is flipped; its length and headers are unchanged
"""

from __future__ import annotations

import socket
import struct
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.routing import Match

STATUSES = {str(status): status for status in range(400, 600)}
KINDS = ("not JSON", "reset before", "reset after", "reset within", "truncated", "corrupted")


@dataclass
class Entry:
    """A request in the log, without tokens."""

    n: int
    method: str
    template: str
    """The path with names for its variable parts, or "?" if no route matches."""
    path: str
    authorized: bool
    status: int | None = None
    """None if there was no response."""

    @property
    def what(self) -> str:
        return f"{self.method} {self.template}"


@dataclass
class Fault:
    kind: str
    on: str
    nth: int
    sticky: bool
    call: Callable[[], Any] | None
    seen: int = 0

    def due(self, entry: Entry) -> bool:
        if not (fnmatch(entry.what, self.on) or fnmatch(f"{entry.method} {entry.path}", self.on)):
            return False
        self.seen += 1
        return self.seen == self.nth or (self.sticky and self.seen > self.nth)


class Wire:
    """The outermost layer of the server."""

    def __init__(self, app: Callable, routers: list[APIRouter]):
        self.app, self.routers = app, routers
        self.clear()

    def clear(self) -> None:
        self.log: list[Entry] = []
        self.faults: list[Fault] = []
        self.surprises: list[str] = []

    def template(self, scope: dict) -> str:
        for router in self.routers:
            for route in router.routes:
                if route.matches(scope)[0] is Match.FULL:
                    return route.path
        return "?"

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        # Routes get the path as it was sent, so that a quoted slash in a name is not a separator.
        scope = scope | {"path": scope["raw_path"].decode()}
        names = {name for name, _ in scope["headers"]}
        entry = Entry(
            len(self.log) + 1, scope["method"], self.template(scope), scope["path"], b"authorization" in names
        )
        self.log.append(entry)
        body = await read_all(receive)
        # All faults count this request, though only one can occur.
        fault = next(iter([fault for fault in self.faults if fault.due(entry)]), None)
        kind = fault.kind if fault else None
        if kind != "reset after":
            run_call(fault)
        if kind == "reset before":
            return await reset(send, receive)
        messages = await (refuse(kind, scope, entry.n) if kind in {*STATUSES, "not JSON"} else self.answer(scope, body))
        if kind == "reset after":
            run_call(fault)
            return await reset(send, receive)
        entry.status = messages[0]["status"]
        if kind == "corrupted":
            corrupt(messages)
        if kind in ("truncated", "reset within"):
            await send_half(messages, send)
            return await (finish if kind == "truncated" else reset)(send, receive)
        for message in messages:
            await send(message)

    async def answer(self, scope: dict, body: bytes) -> list[dict]:
        """The complete response of a route. Exceptions in routes are recorded as surprises."""
        messages: list[dict] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": body, "more_body": False}

        async def collect(message: dict) -> None:
            messages.append(message)

        try:
            await self.app(scope, receive, collect)
        except Exception:
            self.surprises.append(traceback.format_exc())
            if not messages:
                await JSONResponse({"error": "Internal Error"}, 500)(scope, receive, collect)
        return messages


async def read_all(receive: Callable) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


def run_call(fault: Fault | None) -> None:
    if fault and fault.call:
        fault.call()


async def refuse(kind: str, scope: dict, n: int) -> list[dict]:
    messages: list[dict] = []

    async def collect(message: dict) -> None:
        messages.append(message)

    headers = {"X-Request-Id": f"loopback-{n}"}
    if kind == "429":
        headers |= {
            "Retry-After": "0",
            "RateLimit": '"api";r=0;t=0',
            "RateLimit-Policy": '"fixed window";"api";q=500;w=300',
        }
    if kind == "404":
        headers["X-Error-Code"] = "RepoNotFound"
    if kind == "not JSON":
        await HTMLResponse("<html>Please log in</html>", 200, headers)(scope, None, collect)
    else:
        await JSONResponse({"error": f"A fault: {kind}"}, STATUSES[kind], headers)(scope, None, collect)
    return messages


def corrupt(messages: list[dict]) -> None:
    """Flip a bit in the middle of the body."""
    for message in messages:
        if body := bytearray(message.get("body", b"")):
            body[len(body) // 2] ^= 1
            message["body"] = bytes(body)
            return


def transport_of(send: Callable) -> Any:
    """The connection: `send` is a bound method of the uvicorn object that holds it."""
    return send.__self__.transport


async def until_closed(receive: Callable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def reset(send: Callable, receive: Callable) -> None:
    """Reset the connection: with a linger time of zero, closing it sends a TCP RST."""
    transport = transport_of(send)
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
    await until_closed(receive)


async def send_half(messages: list[dict], send: Callable) -> None:
    """The headers and half of the body."""
    body = b"".join(message.get("body", b"") for message in messages)
    await send(messages[0])
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def finish(send: Callable, receive: Callable) -> None:
    """Close the connection after everything sent has arrived."""
    transport_of(send).close()
    await until_closed(receive)
