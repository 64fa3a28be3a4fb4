"""The OpenAI-compatible API: /v1/models, /v1/completions and /v1/chat/completions.

    POST /v1/completions → parse_json, read_body → the queue → generate (in a thread) → parts → Response

Beyond OpenAI's API: top_k, min_p, repetition_penalty, min_tokens, num_loops, `routing: true`, the changes to the model
of `axion.tampering` (mute, force, top_experts, bias, scale, mute_head), and the seed in every response.
No key is needed, and one that is sent only tells callers of one address apart; there are no cookies, and nothing is
stored.

Gradio decides for the whole server which web pages may call it, and its middleware answers preflight requests before
any route: a public server accepts every origin, a server on localhost only pages of localhost. This keeps
other sites' pages from using a visitor's own server. A body that is not declared as JSON could be sent without a
preflight, and is refused here.
"""

import asyncio
import atexit
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager, suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from playground.api.generation import generate
from playground.api.requests import ApiError, CompletionRequest, Kind, parse_json, read_body
from playground.api.responses import Part, Response, Usage
from playground.generate.catalogue import Catalogue
from playground.generate.events import UPDATES_PER_SECOND
from playground.generate.rate_limits import (
    BURST,
    GENERATIONS_AT_ONCE,
    MAX_WAITING_CALLS,
    RateLimiter,
    TooManyRequests,
    program_visitor,
)
from playground.generate.refusal import Refusal

MAX_BODY_BYTES = 256 * 1024
BODY_SECONDS = 20.0
"""Time limit for the arrival of a body."""
RETRY_SECONDS = 5
"""The Retry-After of a response when the queue is full."""

STOP_SECONDS = 5.0
"""How long the server waits for running generations when it ends; a step of a model takes less."""

SERVER_FAILED = "the server failed; its log says more"

log = logging.getLogger(__name__)

T = TypeVar("T")


class Worker:
    """Runs generations in `at_once` threads; further ones wait in turn and hold no thread.

    The threads are reused, since each thread that has run a model keeps memory for it.
    """

    def __init__(self, at_once: int, most_waiting: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [Thread(target=self._do_jobs, name="api", daemon=True) for _ in range(at_once)]
        self._stopping = Event()
        self._places = asyncio.Semaphore(at_once)
        self._most = at_once + most_waiting
        self._working = 0
        self._queue: set[object] = set()
        for thread in self._threads:
            thread.start()
        # Python may exit while a daemon thread works, but not while the thread is inside torch.
        atexit.register(self.stop)

    def stop(self) -> None:
        """Cancel all work and end the threads."""
        self._stopping.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    @contextmanager
    def queued(self) -> Iterator[object]:
        """A place in the queue, for `batches`. Raises ApiError 503 when the queue is full."""
        if len(self._queue) + self._working >= self._most:
            message = f"the server is busy, and {len(self._queue)} calls are waiting; try again later"
            raise ApiError(503, message, code="overloaded", headers={"Retry-After": str(RETRY_SECONDS)})
        ticket = object()
        self._queue.add(ticket)
        try:
            yield ticket
        finally:
            self._queue.discard(ticket)

    async def batches(self, ticket: object, parts: Generator[T, None, None]) -> AsyncGenerator[list[T], None]:
        """Wait for a thread, generate the parts in it, and yield them in batches. Closing this cancels the work.

        The thread is free again when the generation is over, however slowly the client reads.
        """
        await self._places.acquire()
        self._queue.discard(ticket)
        self._working += 1
        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[list[T] | Exception | None] = asyncio.Queue()
        unwanted = Event()

        def hand_over(batch: list[T] | Exception | None) -> None:
            loop.call_soon_threadsafe(ready.put_nowait, batch)

        def work() -> None:
            with suppress(RuntimeError):  # the event loop is closed: the server has ended
                _hand_over_all(parts, hand_over, lambda: unwanted.is_set() or self._stopping.is_set())
                loop.call_soon_threadsafe(self._free_place)

        self._jobs.put(work)
        try:
            while (batch := await ready.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            unwanted.set()

    def _do_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _free_place(self) -> None:
        self._working -= 1
        self._places.release()


def _hand_over_all(parts: Generator[T, None, None], hand_over: Callable, unwanted: Callable[[], bool]) -> None:
    """The first part at once, the others at most UPDATES_PER_SECOND times a second; an error or None comes last."""
    batch: list[T] = []
    handed = -float("inf")
    try:
        with closing(parts):
            for part in parts:
                if unwanted():
                    return
                batch.append(part)
                if time.monotonic() - handed >= 1 / UPDATES_PER_SECOND:
                    hand_over(batch)
                    batch, handed = [], time.monotonic()
        if batch:
            hand_over(batch)
        hand_over(None)
    except Exception as error:  # raised again in `batches`
        hand_over(error)


async def receive_body(request: Request) -> bytes:
    """The body. Raises ApiError when it arrives too slowly, or as soon as it is too large."""
    too_large = ApiError(413, f"the body is larger than {MAX_BODY_BYTES // 1024} kB", code="request_too_large")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 12 or int(length) > MAX_BODY_BYTES):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    return bytes(body)


class Reply:
    """Sends one response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def whole(self, status: int, body: Mapping, headers: Mapping[str, str] | None = None) -> None:
        """Send a JSON body."""
        content = _to_json(body).encode()
        await self._begin(status, {"content-type": "application/json", "content-length": str(len(content))}, headers)
        await self._send({"type": "http.response.body", "body": content})

    async def empty(self, headers: Mapping[str, str]) -> None:
        """Send no content (204)."""
        await self._begin(204, headers)
        await self._send({"type": "http.response.body", "body": b""})

    async def event(self, data: str) -> None:
        """Send one server-sent event; the first one starts the response."""
        if not self.begun:
            await self._begin(200, {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"})
        await self._send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

    async def end(self) -> None:
        """End a stream of events."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _begin(self, status: int, *headers: Mapping[str, str] | None) -> None:
        self.begun = True
        fields = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        for more in headers:
            fields |= {name.lower(): value for name, value in (more or {}).items()}
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})


