"""The playground in a separate process, for tests, pictures and benchmarks."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.request import urlopen

from axion.errors import AxionError

ROOT = Path(__file__).resolve().parents[2]
APP = ("app.py",)
START_SECONDS = 240.0
END_SECONDS = 10.0


class Server(NamedTuple):
    """A running playground. Its CPU time and memory are read from /proc, so on Linux only."""

    address: str
    """`http://127.0.0.1:port`, without a slash at the end."""
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time that the server has used so far, summed over its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """The server's resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def served(
    models: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    app: Sequence[str] = APP,
    start_seconds: float = START_SECONDS,
    python: str = sys.executable,
    folder: Path = ROOT,
) -> Iterator[Server]:
    """Run `python app.py` on a free port until the end of the `with` block; its standard error is passed through.

    Args:
        models: the releases for `--models`; without any, the app's default.
        environment: variables that are added to those of this process.
        app: another script than app.py, or "-m" and a module; it must accept `--port`.
        start_seconds: how long the first response may take.
        python: the interpreter.
        folder: the working directory.

    Raises:
        AxionError: the process ended, or did not respond in time.
    """
    port = free_port()
    command = [python, *app, "--port", str(port), *(["--models", *models] if models else [])]
    process = subprocess.Popen(command, cwd=folder, env=os.environ | dict(environment or {}), stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, process, app[1] if app[0] == "-m" else app[0], start_seconds)
        yield Server(address, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def static_files(folder: Path) -> Iterator[str]:
    """Serve a folder's files until the end of the `with` block; yields the address, with a slash at the end."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def free_port() -> int:
    """A local port that is not in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(address: str, process: subprocess.Popen, name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urlopen(address, timeout=5).close()
            return
        except OSError:
            if process.poll() is not None:
                raise AxionError(
                    f"{name} ended with exit code {process.returncode}; its standard error is above"
                ) from None
            if time.monotonic() > deadline:
                raise AxionError(f"{name} did not answer within {seconds:g} s") from None
            time.sleep(0.2)
