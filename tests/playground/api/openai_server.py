"""The OpenAI-compatible API on a server of its own, and helpers that its tests share."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import httpx
import uvicorn
from starlette.applications import Starlette

from axion.inference.sampling import Sampling
from axion.inference.stream import stream
from playground.api.openai import build_routes
from playground.generate.catalogue import Catalogue
from playground.generate.rate_limits import RateLimiter
from tests.support.servers import free_port

PROMPT = "# Pergunta:\nQuanto é 2 + 2?\n"
NO_STEP = ("s",)  # seconds differ


def unlimited() -> RateLimiter:
    """A rate limiter that never refuses: an hour passes between two readings of its clock."""
    hours = count(step=3600)
    return RateLimiter(clock=lambda: float(next(hours)))


@contextmanager
def listening(catalogue: Catalogue, limiter: RateLimiter | None = None, **limits: int) -> Iterator[str]:
    """Serve only the API's routes, on a free port."""
    app = Starlette(routes=build_routes(catalogue, unlimited() if limiter is None else limiter, **limits))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)


def good(**changes: object) -> dict:
    return {"model": "plain", "prompt": PROMPT, "max_tokens": 4, "seed": 1} | changes


def expected_steps(catalogue: Catalogue, name: str = "plain", prompt: str = PROMPT, **settings: object) -> list:
    release = catalogue.open(name).release
    return list(stream(release.model, release.tokenizer, prompt, Sampling(**settings)))


def text_of(steps: list) -> str:
    return "".join(step.text for step in steps if not step.is_prompt)


def records(routing: dict) -> list[dict]:
    return [{name: value for name, value in step.items() if name not in NO_STEP} for step in routing["steps"]]


def check_error(answer: httpx.Response, status: int, param: object = ..., code: object = ...) -> str:
    """Assert that the answer is an error in OpenAI's format without internal details; returns its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert param is ... or error["param"] == param
    assert code is ... or error["code"] == code
    assert 0 < len(error["message"]) < 500
    for secret in ("Traceback", "File ", ".py", "/tmp", "/home", "site-packages"):
        assert secret not in answer.text
    return error["message"]


def case_id(case: object) -> str:
    return " ".join(f"{name}={str(value)[:20]}" for name, value in case.items()) if isinstance(case, dict) else ""


class Slow:
    """Replaces the model's events: endless steps, slow enough to be observed."""

    def __init__(self, real: Callable, pause: float = 0.01) -> None:
        self._real, self._pause = real, pause
        self.working = self.most = self.started = 0
        self._lock = threading.Lock()

    def __call__(self, *arguments, **settings) -> Iterator[dict]:
        events = self._real(*arguments, **settings)
        with self._lock:
            self.working += 1
            self.started += 1
            self.most = max(self.most, self.working)
        try:
            yield next(events)
            steps = [event for event in events if event["kind"] == "step"]
            while True:
                yield from ({**step, "prompt": False, "p": 1.0} for step in steps)
                time.sleep(self._pause)
        finally:
            with self._lock:
                self.working -= 1
