"""Server-sent events, errors in the middle of a stream, and clients that disconnect."""

import asyncio
import json
import time

import httpx
import openai
import pytest

from playground.api import generation
from playground.generate.events import UPDATES_PER_SECOND
from playground.generate.request import LIMITS
from tests.playground.api.openai_server import (
    PROMPT,
    good,
    wait_for,
)
from tests.playground.conftest import run_async


def test_an_error_in_the_middle_of_a_stream_is_raised(client, monkeypatch):
    real = generation.live_events

    def fails(*arguments, **settings):
        events = real(*arguments, **settings)
        yield from (next(events) for _ in range(5))
        raise RuntimeError("secret")

    monkeypatch.setattr(generation, "live_events", fails)
    with pytest.raises(openai.APIError, match="its log says more") as error:
        list(client.completions.create(model="plain", prompt=PROMPT, max_tokens=20, stream=True))
    assert "secret" not in str(error.value.body)


def test_events_end_with_done(http):
    answer = http.post("/completions", json=good(stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, nothing = answer.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: "))["object"] == "text_completion" for event in events)


@pytest.mark.parametrize("streams", [True, False], ids=["streaming", "in one piece"])
def test_a_client_that_leaves_frees_the_model(address, slow, streams):
    for _ in range(4):  # more often than requests can run at once
        with httpx.Client(base_url=address, timeout=20) as http:
            if streams:
                with http.stream("POST", "/completions", json=good(stream=True)) as answer:
                    lines = answer.iter_lines()
                    wait_for(lambda lines=lines: next(lines).startswith("data:"))
            else:
                with pytest.raises(httpx.ReadTimeout):
                    http.post("/completions", json=good(), timeout=0.5)
        wait_for(lambda: slow.working == 0, seconds=2)
    assert slow.started == 4


def test_the_stream_is_not_buffered(visitor):
    """Compression or a buffering middleware would delay it."""
    request = good(model="endless", max_tokens=500, stream=True, routing=True)
    times = []
    with visitor.stream("POST", "/v1/completions", json=request, headers={"Accept-Encoding": "br, gzip"}) as answer:
        assert "content-encoding" not in answer.headers
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                times.append(time.monotonic())
    assert len(times) > 2
    assert times[-1] - times[0] > 0.5 / UPDATES_PER_SECOND  # near zero if something buffered the stream


def test_clients_that_leave_free_the_page_server(server):
    """Their requests are long enough to keep the server busy for much longer than the test waits."""
    request = good(model="endless", max_tokens=int(LIMITS["max_new_tokens"].high), stream=True)

    async def ask_and_leave() -> None:
        async def ask(host: str) -> None:
            transport = httpx.AsyncHTTPTransport(local_address=host)
            async with (
                httpx.AsyncClient(transport=transport, timeout=60) as http,
                http.stream("POST", f"{server.address}/v1/completions", json=request) as answer,
            ):
                async for _ in answer.aiter_lines():
                    pass

        calls = [asyncio.ensure_future(ask(f"127.0.2.{number}")) for number in range(1, 41)]
        await asyncio.sleep(1.0)
        assert sum(not call.done() for call in calls) > 20
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    run_async(ask_and_leave())
    time.sleep(1.5)
    before = server.cpu_seconds()
    time.sleep(0.5)
    assert server.cpu_seconds() - before < 0.1
