"""The command line of `app.py`: read the arguments, open the models, serve the page."""

import argparse
import io
import os
import sys
from contextlib import redirect_stdout, suppress
from threading import Event
from typing import TYPE_CHECKING, NoReturn

from axion.errors import AxionError
from playground import GENERATIONS_AT_ONCE

if TYPE_CHECKING:
    from playground.generate.catalogue import Stream

MAX_UPLOAD = "64kb"  # nothing on the page takes a file, so no upload has a reason to be larger


class _Parser(argparse.ArgumentParser):
    """argparse with the project's manners: a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        raise AxionError(f"{message}; python app.py --help lists what is possible")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, which is a whole number from 1 to 65535")
    return int(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line. Raises AxionError on a mistake in it."""
    parser = _Parser(prog="app.py", description="Serve the Axion playground.", allow_abbrev=False)
    parser.add_argument(
        "--host", default="0.0.0.0" if _on_a_space() else "127.0.0.1", help="address (default %(default)s)"
    )
    parser.add_argument("--port", type=_port, default=7860, help="port (default %(default)s)")
    parser.add_argument("--share", action="store_true", help="also make a public link through Gradio")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="RELEASE",
        default=os.environ.get("AXION_MODELS", "").replace(",", " ").split(),
        help="releases to offer first: folders, names under releases/ or Hub ids "
        "(default: AXION_MODELS, with spaces or commas between them)",
    )
    return parser.parse_args(arguments)


def set_environment() -> None:
    """What Gradio, uvicorn and torch look at while they are imported, where the operator has not set it."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # Generations run side by side, the page's and those of programs: with all cores for each, their threads would wait
    # for one another, and be ten times slower than a single one.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // (2 * GENERATIONS_AT_ONCE))))
    if _on_a_space():  # behind a proxy in the Space's own network, which says for whom it asks
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "127.0.0.1,::1,10.0.0.0/8")


def _on_a_space() -> bool:
    return os.environ.get("SYSTEM") == "spaces"


def serve(options: argparse.Namespace, stream: "Stream | None" = None) -> None:
    """Build the page and serve it until Ctrl-C.

    Args:
        options: what `parse` returns.
        stream: generates in place of `axion.inference.stream.stream`, for tests and benchmarks.

    Raises:
        AxionError: there is no release to offer, or the address cannot be listened on.
    """
    set_environment()
    import playground.server.zero_gpu  # noqa: F401 (must have been read before the launch)
    from axion.inference.stream import stream as model_stream
    from playground.api.mcp import answer_in_json
    from playground.api.openai import build_routes
    from playground.generate.catalogue import Catalogue
    from playground.generate.rate_limits import MAX_WAITING, Visitors
    from playground.server.corrections import GUARDS, MCP_PATH, has_mcp
    from playground.server.markup import STYLES
    from playground.server.page import FAVICON, build_page, build_theme

    catalogue, visitors = Catalogue(options.models, stream or model_stream), Visitors()
    page = build_page(catalogue, visitors)
    page.queue(api_open=False, max_size=MAX_WAITING)
    with_mcp = has_mcp()
    try:
        with redirect_stdout(io.StringIO()):  # some of what Gradio prints it prints even when told to be quiet
            _, local_address, public_address = page.launch(
                server_name=options.host,
                server_port=options.port,
                share=options.share,
                theme=build_theme(),
                css_paths=STYLES,
                favicon_path=FAVICON,
                app_kwargs=GUARDS | {"routes": build_routes(catalogue, visitors)},
                mcp_server=with_mcp,
                footer_links=["gradio", "settings"],
                ssr_mode=False,
                enable_monitoring=False,
                max_file_size=MAX_UPLOAD,
                quiet=True,
                prevent_thread_lock=True,
            )
    except OSError as error:
        raise AxionError(
            f"cannot listen on {options.host}:{options.port}, taken or not an address of this machine; "
            "choose another with --port or --host"
        ) from error
    if with_mcp:
        answer_in_json(page)
    address = (public_address or local_address).rstrip("/")
    print(f"Axion playground: {address}  (Ctrl-C ends it)")
    tools = f"MCP: {address}{MCP_PATH}/" if with_mcp else 'no MCP: it needs pip install "gradio[mcp]"'
    print(f"  for programs: OpenAI-style: {address}/v1  {tools}", flush=True)
    if options.share and not public_address:
        print("  no public link: Gradio's service for them cannot be reached", flush=True)
    _wait_for_ctrl_c()
    page.close(verbose=False)  # Gradio's own end leaves open pages connected, and waits for them


def _wait_for_ctrl_c() -> None:
    with suppress(KeyboardInterrupt):
        Event().wait()


def main(arguments: list[str] | None = None, stream: "Stream | None" = None) -> None:
    """Run the command line: a user's mistake is one line on standard error and exit code 2."""
    try:
        serve(parse(arguments), stream)
    except AxionError as error:
        print(f"app.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
