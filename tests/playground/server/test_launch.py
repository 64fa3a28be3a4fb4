"""Starting the page: its output, its errors, and starting without an optional part."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from axion.release import RELEASES
from playground.server import launch
from tests.playground.conftest import new_visitor, run_async
from tests.support.servers import ROOT, START_SECONDS, free_port
from tests.support.steering import TEXT, generate, part, set_prompt, wait_until

WITHOUT_MCP = "import sys; sys.modules['mcp'] = None; from playground.server.launch import main; main(sys.argv[1:])"


@contextmanager
def started(folder: Path, *command: str) -> Iterator[tuple[str, Path, Path, subprocess.Popen]]:
    """The page's address, the files with its standard output and standard error, and its process."""
    port = free_port()
    said, complained = folder / "out", folder / "err"
    with said.open("wb") as out, complained.open("wb") as err:
        command = [sys.executable, *command, "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=os.environ | {"PYTHONUTF8": "1"})
    try:
        deadline = time.monotonic() + START_SECONDS
        while said.read_text().count("\n") < 2:
            assert process.poll() is None, complained.read_text()
            assert time.monotonic() < deadline, "the page did not start in time"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", said, complained, process
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.browser
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
@pytest.mark.skipif(not (RELEASES / "axion1-v0.1").is_dir(), reason="releases/axion1-v0.1 is not built")
def test_the_demo_answers_like_the_command_line_and_ctrl_c_stops_it(tmp_path, browser):
    """As `make demo` starts it, with the bundled model and an open page."""
    a, b = random.randrange(10), random.randrange(10)
    prompt = f"# Pergunta:\nQuanto é {a} + {b}?\n--\n# Resposta:\n"
    with started(tmp_path, "app.py") as (address, said, complained, process):
        assert urlopen(f"{address}/v1/models").status == 200
        page = new_visitor(browser)
        page.set_default_timeout(180_000)  # the first generation may have to wait until the kernels are compiled
        page.goto(address)
        wait_until(page, "recorded")
        assert part(page, "status").text_content().startswith("Recorded example · axion1-v0.1")
        set_prompt(page, prompt)
        generate(page)
        wait_until(page, "done")
        shown = page.locator(TEXT).text_content()
        process.send_signal(signal.SIGINT)
        assert process.wait(11) == 0  # Gradio alone takes twelve seconds
        page.close()
        lines = said.read_text().splitlines()
        assert lines[0] == f"Axion playground: {address}  (Ctrl-C stops it)"
        assert f"{address}/v1 " in lines[1]
        assert f"{address}/gradio_api/mcp/" in lines[1]
        assert len(lines) == 2
        compiling = "compiling the kernels for decoding with this model (once) …\n"
        assert complained.read_text().removeprefix(compiling) == ""
    command = [sys.executable, "-m", "axion", "generate", "axion1-v0.1", prompt]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown == prompt + printed.removesuffix("\n")
    assert printed.strip() == str(a + b)


@pytest.mark.parametrize(
    ("client", "forwarded", "seen"),
    [("10.16.3.80", "6.6.6.6, 203.0.113.5", "203.0.113.5"), ("203.0.113.9", "6.6.6.6", "203.0.113.9")],
)
def test_on_a_space_only_the_proxy_is_trusted(monkeypatch, client, forwarded, seen):
    for name in ("GRADIO_ANALYTICS_ENABLED", "OMP_NUM_THREADS", "FORWARDED_ALLOW_IPS"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores what set_environment sets
        monkeypatch.delenv(name)
    monkeypatch.setenv("SYSTEM", "spaces")
    launch.set_environment()
    callers = []

    async def app(scope, receive, send) -> None:
        callers.append(scope["client"][0])

    scope = {"type": "http", "client": (client, 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}
    run_async(ProxyHeadersMiddleware(app, os.environ["FORWARDED_ALLOW_IPS"])(scope, None, None))
    assert callers == [seen]


@pytest.mark.slow
def test_without_mcp_the_page_is_served_with_a_notice(tmp_path):
    with started(tmp_path, "-c", WITHOUT_MCP) as (address, said, complained, _):
        first, second = said.read_text().splitlines()
        assert address in first
        assert 'no MCP: run pip install "gradio[mcp]"' in second
        assert "/gradio_api/mcp" not in second
        compiling = "compiling the kernels for decoding with this model (once) …\n"
        assert complained.read_text().removeprefix(compiling) == ""
        page = urlopen(f"{address}/config").read().decode()
        assert "snippet-curl" in page
        assert "snippet-mcp" not in page
        with pytest.raises(HTTPError) as caught:
            urlopen(f"{address}/gradio_api/mcp/schema")
        assert caught.value.code in (404, 405)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "the port is taken; choose another with --port"),
        ("192.0.2.1", "Cannot assign requested address; choose another with --host"),
        ("no.such.host.invalid", "the host is unknown; choose another with --host"),
    ],
)
def test_an_address_that_is_not_available_is_one_line_and_exit_code_2(host, reason, capsys):
    with socket.socket() as listener, pytest.raises(SystemExit) as caught:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        launch.main(["--host", host, "--port", str(port)])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"app.py: cannot listen on {host}:{port}: {reason}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "0"], "'0' is not a port"),
        (["--port", "65536"], "'65536' is not a port"),
        (["--port", "7e3"], "'7e3' is not a port"),
        (["--models", "nope"], "no release 'nope'"),
        (["--models", "someone/Axion"], "someone/Axion is not a local folder, and as a Hub id it is not pinned"),
        (["--speed", "9"], "unrecognized arguments: --speed 9"),
        (["--weights", "int4"], "argument --weights: invalid choice: 'int4'"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(arguments, told, capsys):
    refuses(arguments, told, capsys)


def test_weights_that_only_the_kernels_have_are_refused_in_pytorch(monkeypatch, capsys):
    monkeypatch.setenv("AXION_BACKEND", "torch")
    told = "int8 weights need the native kernels, which cannot be used: PyTorch was requested"
    refuses(["--port", str(free_port()), "--models", "axion1-v0.1", "--weights", "int8"], told, capsys)


def refuses(arguments, told, capsys):
    with pytest.raises(SystemExit) as caught:
        launch.main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("app.py: ")
    assert told in line