def _to_json(body: Mapping) -> str:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


Handler = Callable[[Request, Reply], Awaitable[None]]


class Endpoint:
    """One address: its handlers by method, and every error in OpenAI's form."""

    def __init__(self, **handlers: Handler) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        reply = Reply(send)
        try:
            await self._handle(Request(scope, receive), reply)
        except ApiError as error:
            await self._fail(reply, error)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("an API call failed")
            await self._fail(reply, ApiError(500, SERVER_FAILED))

    async def _handle(self, request: Request, reply: Reply) -> None:
        allowed = ", ".join([*self._handlers, "OPTIONS"])
        if request.method == "OPTIONS":
            await reply.empty({"Allow": allowed})
        elif handler := self._handlers.get("GET" if request.method == "HEAD" else request.method):
            await handler(request, reply)
        elif self._handlers:
            message = f"{request.method} is not allowed here; {allowed} are"
            raise ApiError(405, message, code="method_not_allowed", headers={"Allow": allowed})
        else:
            raise ApiError(404, "no such endpoint", code="not_found")

    @staticmethod
    async def _fail(reply: Reply, error: ApiError) -> None:
        if not reply.begun:
            await reply.whole(error.status, error.body, error.headers)
        else:  # the status is already sent; OpenAI's clients raise on such an event
            await reply.event(_to_json(error.body))
            await reply.end()


async def unless_client_leaves(receive: Receive, work: Awaitable[None]) -> None:
    """Await the work, and cancel it when the client closes the connection. The body must have been read."""

    async def leaves() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(leaves())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        done, _ = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(done, Exception):
        raise done


class Api:
    """The handlers."""

    def __init__(self, catalogue: Catalogue, limiter: RateLimiter, worker: Worker) -> None:
        self._catalogue, self._limiter, self._worker = catalogue, limiter, worker
        self._since = int(time.time())

    async def models(self, request: Request, reply: Reply) -> None:
        """GET /v1/models"""
        await reply.whole(200, {"object": "list", "data": [self._model(name) for name in self._catalogue.names]})

    async def model(self, request: Request, reply: Reply) -> None:
        """GET /v1/models/{name}"""
        await reply.whole(200, self._model(self._known(request.path_params["name"])))

    def generation(self, kind: Kind) -> Handler:
        """POST /v1/completions or /v1/chat/completions"""

        async def handle(request: Request, reply: Reply) -> None:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise ApiError(415, "send JSON, with the header Content-Type: application/json")
            asked = read_body(kind, parse_json(await receive_body(request)))
            self._known(asked.model)
            with self._worker.queued() as ticket:
                self._admit(request, asked.generations)
                await unless_client_leaves(request.receive, self._respond(asked, ticket, reply))

        return handle

    async def _respond(self, asked: CompletionRequest, ticket: object, reply: Reply) -> None:
        """Generate, and send what the model writes."""
        response = Response(asked)
        whole: list[Part | Usage] = []
        async with aclosing(self._worker.batches(ticket, generate(self._catalogue, asked))) as batches:
            async for batch in batches:
                if not asked.stream:
                    whole += batch
                    continue
                for chunk in response.chunks(batch):
                    await reply.event(_to_json(chunk))
        if not asked.stream:
            await reply.whole(200, response.whole(whole))
            return
        for chunk in response.last_chunks():
            await reply.event(_to_json(chunk))
        await reply.event("[DONE]")
        await reply.end()

    def _admit(self, request: Request, generations: int) -> None:
        """Count one start for each text of the request, up to a visitor's limit."""
        try:
            self._limiter.admit(program_visitor(request), min(generations, BURST))
        except TooManyRequests as error:
            headers = {"Retry-After": str(error.seconds)}
            raise ApiError(429, str(error), code="rate_limit_exceeded", headers=headers) from None

    def _known(self, name: str) -> str:
        try:
            return self._catalogue.check_name(name)
        except Refusal as error:
            raise ApiError(404, str(error), "model", "model_not_found") from None

    def _model(self, name: str) -> dict:
        """`created` is the start of this server."""
        return {"id": name, "object": "model", "created": self._since, "owned_by": "axion"}


def build_routes(
    catalogue: Catalogue,
    limiter: RateLimiter,
    at_once: int = GENERATIONS_AT_ONCE,
    most_waiting: int = MAX_WAITING_CALLS,
) -> list[BaseRoute]:
    """The routes, for `launch(app_kwargs={"routes": …})`.

    Args:
        at_once: how many generations of this API run at the same time.
        most_waiting: how many more may wait; the next call gets a 503.
    """
    api = Api(catalogue, limiter, Worker(at_once, most_waiting))
    return [
        Route("/v1/models", Endpoint(GET=api.models)),
        Route("/v1/models/{name:path}", Endpoint(GET=api.model)),
        Route("/v1/completions", Endpoint(POST=api.generation("completion"))),
        Route("/v1/chat/completions", Endpoint(POST=api.generation("chat"))),
        Route("/v1/{rest:path}", Endpoint()),
    ]
