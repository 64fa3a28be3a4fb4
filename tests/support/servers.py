"""A playground in a process of its own, for tests, pictures and benchmarks, which see what a visitor sees."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from axion.errors import AxionError

ROOT = Path(__file__).resolve().parents[2]
APP = ("app.py",)
START_SECONDS = 90.0
END_SECONDS = 10.0


class Server(NamedTuple):
    """A playground that runs in a process of its own. What it costs is read from /proc, so on Linux only."""

    address: str
    """`http://127.0.0.1:port`, without a slash at the end."""
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time that the server has used so far, of all its cores together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Memory that the server holds now (its resident set)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def served(
    models: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    app: Sequence[str] = APP,
    start_seconds: float = START_SECONDS,
) -> Iterator[Server]:
    """`python app.py` on a free port for as long as the `with` block lasts; what it writes on standard error is shown.

    Args:
        models: what `--models` names; without any, the models that the app offers by itself.
        environment: variables for the process, beside those of this one.
        app: in place of app.py another script, or "-m" and a module; it has to take `--port`.
        start_seconds: how long the first answer may take.

    Raises:
        AxionError: the process ended, or did not answer in time.
    """
    port = free_port()
    command = [sys.executable, *app, "--port", str(port), *(["--models", *models] if models else [])]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | dict(environment or {}), stdout=subprocess.DEVNULL)
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


def free_port() -> int:
    """A port of this machine that nobody listens on."""
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
                    f"{name} ended with exit code {process.returncode}; what it said stands above"
                ) from None
            if time.monotonic() > deadline:
                raise AxionError(f"{name} did not answer within {seconds:g} s") from None
            time.sleep(0.2)
