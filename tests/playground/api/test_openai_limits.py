"""Concurrency, queue and rate limit of the OpenAI-compatible API."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import openai
import pytest

from playground.api import generation
from playground.generate.rate_limits import BURST, RateLimiter
from tests.playground.api.openai_server import (
    PROMPT,
    check_error,
    good,
    listening,
    wait_for,
)
from tests.playground.conftest import run_async


def test_a_client_that_disconnects_in_the_queue_is_never_served(catalogue, slow):
    with listening(catalogue, at_once=1, most_waiting=1) as address, ExitStack() as stack:
        http = stack.enter_context(httpx.Client(base_url=address, timeout=20))
        first = stack.enter_context(http.stream("POST", "/completions", json=good(stream=True)))
        assert first.status_code == 200
        for _ in range(3):  # each one takes the only place in the queue and disconnects
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{address}/completions", json=good(), timeout=0.4)
        assert slow.started == 1
        first.close()
        wait_for(lambda: slow.working == 0, seconds=2)
        with http.stream("POST", "/completions", json=good(stream=True)) as answer:
            assert answer.status_code == 200
        assert slow.started == 2


def test_the_queue_is_bounded_and_blocks_no_threads(catalogue, slow):
    with listening(catalogue, at_once=2, most_waiting=3) as address:

        async def call(http: httpx.AsyncClient) -> httpx.Response:
            async with http.stream("POST", f"{address}/completions", json=good(stream=True)) as answer:
                await answer.aread() if answer.status_code != 200 else await asyncio.sleep(1.0)
                return answer

        async def call_all() -> list[httpx.Response]:
            before = threading.active_count()
            async with httpx.AsyncClient(timeout=30) as http:
                calls = [asyncio.ensure_future(call(http)) for _ in range(9)]
                await asyncio.sleep(0.7)
                assert threading.active_count() <= before + 2
                return await asyncio.gather(*calls)

        answers = run_async(call_all())
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 4
    for answer in refused:
        check_error(answer, 503, None, "overloaded")
        assert int(answer.headers["retry-after"]) > 0
    assert (slow.started, slow.most) == (5, 2)


def test_a_slow_reader_does_not_block_others(catalogue, monkeypatch):
    real, drawn = generation.live_events, []

    def much(*arguments, **settings) -> Iterator[dict]:
        start, *steps, end = real(*arguments, **settings)
        yield start
        for _ in range(1000):  # in total, more than the socket buffers hold while the client does not read
            time.sleep(0.001)
            yield {**steps[-1], "prompt": False, "t": "x" * 20_000}
        drawn.append(True)
        yield end

    with listening(catalogue, at_once=1) as address, httpx.Client(base_url=address, timeout=60) as http:
        with monkeypatch.context() as patch:
            patch.setattr(generation, "live_events", much)
            unread = http.send(http.build_request("POST", "/completions", json=good(stream=True)), stream=True)
            wait_for(lambda: drawn)
        assert http.post("/completions", json=good()).status_code == 200
        assert len(unread.read()) > 1000 * 20_000


def test_a_visitor_over_the_rate_limit_has_to_wait(catalogue):
    key = {"Authorization": "Bearer none"}
    with listening(catalogue, RateLimiter(clock=lambda: 0.0)) as address:
        for _ in range(BURST):
            assert httpx.post(f"{address}/completions", json=good(max_tokens=1), headers=key).status_code == 200
        answer = httpx.post(f"{address}/completions", json=good(), headers=key)
        check_error(answer, 429, None, "rate_limit_exceeded")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        check_error(httpx.post(f"{address}/completions", json=good(n=0)), 400)  # invalid requests are not counted
        assert httpx.post(f"{address}/completions", json=good(max_tokens=1)).status_code == 200  # no key is another one
        other = httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.9"))
        assert other.post(f"{address}/completions", json=good(max_tokens=1), headers=key).status_code == 200
        with (
            pytest.raises(openai.RateLimitError),
            openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client,
        ):
            client.completions.create(model="plain", prompt=PROMPT)


def test_each_requested_text_counts_against_the_rate_limit(catalogue):
    with listening(catalogue, RateLimiter(clock=lambda: 0.0)) as address:
        answers = [httpx.post(f"{address}/completions", json=good(n=BURST // 2, max_tokens=1)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_a_full_queue_does_not_count_against_the_rate_limit(catalogue, slow):
    with (
        listening(catalogue, RateLimiter(clock=lambda: 0.0), at_once=1, most_waiting=0) as address,
        httpx.stream("POST", f"{address}/completions", json=good(stream=True)),
    ):
        for _ in range(BURST + 3):
            check_error(httpx.post(f"{address}/completions", json=good()), 503)
