"""The command line of `app.py` and `axion play`: parse the arguments, find the models, serve the page."""

import argparse
import errno
import io
import os
import socket
import sys
from contextlib import redirect_stdout, suppress
from threading import Event
from typing import TYPE_CHECKING, NoReturn

from axion.errors import AxionError
from axion.machine import collect_garbage_rarely
from playground.generate.rate_limits import GENERATIONS_AT_ONCE, MAX_WAITING, STARTS_PER_MINUTE, RateLimiter

if TYPE_CHECKING:
    from playground.generate.catalogue import Stream

APP = "app.py"
"""The program's name in messages."""
WEIGHTS = ("fp32", "bf16", "int8")
"""The kinds of weights that can be chosen, the model's own first."""
MOST_PER_MINUTE = 10_000
MAX_UPLOAD = "64kb"  # nothing on the page takes a file


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise AxionError(f"{message}; {self.prog} --help lists the options")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a whole number from 1 to 65535")
    return int(text)


def _rate(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PER_MINUTE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no limit; give a whole number from 1 to {MOST_PER_MINUTE}, or --no-rate-limit"
        )
    return int(text)


def parse(arguments: list[str] | None = None, program: str = APP) -> argparse.Namespace:
    """Parse the command line. Raises AxionError on a mistake in it."""
    parser = _Parser(prog=program, description="Serve the Axion playground.", allow_abbrev=False)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1, and all with --class)")
    parser.add_argument("--port", type=_port, default=7860, help="port (default %(default)s)")
    parser.add_argument("--share", action="store_true", help="also create a public link through Gradio")
    parser.add_argument(
        "--class",
        dest="is_for_class",
        action="store_true",
        help="serve one page for a class: others in the network can open it, and a QR code shows its address with the "
        "prompt and settings",
    )
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument(
        "--rate-limit",
        type=_rate,
        default=STARTS_PER_MINUTE,
        metavar="N",
        help="generations that one visitor may start per minute; a visitor is a browser, a program with a key of its "
        "own, or else an address, and requests from this machine are not counted (default %(default)s)",
    )
    limits.add_argument(
        "--no-rate-limit",
        dest="rate_limit",
        action="store_const",
        const=0,
        help="let everyone start as many generations as they like",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="RELEASE",
        default=os.environ.get("AXION_MODELS", "").replace(",", " ").split(),
        help="releases to offer first: folders, names under releases/, or Hub ids with their commit "
        "(default: $AXION_MODELS, separated by spaces or commas)",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default=WEIGHTS[0],
        help="the weights that the native kernels write with: bf16 and int8 take a half and a quarter of the memory, "
        "for a slightly higher loss (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    options.host = options.host or ("0.0.0.0" if _on_a_space() or options.is_for_class else "127.0.0.1")
    return options


def set_environment() -> None:
    """Set variables that Gradio, uvicorn and torch read on import, unless the operator has set them."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # Generations of the page and of programs run at the same time. If each used all cores, their threads would wait for
    # one another and be ten times slower than one thread.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // (2 * GENERATIONS_AT_ONCE))))
    if _on_a_space():  # trust the proxy in the Space's network to name the client
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "127.0.0.1,::1,10.0.0.0/8")


def _on_a_space() -> bool:
    return os.environ.get("SYSTEM") == "spaces"


def serve(options: argparse.Namespace, stream: "Stream | None" = None) -> None:
    """Build the page and serve it until Ctrl-C.

    Args:
        options: what `parse` returns.
        stream: generates in place of `axion.inference.stream.stream`, for tests and benchmarks.

    Raises:
        AxionError: there is no release to offer, the address cannot be listened on, or the first model cannot have the
            chosen weights.
    """
    _check_address(options.host, options.port)
    set_environment()
    from starlette.middleware import Middleware
    from starlette.responses import FileResponse
    from starlette.routing import Route

    import playground.server.zero_gpu  # noqa: F401 (must be imported before the launch)
    from axion.inference.stream import stream as model_stream
    from playground.api.mcp import MCP_PATH, answer_in_json, has_mcp
    from playground.api.openai import build_routes
    from playground.generate.catalogue import Catalogue
    from playground.server.classroom import reachable_address
    from playground.server.corrections import EXCEPTION_HANDLERS, MIDDLEWARE
    from playground.server.front_page import PREVIEW, FrontPage
    from playground.server.markup import STYLES
    from playground.server.page import FAVICON, PICTURE, build_page, build_theme

    catalogue = Catalogue(options.models, stream or model_stream, options.weights)
    if options.weights != WEIGHTS[0]:
        catalogue.open(catalogue.names[0])  # says now where the kernels cannot be used
    # Gradio's public link reaches this server from this machine.
    limiter = RateLimiter(per_minute=options.rate_limit, open_here=not options.share)
    class_address = reachable_address(options.host, options.port) if options.is_for_class else None
    page, translate = build_page(catalogue, limiter, class_address)
    first = catalogue.default()
    front_page = Middleware(FrontPage, translate=translate, models=lambda: [first, *catalogue.names])
    picture = Route(f"/{PREVIEW}", lambda _: FileResponse(PICTURE))
    page.queue(api_open=False, max_size=MAX_WAITING)
    with_mcp = has_mcp()
    with redirect_stdout(io.StringIO()):  # Gradio prints some lines even with quiet=True
        _, local_address, public_address = page.launch(
            server_name=options.host,
            server_port=options.port,
            share=options.share,
            theme=build_theme(),
            css_paths=STYLES,
            favicon_path=FAVICON,
            app_kwargs={
                "middleware": [front_page, *MIDDLEWARE],
                "exception_handlers": EXCEPTION_HANDLERS,
                "routes": [picture, *build_routes(catalogue, limiter)],
            },
            mcp_server=with_mcp,
            footer_links=["gradio"],
            ssr_mode=False,
            enable_monitoring=False,
            max_file_size=MAX_UPLOAD,
            quiet=True,
            prevent_thread_lock=True,
        )
    if with_mcp:
        answer_in_json(page)
    address = (public_address or local_address).rstrip("/")
    print(f"Axion playground: {address}  (Ctrl-C stops it)")
    tools = f"MCP: {address}{MCP_PATH}/" if with_mcp else 'no MCP: run pip install "gradio[mcp]"'
    print(f"  for programs: OpenAI-compatible API: {address}/v1  {tools}", flush=True)
    if class_address:
        print(f"  for the class: {class_address}  (the button beside the languages shows it as a QR code)", flush=True)
    if options.share and not public_address:
        print("  no public link: Gradio's sharing service cannot be reached", flush=True)
    _wait_for_ctrl_c()
    page.close(verbose=False)  # otherwise Gradio waits for open pages to disconnect


def _check_address(host: str, port: int) -> None:
    """Try an address before the page is built, which takes seconds.

    Raises:
        AxionError: the port is taken, or none of the host's addresses is one of this machine.
    """
    reason = ""
    with suppress(socket.gaierror):
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(address)
                    return
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    reason = "the port is taken; choose another with --port"
                    break
                reason = f"{error.strerror}; choose another with --host"
    raise AxionError(f"cannot listen on {host}:{port}: {reason or 'the host is unknown; choose another with --host'}")


def _wait_for_ctrl_c() -> None:
    with suppress(KeyboardInterrupt):
        Event().wait()


def main(arguments: list[str] | None = None, stream: "Stream | None" = None, program: str = APP) -> None:
    """Run the command line. A user's mistake is reported in one line on standard error, with exit code 2."""
    collect_garbage_rarely()
    try:
        serve(parse(arguments, program), stream)
    except AxionError as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
