"""The models over HTTP, as OpenAI's clients expect it: /v1/models, /v1/completions and /v1/chat/completions.

    POST /v1/completions → parse_json, read_wish → a place → draw (in a thread) → Answer → shapes

Beyond OpenAI's: top_k, min_p, repetition_penalty, min_tokens, `routing: true`, and the seed in every answer. There are
no keys and no cookies, and nothing is kept.

Which web pages may call this is Gradio's rule for the whole server, whose middleware answers preflights before any
route is asked: a public server answers pages of every origin, one on this machine only pages of this machine. So no
foreign page can let a visitor's own computer work; what a page could send without a preflight, text that does not call
itself JSON, is refused here.
"""

import asyncio
import atexit
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager, suppress
from queue import SimpleQueue
from threading import Event, Thread

from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from axion.errors import AxionError
from axion.inference.stream import encode_prompt
from playground import GENERATIONS_AT_ONCE
from playground.api.requests import ApiError, Kind, Wish, parse_json, read_wish, refuse, short
from playground.api.responses import Answer, Chats, Completions, Delta, with_logprobs
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.chat import can_chat, conversation_prompt
from playground.generate.events import UPDATES_PER_SECOND, live_events
from playground.generate.rate_limits import TooManyRequests, Visitors
from playground.generate.request import read_request
from playground.server.admission import address_of

MAX_BODY_BYTES = 256 * 1024
BODY_SECONDS = 20.0
"""A body that takes longer to arrive is not waited for."""
MAX_WAITING_CALLS = 64
RETRY_SECONDS = 5
"""When to try again, where all places to wait are taken."""

STOP_SECONDS = 5.0
"""Longer than a step of a model takes; at its end the server waits no longer for one."""

SHAPES = {"completion": Completions, "chat": Chats}
SERVER_FAILED = "the server failed; its log says more"

log = logging.getLogger(__name__)


