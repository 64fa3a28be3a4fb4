"""The server: combines all routes, runs in a thread on a free port, and is reset between tests."""

from __future__ import annotations

import copy
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tests.hub import files, jobs, lfs, metadata, pulls, repos, social, spaces
from tests.hub.accounts import SOMEONE
from tests.hub.faults import KINDS, STATUSES, Entry, Fault, Wire
from tests.hub.store import Store
from tests.hub.wire import HubError, Surprise

# The first matching route answers, so fixed paths come before those with a repository name.
ROUTERS = [
    social.router,
    jobs.router,
    spaces.router,
    metadata.router,
    lfs.router,
    pulls.router,
    files.router,
    repos.router,
]

CONTRADICTING = (
    *("HF_HUB_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "HF_TOKEN_PATH", "HF_MODULES_CACHE", "HUGGINGFACE_HUB_CACHE"),
    *("HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_XET", "HF_DEBUG"),
)
"""Environment variables that would override the Hub's."""


def build() -> tuple[FastAPI, Wire]:
    """The application, and its outermost layer, which the server runs."""
    app = FastAPI(openapi_url=None)
    for router in ROUTERS:
        app.include_router(router)
    wire = Wire(app, ROUTERS)

    @app.exception_handler(HubError)
    async def refused(request: Request, error: HubError):
        if isinstance(error, Surprise):
            wire.surprises.append(f"{request.method} {request.url.path}: {error.message}")
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError):
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        wire.surprises.append(f"{request.method} {request.url.path}: {where}: {fault['msg']}")
        return JSONResponse({"error": f"{where}: {fault['msg']}"}, 400)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException):
        wire.surprises.append(f"{request.method} {request.url.path}: {error.detail}")
        return JSONResponse({"error": error.detail}, error.status_code)

    return app, wire


class Hub:
    """A running Hub.

    Attributes:
        url: the value for HF_ENDPOINT.
        home: HF_HOME for its clients, with their caches; emptied by the next reset.
        token: a token that may write as `someone`; others are in tests.hub.accounts.
        store: the state, for reading and for setting the stage (store.free, store.tokens, …).
    """

    def __init__(self, port: int = 0):
        self.app, self.wire = build()
        self.token = SOMEONE
        # With IPPROTO_TCP, asyncio sets TCP_NODELAY; without it, each small response takes 40 ms.
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.folder = Path(tempfile.mkdtemp(prefix="axion-hub-"))
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            self.wire, log_level="critical", access_log=False, lifespan="off", proxy_headers=False, http="h11"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.home = self.folder / "home"
        self.reset()

    def reset(self) -> None:
        """Reset: no repositories, no faults, an empty log, empty caches."""
        self.store = self.app.state.store = Store()
        self.app.state.signatures = set()
        self.app.state.parts = {}
        for folder in self.folder.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        self.store.xet_folder = self.folder / "xet"
        self.store.xet_folder.mkdir()
        self.wire.clear()

    def start(self) -> Hub:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()
        self.socket.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def log(self) -> list[Entry]:
        """Every request since the last reset."""
        return self.wire.log

    @property
    def surprises(self) -> list[str]:
        """Requests that the real client would never send, and exceptions in this server."""
        return self.wire.surprises

    def calls(self, on: str = "*") -> list[str]:
        """The requests so far, as "METHOD template", that match the pattern `on`."""
        return [entry.what for entry in self.log if Fault("", on, 1, False, None).due(entry)]

    def fail(
        self, kind: str, on: str = "*", nth: int = 1, *, sticky: bool = False, call: Callable[[], Any] | None = None
    ) -> None:
        """Make a request fail.

        Args:
            kind: a status, or one of tests.hub.faults.KINDS, described there.
            on: which requests are counted: a pattern of "METHOD template" or "METHOD path", e.g. "POST */commit/*".
            nth: which of these requests fails, counted from now.
            sticky: all later ones fail too.
            call: run at that moment, e.g. to kill the client process: before the request takes effect,
                but with "reset after", after it.
        """
        if kind not in (*KINDS, *STATUSES):
            raise ValueError(f"{kind} is no status of an error, and none of {', '.join(KINDS)}")
        self.wire.faults.append(Fault(kind, on, nth, sticky, call))

    def heal(self) -> None:
        """Remove all faults."""
        self.wire.faults.clear()

    def save(self) -> Store:
        """A copy of the current state, for `restore`."""
        return copy.deepcopy(self.store)

    def restore(self, saved: Store) -> None:
        """Restore a saved state, which can be restored again."""
        self.reset()
        self.store = self.app.state.store = copy.deepcopy(saved)

    def snapshot(self) -> dict[str, Any]:
        """The state for comparisons; see `Store.snapshot`."""
        return self.store.snapshot()

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that point a process at this Hub, and its caches at this Hub's folder."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    @property
    def env(self) -> dict[str, str]:
        """The environment for a subprocess: this process's, with `variables` and without contradicting ones."""
        kept = {name: value for name, value in os.environ.items() if name not in CONTRADICTING}
        return kept | self.variables
