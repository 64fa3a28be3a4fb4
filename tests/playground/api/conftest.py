"""One server of the OpenAI-compatible API for all tests of this folder."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from playground.api import generation
from playground.generate.catalogue import Catalogue
from tests.playground.api.openai_server import Slow, listening
from tests.support.measured import make_chatty


@pytest.fixture(scope="session")
def catalogue(releases, tmp_path_factory) -> Catalogue:
    chatty = make_chatty(releases / "plain", tmp_path_factory.mktemp("chat") / "chatty")
    return Catalogue([*(str(releases / name) for name in ("plain", "endless", "broken")), str(chatty)])


@pytest.fixture(scope="session")
def address(catalogue) -> Iterator[str]:
    with listening(catalogue) as address:
        yield address


@pytest.fixture(scope="session")
def client(address) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def http(address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60) as http:
        yield http


@pytest.fixture
def slow(monkeypatch) -> Slow:
    slow = Slow(generation.live_events)
    monkeypatch.setattr(generation, "live_events", slow)
    return slow


@pytest.fixture
def visitor(server, request) -> Iterator[httpx.Client]:
    """A client with an address of its own, so that other tests do not count against its rate limit."""
    host = f"127.0.1.{1 + sum(request.node.name.encode()) % 250}"
    transport = httpx.HTTPTransport(local_address=host)
    with httpx.Client(base_url=server.address, transport=transport, timeout=60) as http:
        yield http
