"""The server's answers to requests that no page would send."""

import json
import math
import re
from email.message import Message
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from playground.generate.request import MAX_PROMPT_CHARACTERS
from playground.locales import read_texts
from playground.server.front_page import PREVIEW_SIZE

GOOD = {"language": "en", "model": "plain", "prompt": "# Pergunta:\n", "raw": False} | {
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


def front_page(server, query: str = "", **headers: str) -> tuple[str, Message]:
    request = Request(
        f"{server.address}/{query}", headers={name.replace("_", "-"): text for name, text in headers.items()}
    )
    with urlopen(request) as answer:
        return answer.read().decode(), answer.headers


def read_config(html: str) -> dict:
    start = html.index("window.gradio_config = ") + len("window.gradio_config = ")
    return json.JSONDecoder().raw_decode(html, start)[0]


def texts_of(html: str) -> dict[str, object]:
    """The texts of some components, by elem_id, as they are before any script has run."""
    components = {part["props"].get("elem_id"): part["props"] for part in read_config(html)["components"]}
    return {
        "generate": components["generate"]["value"],
        "trace": components["trace"]["props"]["texts"]["ribbon"],
        "language": components["language"]["value"],
        "facts": components["facts"]["value"],
    }


@pytest.mark.parametrize(
    ("query", "headers", "language"),
    [
        ("", {}, "en"),
        ("", {"Accept_Language": "pt-BR,pt;q=0.9"}, "pt"),
        ("?lang=en", {"Accept_Language": "pt-BR"}, "en"),
        ("", {"Accept_Language": "en", "Cookie": "axion-language=pt"}, "pt"),
    ],
    ids=["default", "browser", "link", "last choice"],
)
def test_the_page_comes_in_the_visitors_language(server, query, headers, language):
    html, answered = front_page(server, query, **headers)
    shown = texts_of(html)
    words = read_texts(language)
    assert shown.pop("facts").count(words["page"]["parameters"])
    assert shown == {
        "generate": words["controls"]["generate"],
        "trace": words["trace"]["ribbon"],
        "language": language,
    }
    assert f'lang="{language}"' in html[:200] and answered["Content-Language"] == language
    assert f"<title>{words['page']['title']}</title>" in html
    assert words["page"]["without_script"] in html.partition("<noscript>")[2].partition("</noscript>")[0]


def test_the_preview_is_the_pages_own_behind_a_proxy_too(server):
    html, _ = front_page(server, "?model=endless", X_Forwarded_Host="axion.example", X_Forwarded_Proto="https")
    head = html.partition("</head>")[0]
    assert "Gradio" not in "".join(re.findall(r"<meta[^>]*>", head))
    tags = dict(re.findall(r'<meta property="og:(\S+)" content="([^"]*)">', head))
    assert tags["title"].startswith("endless · Axion") and "endless" in tags["description"]
    assert (tags["url"], tags["image"]) == ("https://axion.example/", "https://axion.example/preview.png")
    hostile, _ = front_page(server, "?model=%22%3E%3Cscript%3E")
    assert 'og:title" content="plain ·' in hostile
    with urlopen(f"{server.address}/preview.png") as picture:
        size = picture.read(24)[16:]
    assert (int.from_bytes(size[:4], "big"), int.from_bytes(size[4:], "big")) == PREVIEW_SIZE


def test_the_page_is_compressed_and_little_more_than_an_empty_one(server):
    for accepted, most in (("gzip, br", 100_000), ("gzip", 150_000)):
        request = Request(f"{server.address}/", headers={"Accept-Encoding": accepted})
        with urlopen(request) as answer:
            assert answer.headers["Content-Encoding"] == accepted.split()[-1]
            assert len(answer.read()) < most
