"""The page's HTML, between Gradio and the browser: in the visitor's language, with its own link preview, compressed.

Gradio sends one page to everybody, whose components are in one JSON object, and its own preview. Here a visitor's
language is known before anything is drawn: a link names it, or a cookie of the last choice, or the browser.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import brotli
from gradio.route_utils import get_root_url
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.content.markup import render
from playground.locales import DEFAULT, Language, choose_language, texts

COOKIE = "axion-language"
PREVIEW = "preview.png"
"""The address of the preview's picture below the page's, of PREVIEW_SIZE."""
PREVIEW_SIZE = (1200, 630)

CONFIG = "window.gradio_config = "
FOREIGN = re.compile(r'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>')
"""Gradio's own preview."""
BROTLI_QUALITY, GZIP_LEVEL = 5, 6

Properties = Mapping[int, Mapping[str, Any]]
"""Component id → its properties that differ from those of the page as it was built."""


class FrontPage:
    """ASGI middleware that rewrites the page's HTML.

    Args:
        app: Gradio's application.
        translate: a language → what changes with it.
        models: the names that a link may name, and the one that the page opens with, which comes first.
    """

    def __init__(self, app: ASGIApp, translate: Callable[[Language], Properties], models: Callable[[], Iterable[str]]):
        self._app, self._translate, self._models = app, translate, models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] != "http" or scope["method"] != "GET" or _path(scope) != "/":
            await self._app(scope, receive, send)
            return
        start, body = await _collect(self._app, scope, receive)
        headers = Headers(raw=start["headers"])
        if start["status"] != 200 or not headers.get("content-type", "").startswith("text/html"):
            await send(start)
            await send({"type": "http.response.body", "body": body})
            return
        request = Request(scope)
        html, language = self._rewrite(body.decode(), request)
        kept = {name: value for name, value in headers.items() if name not in ("content-length", "content-encoding")}
        content, encoding = _compress(html.encode(), request.headers.get("accept-encoding", ""))
        kept |= {"content-language": language, "vary": "Accept-Encoding, Accept-Language, Cookie"} | encoding
        await Response(content, 200, kept)(scope, receive, send)

    def _rewrite(self, html: str, request: Request) -> tuple[str, Language]:
        asked = request.query_params.get("lang") or request.cookies.get(COOKIE)
        language = choose_language(asked, request.headers.get("accept-language"))
        if language != DEFAULT:
            html = translated(html, self._translate(language), language)
        first, *others = self._models()
        model = request.query_params.get("model")
        root = get_root_url(request, "/", request.app.root_path or request.scope.get("root_path"))
        head = render(
            "head.html",
            language,
            text=texts("page", language),
            model=model if model in others else first,
            address=f"{root}/",
            picture=f"{root}/{PREVIEW}",
            size=PREVIEW_SIZE,
        )
        html = FOREIGN.sub("", html).replace("<head>", f"<head>{head}", 1)
        html = html.replace(
            "<gradio-app", f"{render('skip.html', language, text=texts('page', language))}<gradio-app", 1
        )
        return html.replace('lang="en"', f'lang="{language}"', 1), language


def translated(html: str, properties: Properties, language: Language) -> str:
    """The page with these properties of its components."""
    start = html.index(CONFIG) + len(CONFIG)
    config, end = json.JSONDecoder().raw_decode(html, start)
    for component in config["components"]:
        _change(component["props"], properties.get(component["id"], {}))
    config["title"] = texts("page", language)["title"]
    written = json.dumps(config, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return html[:start] + written + html[end:]


def _change(props: dict[str, Any], properties: Mapping[str, Any]) -> None:
    own = props.get("props") or {}  # what a view reads has a place of its own in Gradio's HTML component
    for name, value in properties.items():
        (own if name in own else props)[name] = value


def _path(scope: Scope) -> str:
    return scope["path"].removeprefix(scope.get("root_path", "")) or "/"


async def _collect(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    """The start of the answer, and its whole body."""
    start: Message = {}
    parts: list[bytes] = []

    async def take(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(scope, receive, take)
    return start, b"".join(parts)


def _compress(content: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
    """The content in the best encoding that a browser accepts, and the header that names it."""
    if "br" in accepted:
        return brotli.compress(content, quality=BROTLI_QUALITY, mode=brotli.MODE_TEXT), {"content-encoding": "br"}
    if "gzip" in accepted:
        return gzip.compress(content, GZIP_LEVEL, mtime=0), {"content-encoding": "gzip"}
    return content, {}
