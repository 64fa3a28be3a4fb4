"""The command line of `app.py`: read the arguments, open the models, serve the page."""

import argparse
import os
import sys
from typing import NoReturn

from axion.errors import AxionError

MAX_WAITING = 32  # visitors in the queue; the next one is told that the page is busy
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
    on_a_space = os.environ.get("SYSTEM") == "spaces"
    parser = _Parser(prog="app.py", description="Serve the Axion playground.", allow_abbrev=False)
    parser.add_argument(
        "--host", default="0.0.0.0" if on_a_space else "127.0.0.1", help="address (default %(default)s)"
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


def serve(options: argparse.Namespace) -> None:
    """Build the page and serve it until Ctrl-C. Raises AxionError where nothing can be served."""
    # Before Gradio is imported, because it looks at this while it loads.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import playground.zero_gpu  # noqa: F401 (must have been read before the launch)
    from playground.limits import Visitors
    from playground.models import Catalogue
    from playground.page import ASSETS, FAVICON, build_page, build_theme

    page = build_page(Catalogue(options.models), Visitors())
    page.queue(api_open=False, max_size=MAX_WAITING)
    try:
        _, local_address, public_address = page.launch(
            server_name=options.host,
            server_port=options.port,
            share=options.share,
            theme=build_theme(),
            css_paths=sorted((ASSETS / "css").glob("*.css")),
            favicon_path=FAVICON,
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
    print(f"Axion playground: {public_address or local_address}  (Ctrl-C ends it)", flush=True)
    page.block_thread()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: a user's mistake is one line on standard error and exit code 2."""
    try:
        serve(parse(arguments))
    except AxionError as error:
        print(f"app.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
