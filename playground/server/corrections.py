"""What stands between the network and Gradio, and mends two of its manners."""

from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MCP_PATH = "/gradio_api/mcp"


def has_mcp() -> bool:
    """Whether the page can speak the Model Context Protocol."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        return False
    return True


class CallersOfTools:
    """Tells the page's own MCP server who calls.

    That server calls the page in its turn, from this machine and with the caller's headers; the page believes this
    machine when it says for whom it asks. So the header must be ours, or a caller could be somebody else at each call.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] == "http" and scope["path"].startswith(MCP_PATH) and scope.get("client"):
            headers = [pair for pair in scope["headers"] if pair[0].lower() != b"x-forwarded-for"]
            scope = scope | {"headers": [*headers, (b"x-forwarded-for", scope["client"][0].encode())]}
        await self._app(scope, receive, send)


async def refuse_malformed(_: Request, error: RequestValidationError) -> JSONResponse:
    """Answer 422, and say where the body is wrong. FastAPI would repeat the body, and fail where that holds NaN."""
    problems = [{name: problem[name] for name in ("loc", "msg", "type")} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


GUARDS = {
    "middleware": [Middleware(CallersOfTools)],
    "exception_handlers": {RequestValidationError: refuse_malformed},
}
"""Keyword arguments of the FastAPI application."""
