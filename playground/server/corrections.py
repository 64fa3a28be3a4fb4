"""Corrections of two Gradio behaviours, between the network and Gradio's application."""

from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.api.mcp import MCP_PATH


class McpForwardedFor:
    """Sets X-Forwarded-For of MCP requests to the address of the caller.

    Gradio's MCP server calls the page from this machine, with the caller's headers, and the page trusts this machine to
    name the client. A header from outside would let a caller claim another address with every call.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] == "http" and scope["path"].startswith(MCP_PATH) and scope.get("client"):
            headers = [pair for pair in scope["headers"] if pair[0].lower() != b"x-forwarded-for"]
            scope = {**scope, "headers": [*headers, (b"x-forwarded-for", scope["client"][0].encode())]}
        await self._app(scope, receive, send)


async def refuse_malformed(_: Request, error: RequestValidationError) -> JSONResponse:
    """Respond with 422 and say where the body is wrong. FastAPI's own handler repeats the body, and fails on NaN."""
    problems = [{name: problem[name] for name in ("loc", "msg", "type")} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


MIDDLEWARE = [Middleware(McpForwardedFor)]
EXCEPTION_HANDLERS = {RequestValidationError: refuse_malformed}
"""Of the FastAPI application."""
