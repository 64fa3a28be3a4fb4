"""The server's answers to requests that no page would send."""

import json
import math
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from playground.generate.request import MAX_PROMPT_CHARACTERS

GOOD = {"language": "en", "model": "plain", "prompt": "# Pergunta:\n"} | {
    "temperature": 0.8,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "repetition_penalty": 1,
    "max_new_tokens": 4,
    "min_new_tokens": 0,
    "num_loops": 0,
    "seed": 0,
}


@pytest.fixture(scope="module")
def generation(server) -> int:
    """The index of the first tab's event that generates; requests of its view trigger it too."""
    config = json.load(urlopen(f"{server.address}/config"))
    [view] = [part["id"] for part in config["components"] if part["props"].get("elem_id") == "trace"]
    [number] = [event["id"] for event in config["dependencies"] if [view, "submit"] in event["targets"]]
    return number


def post(server, path: str, generation: int, event: dict | None = None, **changes: object) -> tuple[int, str]:
    """Status and body of the answer to GOOD with `changes`, and with further fields of the request from `event`."""
    body = {"data": list((GOOD | changes).values()), "fn_index": generation, "session_hash": "test"} | (event or {})
    request = Request(f"{server.address}/gradio_api/{path}", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_a_valid_request_is_queued(server, generation):
    assert post(server, "queue/join", generation)[0] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1.5},
        {"seed": -1},
        {"seed": 2**53},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": True},
        {"temperature": None},
        {"temperature": 2.5},
        {"top_k": 0.5},
        {"max_new_tokens": 10**9},
        {"prompt": ""},
        {"prompt": None},
        {"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)},
        {"model": "/etc"},
        {"model": "endless/../plain"},
        {"model": None},
    ],
    ids=lambda changes: " ".join(f"{name}={str(value)[:20]}" for name, value in changes.items()),
)
def test_bad_requests_are_refused_before_they_are_queued(server, generation, changes):
    status, body = post(server, "queue/join", generation, **changes)
    assert status in (400, 422)
    assert "Traceback" not in body


def test_the_queue_cannot_be_bypassed(server, generation):
    assert post(server, "run/predict", generation)[0] == 404


@pytest.mark.parametrize(
    "request_",
    [None, [], "x", {"model": "/etc", "prompt": "a"}, {"model": "plain", "prompt": "a", "forced": [99999]}],
    ids=str,
)
def test_an_invalid_view_request_is_refused_without_a_traceback(server, generation, request_):
    """The view's own event, with data that its script would never send."""
    config = json.load(urlopen(f"{server.address}/config"))
    [view] = [part["id"] for part in config["components"] if part["props"].get("elem_id") == "trace"]
    session = f"view {request_}"
    event = {"trigger_id": view, "event_data": request_, "session_hash": session}
    status, body = post(server, "queue/join", generation, event)
    if status != 422:
        assert request_ and "forced" in request_
        with urlopen(
            f"{server.address}/gradio_api/queue/data?{urlencode({'session_hash': session})}", timeout=60
        ) as stream:
            body = stream.read().decode()
        assert "plain has no token 99999; its token ids are 0 to 319" in body
    assert "Traceback" not in body
