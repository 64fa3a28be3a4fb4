"""The page's HTML behind a proxy with a prefix, and what is not the page."""

import json
from types import SimpleNamespace

import pytest

from playground.server.front_page import CONFIG, FrontPage
from tests.playground.conftest import run_async

COMPONENTS = [{"id": 3, "props": {"label": "Prompt", "props": {"texts": "Text"}}}]
HTML = f"""<!doctype html><html lang="en"><head><meta property="og:title" content="Gradio" /></head>
<script>{CONFIG}{json.dumps({"title": "", "components": COMPONENTS})};</script></html>"""


def answer_of(path: str, status: int = 200, kind: str = "text/html", **scope: object) -> tuple[dict, bytes]:
    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]})
        await send({"type": "http.response.body", "body": HTML[:50].encode(), "more_body": True})
        await send({"type": "http.response.body", "body": HTML[50:].encode()})

    sent: list[dict] = []

    async def take(message: dict) -> None:
        sent.append(message)

    page = FrontPage(
        app, translate=lambda _: {3: {"label": "<Texto>", "texts": "Texto"}}, models=lambda: ["one", "one", "two"]
    )
    request = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "server": ("127.0.0.1", 7860),
        "path": path,
        "query_string": b"lang=pt",
        "headers": [(b"host", b"127.0.0.1:7860")],
        "app": SimpleNamespace(root_path=None),
    }
    run_async(page(request | scope, None, take))
    return sent[0], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(
    ("scope", "path"),
    [({"app": SimpleNamespace(root_path="/axion")}, "/"), ({"root_path": "/axion"}, "/axion/")],
    ids=["set by the operator", "from the server"],
)
def test_a_prefix_is_part_of_the_addresses(scope, path):
    _, body = answer_of(path, **scope)
    assert b'og:url" content="http://127.0.0.1:7860/axion/"' in body
    assert b'og:image" content="http://127.0.0.1:7860/axion/preview.png"' in body
    assert b'{"label":"\\u003cTexto>","props":{"texts":"Texto"}}' in body
    assert b'<html lang="pt"' in body and b'content="Gradio"' not in body


@pytest.mark.parametrize(
    ("path", "status", "kind"), [("/config", 200, "text/html"), ("/", 404, "text/html"), ("/", 200, "text/plain")]
)
def test_other_answers_stay_as_they_are(path, status, kind):
    start, body = answer_of(path, status, kind)
    assert start["status"] == status and body == HTML.encode()
