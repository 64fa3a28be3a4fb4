"""Bad requests get an error in OpenAI's format that names the parameter."""

import json
import time

import httpx
import openai
import pytest

from playground.api import generation
from playground.api import openai as openai_api
from playground.api.openai import MAX_BODY_BYTES
from playground.generate.request import MAX_PROMPT_CHARACTERS
from tests.playground.api.openai_server import PROMPT, case_id, check_error, good
from tests.playground.generate.test_chat import say


def test_errors_raised_by_the_client(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="plain", prompt=PROMPT, n=0)
    assert error.value.param == "n"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-4", prompt=PROMPT)
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="plain", prompt=PROMPT * 30)
    assert error.value.code == "context_length_exceeded"


BAD = [
    ({"temperature": True}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 0.001}, "temperature"),
    ({"temperature": []}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": 0.5}, "top_k"),
    ({"top_k": -1}, "top_k"),
    ({"min_p": {}}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"seed": 1.5}, "seed"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**53}, "seed"),
    ({"seed": 10**400}, "seed"),
    ({"seed": False}, "seed"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 4.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"min_tokens": 5}, "min_tokens"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": 7}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": [1, -2]}, "prompt"),
    ({"prompt": [[1], []]}, "prompt"),
    ({"prompt": [[[1]]]}, "prompt"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": [1, 320]}, "prompt"),
    ({"prompt": [[1], [5] * 200]}, "prompt"),
    ({"prompt": ["a"] * 129}, "prompt"),
    ({"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)}, "prompt"),
    ({"prompt": "1" * 500}, "prompt"),
    ({"model": None}, "model"),
    ({"model": 3}, "model"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": list("abcdefghijklmnopq")}, "stop"),
    ({"stop": {"a": 1}}, "stop"),
    ({"stop": 5}, "stop"),
    ({"stop": "x" * 300}, "stop"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"logprobs": 1.0}, "logprobs"),
    ({"echo": 1}, "echo"),
    ({"stream": "yes"}, "stream"),
    ({"routing": 1}, "routing"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": []}, "stream_options"),
    ({"stream": True, "stream_options": {"other": 1}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": True}, "n"),
    ({"n": 2.0}, "n"),
    ({"n": 3, "best_of": 2}, "best_of"),
    ({"best_of": 3, "stream": True}, "best_of"),
    ({"prompt": ["a", "b"], "best_of": 65}, "prompt"),
    ({"frequency_penalty": 2.5}, "frequency_penalty"),
    ({"presence_penalty": "1"}, "presence_penalty"),
    ({"presence_penalty": False}, "presence_penalty"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"logit_bias": {"hi": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"5": None}}, "logit_bias"),
    ({"logit_bias": [5]}, "logit_bias"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "json_object"}, "min_tokens": 2}, "min_tokens"),
    ({"response_format": {"type": "json_object"}, "model": "endless"}, "response_format"),
    ({"messages": say("hi")}, "messages"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"temprature": 1}, "temprature"),
]


@pytest.mark.parametrize(("changes", "param"), BAD, ids=case_id)
def test_bad_completions_are_refused_by_parameter(http, changes, param):
    message = check_error(http.post("/completions", json=good(**changes)), 400, param)
    assert param in message or param in ("prompt",)


@pytest.mark.parametrize(
    "body",
    [b"", b"no", b'{"prompt": NaN}', b'{"temperature": Infinity}', b'{"prompt": "\\ud83d"}', b"\xff", b"[" * 200_000],
    ids=lambda body: repr(body[:24]),
)
def test_invalid_json_is_refused(http, body):
    headers = {"Content-Type": "application/json"}
    check_error(http.post("/completions", content=body, headers=headers), 400, None)


def test_a_body_without_the_json_content_type_is_refused(http):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = http.post("/completions", content=json.dumps(good()), headers={"Content-Type": kind})
        check_error(answer, 415)


@pytest.mark.parametrize("told", [True, False], ids=["with its length", "in pieces"])
def test_a_body_over_the_size_limit_is_refused(http, told):
    body = json.dumps(good(prompt="x" * 8_000_000)).encode()
    pieces = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    headers = {"Content-Type": "application/json"}
    answer = http.post("/completions", content=body if told else pieces, headers=headers)
    assert str(MAX_BODY_BYTES // 1024) in check_error(answer, 413)


def test_a_body_that_arrives_too_slowly_times_out(address, monkeypatch):
    monkeypatch.setattr(openai_api, "BODY_SECONDS", 0.2)

    def slowly():
        yield b"{"
        time.sleep(1)
        yield b"}"

    answer = httpx.post(f"{address}/completions", content=slowly(), headers={"Content-Type": "application/json"})
    check_error(answer, 408)


@pytest.mark.parametrize("stream", [False, True])
def test_an_internal_error_is_reported_without_details(http, monkeypatch, caplog, stream):
    def fail(*_, **__):
        raise RuntimeError("secret in /tmp/somewhere.py")

    monkeypatch.setattr(generation, "encode_prompt", fail)
    assert "secret" not in check_error(http.post("/completions", json=good(stream=stream)), 500)
    assert "secret" in caplog.text