class Worker:
    """Lets models work in threads: `at_once` generations, the others wait in turn and hold no thread.

    A thread of its own for each place, used again and again, since each thread that runs a model keeps memory for it.
    """

    def __init__(self, at_once: int, most_waiting: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [Thread(target=self._do_jobs, name="api", daemon=True) for _ in range(at_once)]
        self._stopping = Event()
        self._places = asyncio.Semaphore(at_once)
        self._most = at_once + most_waiting
        self._working = 0
        self._line: set[object] = set()
        for thread in self._threads:
            thread.start()
        # Python may end while a daemon thread works, but not while that is inside of torch.
        atexit.register(self.stop)

    def stop(self) -> None:
        """End all work for good, at once."""
        self._stopping.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    @contextmanager
    def queued(self) -> Iterator[object]:
        """A ticket for `batches`. Raises ApiError 503 where as many wait as may."""
        if len(self._line) + self._working >= self._most:
            message = f"the server is busy, and {len(self._line)} calls wait already; try again later"
            raise ApiError(503, message, code="overloaded", headers={"Retry-After": str(RETRY_SECONDS)})
        ticket = object()
        self._line.add(ticket)
        try:
            yield ticket
        finally:
            self._line.discard(ticket)

    async def batches(self, ticket: object, events: Iterator[dict]) -> AsyncIterator[list[dict]]:
        """Wait for a place, draw the events in a thread, yield them in batches; closing this ends the work.

        The place is free again when the thread is done with it, however slowly a client reads.
        """
        await self._places.acquire()
        self._line.discard(ticket)
        self._working += 1
        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[list[dict] | Exception | None] = asyncio.Queue()
        unwanted = Event()

        def hand_over(batch: list[dict] | Exception | None) -> None:
            loop.call_soon_threadsafe(ready.put_nowait, batch)

        def work() -> None:
            with suppress(RuntimeError):  # nobody waits for anything any more: the server has ended
                _hand_over_all(events, hand_over, lambda: unwanted.is_set() or self._stopping.is_set())
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


def _hand_over_all(events: Iterator[dict], hand_over: Callable, unwanted: Callable[[], bool]) -> None:
    """The first event at once, the others as often as the page is updated; an error, or None, is the last."""
    batch: list[dict] = []
    handed = -float("inf")
    try:
        with closing(events):
            for event in events:
                if unwanted():
                    return
                batch.append(event)
                if time.monotonic() - handed >= 1 / UPDATES_PER_SECOND:
                    hand_over(batch)
                    batch, handed = [], time.monotonic()
        if batch:
            hand_over(batch)
        hand_over(None)
    except Exception as error:  # whoever waits for the batches raises it
        hand_over(error)


def draw(catalogue: Catalogue, wish: Wish) -> Iterator[dict]:
    """The events of a wish (see `playground.generate.events`). Raises ApiError where the model cannot grant it."""
    model = _open(catalogue, wish.model)
    prompt, param = wish.text, "prompt"
    if wish.kind == "chat":
        prompt, param = _conversation(model, wish), "messages"
    tokenizer, context = model.release.tokenizer, model.facts.context
    try:
        request = read_request(prompt, wish.settings)
        count = len(encode_prompt(tokenizer, prompt))
    except AxionError as error:
        refuse(str(error), param)
    if count >= context:
        refuse(
            f"the prompt has {count} tokens; this model's context holds {context}, one of them for the answer",
            param,
            "context_length_exceeded",
        )
    with closing(live_events(model, request, cut=False)) as events:
        for event in events:
            if event["kind"] == "error":
                raise ApiError(500, event["message"])
            if event["kind"] == "step" and wish.top is not None:
                event = with_logprobs(event, tokenizer, wish.top)
            yield event


def _open(catalogue: Catalogue, name: str) -> OpenModel:
    try:
        return catalogue.open(name)
    except AxionError as error:  # the name is known: its release is broken, and how is the operator's business
        log.error("%s cannot be opened: %s", name, error)
        raise ApiError(500, f"the model {short(name)} cannot be opened; the server's log says more", "model") from None


def _conversation(model: OpenModel, wish: Wish) -> str:
    if not can_chat(model):
        refuse(
            f"{model.name} was not taught to chat; send a text that it shall continue to /v1/completions",
            "model",
            "not_a_chat_model",
        )
    try:
        return conversation_prompt(model, wish.messages)
    except AxionError as error:
        refuse(str(error), "messages")


async def read_body(request: Request) -> bytes:
    """The body. Raises ApiError where it is too large, before it was read whole, or too slow."""
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
    """Sends one answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def whole(self, status: int, body: Mapping, headers: Mapping[str, str] | None = None) -> None:
        """JSON in one piece."""
        content = _to_json(body).encode()
        await self._begin(status, {"content-type": "application/json", "content-length": str(len(content))}, headers)
        await self._send({"type": "http.response.body", "body": content})

    async def empty(self, headers: Mapping[str, str]) -> None:
        """No content."""
        await self._begin(204, headers)
        await self._send({"type": "http.response.body", "body": b""})

    async def event(self, data: str) -> None:
        """One server-sent event; the first one begins the answer."""
        if not self.begun:
            await self._begin(200, {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"})
        await self._send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

    async def end(self) -> None:
        """Nothing follows the events."""
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
    """One address: its handlers by method, and every error in OpenAI's shape. A client that leaves ends the work."""

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
            log.exception("a call of the API failed")
            await self._fail(reply, ApiError(500, SERVER_FAILED))

    async def _handle(self, request: Request, reply: Reply) -> None:
        allowed = ", ".join([*self._handlers, "OPTIONS"])
        if request.method == "OPTIONS":
            await reply.empty({"Allow": allowed})
        elif handler := self._handlers.get("GET" if request.method == "HEAD" else request.method):
            await handler(request, reply)
        elif self._handlers:
            message = f"{request.method} is not possible here; {allowed} are"
            raise ApiError(405, message, code="method_not_allowed", headers={"Allow": allowed})
        else:
            raise ApiError(404, "there is nothing at this address", code="not_found")

    @staticmethod
    async def _fail(reply: Reply, error: ApiError) -> None:
        if not reply.begun:
            await reply.whole(error.status, error.body, error.headers)
        else:  # of a stream, whose status is sent: OpenAI's clients raise on such an event
            await reply.event(_to_json(error.body))
            await reply.end()


async def unless_client_leaves(receive: Receive, work: Awaitable[None]) -> None:
    """Do the work, and cancel it as soon as the client closes the connection. The body must have been read."""

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

    def __init__(self, catalogue: Catalogue, visitors: Visitors, worker: Worker) -> None:
        self._catalogue, self._visitors, self._worker = catalogue, visitors, worker
        self._since = int(time.time())

    async def models(self, request: Request, reply: Reply) -> None:
        """GET /v1/models"""
        await reply.whole(200, {"object": "list", "data": [self._model(name) for name in self._catalogue.names]})

    async def model(self, request: Request, reply: Reply) -> None:
        """GET /v1/models/{name}"""
        await reply.whole(200, self._model(self._known(request.path_params["name"])))

    def generation(self, kind: Kind) -> Handler:
        """POST /v1/completions or /v1/chat/completions"""

        async def generate(request: Request, reply: Reply) -> None:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise ApiError(415, "send JSON, with the header Content-Type: application/json")
            wish = read_wish(kind, parse_json(await read_body(request)))
            self._known(wish.model)
            with self._worker.queued() as ticket:
                self._admit(request)
                await unless_client_leaves(request.receive, self._answer(wish, ticket, reply))

        return generate

    async def _answer(self, wish: Wish, ticket: object, reply: Reply) -> None:
        """Let the model work, and send what it writes."""
        total, shape, answer = Delta(), None, None
        async with aclosing(self._worker.batches(ticket, draw(self._catalogue, wish))) as batches:
            async for batch in batches:
                if answer is None:
                    answer, batch = Answer(wish, batch[0]), batch[1:]
                    shape = SHAPES[wish.kind](answer)
                delta = _take_all(answer, batch)
                if not wish.stream:
                    total.add(delta)
                else:
                    for chunk in shape.chunks(delta):
                        await reply.event(_to_json(chunk))
                if answer.ended_by:
                    break
        if not wish.stream:
            await reply.whole(200, shape.whole(total))
            return
        for chunk in shape.last_chunks():
            await reply.event(_to_json(chunk))
        await reply.event("[DONE]")
        await reply.end()

    def _admit(self, request: Request) -> None:
        try:
            self._visitors.admit(address_of(request))
        except TooManyRequests as error:
            headers = {"Retry-After": str(error.seconds)}
            raise ApiError(429, str(error), code="rate_limit_exceeded", headers=headers) from None

    def _known(self, name: str) -> str:
        if name not in self._catalogue.names:
            known = ", ".join(self._catalogue.names)
            message = f"there is no model {short(name)} here; there are {known}"
            raise ApiError(404, message, "model", "model_not_found")
        return name

    def _model(self, name: str) -> dict:
        """`created` is when this server began to offer it."""
        return {"id": name, "object": "model", "created": self._since, "owned_by": "axion"}


def _take_all(answer: Answer, events: list[dict]) -> Delta:
    total = Delta()
    for event in events:
        if answer.ended_by:
            break
        total.add(answer.take(event))
    return total


def build_routes(
    catalogue: Catalogue,
    visitors: Visitors,
    at_once: int = GENERATIONS_AT_ONCE,
    most_waiting: int = MAX_WAITING_CALLS,
) -> list[BaseRoute]:
    """The routes, for `launch(app_kwargs={"routes": …})`.

    Args:
        at_once: so many generations of this interface work at the same time.
        most_waiting: so many more wait for them; the next one is told to come back later (503).
    """
    api = Api(catalogue, visitors, Worker(at_once, most_waiting))
    return [
        Route("/v1/models", Endpoint(GET=api.models)),
        Route("/v1/models/{name:path}", Endpoint(GET=api.model)),
        Route("/v1/completions", Endpoint(POST=api.generation("completion"))),
        Route("/v1/chat/completions", Endpoint(POST=api.generation("chat"))),
        Route("/v1/{rest:path}", Endpoint()),
    ]
