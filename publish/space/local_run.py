"""Run a Space locally as the Hub would, with `python app.py`, and generate once with each of its models."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from huggingface_hub import constants

from axion.data.format import prompt
from axion.errors import AxionError, one_line
from axion.kernels.build import builds_folder
from publish.scratch import scratch_folder

PROMPT = prompt("Quanto é 5 + 3?")
START_SECONDS = 180
"""Long enough to download the models."""
GENERATION_SECONDS = 300
"""Long enough to compile the kernels."""
HIDDEN_PREFIXES = ("PYTHON", "HF_", "HUGGING", "TRANSFORMERS_", "GRADIO_", "AXION_", "SPACE", "SYSTEM")
"""Environment variables with these prefixes are hidden from the Space: local settings, including tokens."""
KEPT_VARIABLES = ("HF_HUB_DISABLE_XET", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")

LAUNCH = """
import runpy, sys
from importlib.machinery import PathFinder

class OnlyFolder:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {"axion", "playground", "publish"} and not PathFinder.find_spec(name, path):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

folder = sys.argv.pop(1)
sys.path[0] = folder
sys.meta_path.insert(0, OnlyFolder)
runpy.run_path(f"{folder}/app.py", run_name="__main__")
"""
"""Like `python app.py`, except that modules missing from the folder are not imported from an installed project."""


def run_locally(folder: Path, models: Sequence[str] = (), python: str = sys.executable) -> str:
    """Start a Space's app.py, request its page over HTTP, and generate with each of its models.

    The process has an empty working directory, an empty Hub cache and no token, and imports the project only from the
    folder.

    Args:
        folder: the Space.
        models: the value of AXION_MODELS; without models, the Hub is offline.
        python: the interpreter.

    Returns:
        A summary of what the models wrote.

    Raises:
        AxionError: it does not start, or a model does not generate.
    """
    with serve(folder, models, python) as address:
        try:
            written = {model: write(address, model, PROMPT) for model in offered_models(address)}
        except AxionError:
            raise
        except Exception as error:  # Gradio's client, its HTTP library and an odd page each raise their own
            raise AxionError(f"the Space starts but does not generate: {one_line(error)}") from None
    return "; ".join(f"{model} answers 5 + 3 with {text.strip()!r}" for model, text in written.items())


@contextmanager
def serve(folder: Path, models: Sequence[str] = (), python: str = sys.executable) -> Iterator[str]:
    """Serve a Space for the duration of the `with` block; yields its address.

    Raises:
        AxionError: it does not start; the message ends with the last line of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with scratch_folder("try") as scratch, (scratch / "log").open("w+b") as log:
        # -E and -s: no PYTHONPATH, no user site-packages. -B: no __pycache__.
        command = [python, "-E", "-s", "-B", "-X", "utf8", "-c", LAUNCH, str(folder.resolve()), "--port", str(port)]
        process = subprocess.Popen(command, cwd=scratch, env=_environment(scratch, models), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(address):
                if process.poll() is not None:
                    log.seek(0)
                    last_line = (log.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
                    raise AxionError(f"the Space does not start: {last_line}")
                if time.monotonic() > deadline:
                    raise AxionError(f"the Space does not respond within {START_SECONDS} seconds")
                time.sleep(0.3)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(scratch: Path, models: Sequence[str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(HIDDEN_PREFIXES) or name in KEPT_VARIABLES
    }
    hub = {"HF_ENDPOINT": constants.ENDPOINT} if models else {"HF_HUB_OFFLINE": "1"}
    # Compiled kernels are shared: their folder is named by a hash of the sources, and compiling takes half a minute.
    own = {"HOME": str(scratch), "HF_HOME": str(scratch / "hf"), "AXION_KERNELS": str(builds_folder().resolve())}
    own["OMP_NUM_THREADS"] = "1"
    return kept | hub | own | {"AXION_MODELS": " ".join(models)}


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (OSError, HTTPException):
        return False


def offered_models(address: str) -> list[str]:
    """The models that a page offers."""
    with urlopen(f"{address}/config", timeout=30) as answer:
        components = json.load(answer)["components"]
    [choice] = [component for component in components if component["props"].get("elem_id") == "model"]
    return [value for _, value in choice["props"]["choices"]]


def write(address: str, model: str, prompt: str) -> str:
    """Generate with one of a page's models and the page's default settings.

    Returns:
        The generated text.

    Raises:
        AxionError: the page shows an error.
    """
    from gradio_client import Client

    client = Client(address, verbose=False)
    components = {component["id"]: component["props"] for component in client.config["components"]}
    ids = {props.get("elem_id"): number for number, props in components.items()}
    [event] = [
        event
        for event in client.config["dependencies"]
        if ids["prompt"] in event["inputs"] and event["outputs"] == [ids["trace"]]
    ]
    client.endpoints[event["id"]].is_valid = True  # the page does not offer it to API clients
    chosen = {ids["model"]: model, ids["prompt"]: prompt}
    values = [chosen.get(number, components[number].get("value")) for number in event["inputs"]]
    written = client.submit(*values, fn_index=event["id"]).result(timeout=GENERATION_SECONDS)
    lines = [json.loads(line) for line in written.splitlines()]
    if lines[-1]["kind"] != "end":
        raise AxionError(f"the Space's page shows for {model}: {lines[-1].get('message', 'no complete text')}")
    return "".join(line["t"] for line in lines if line["kind"] == "step" and not line["prompt"])
