"""From a command to its first token or page: `axion generate`, transformers' `generate`, and `python app.py`.

Each command is a new process, and all are run in turn. Their files are in memory, as they are after an earlier run.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from axion.errors import AxionError
from axion.export.native import write_native
from axion.release import RELEASES, open_release
from axion.shipped import ROOT
from benchmarks.figures import Effort, processor_table
from benchmarks.report import number
from benchmarks.sizes import BUNDLED
from benchmarks.workers import Gone
from tests.support.servers import served

GENERATE, COMPILE = "`axion generate`", "`axion generate`, which compiles the kernels first"
TRANSFORMERS, PAGE = "transformers' `generate`, from a script", "`python app.py`, until it answers with the page"
TOKENS = "4"

SCRIPT = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (auto.from_pretrained(sys.argv[1]) for auto in (AutoModelForCausalLM, AutoTokenizer))
ids = tokenizer(sys.argv[2], return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, do_sample=False, max_new_tokens=1)[0]))
"""
"""The release's export in transformers, without the stream of tokens that its users would add."""


def measure(effort: Effort, say: Callable[[str], None]) -> dict:
    """Measure every command in turn.

    Returns:
        "seconds": what was started → its times in seconds, one for each round; "left_out".
    """
    seconds: dict[str, list[float]] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="axion-benchmark-") as place:
        native = Path(place, "native")
        write_native(open_release(BUNDLED), native)
        for one in range(effort.starts):
            for what, start in {
                GENERATE: generate,
                COMPILE: lambda one=one: generate(AXION_KERNELS=str(Path(place, f"kernels-{one}"))),
                TRANSFORMERS: lambda: until_output([sys.executable, "-c", SCRIPT, str(native), "# Pergunta:"]),
                PAGE: until_page,
            }.items():
                try:
                    seconds.setdefault(what, []).append(start())
                except Gone as why:
                    left_out[what] = f"{what}: {why}"
            say(f"starting: {', '.join(f'{what} {values[-1]:.1f} s' for what, values in seconds.items())}")
    complete = {what: values for what, values in seconds.items() if what not in left_out}
    return {"seconds": complete, "left_out": list(left_out.values())}


def generate(**environment: str) -> float:
    """Seconds until `axion generate` prints its first token."""
    command = [sys.executable, "-m", "axion", "generate", str(RELEASES / BUNDLED), "# Pergunta:\n"]
    return until_output([*command, "--max-new-tokens", TOKENS], **environment)


def until_output(command: list[str], **environment: str) -> float:
    """Seconds until a command prints something. Raises Gone if it prints nothing."""
    start = time.monotonic()
    own = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | environment
    process = subprocess.Popen(
        command, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout
    try:
        first = os.read(process.stdout.fileno(), 1)
        taken = time.monotonic() - start
        if not first:
            raise Gone(f"it exited with {process.wait()} and printed nothing")
        return taken
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until_page() -> float:
    """Seconds until `python app.py` answers with its page."""
    start = time.monotonic()
    try:
        with served() as server, urllib.request.urlopen(server.address) as page:
            page.read()
            return time.monotonic() - start
    except AxionError as why:
        raise Gone(str(why)) from None


def tables(parts: Mapping[str, dict]) -> str:
    """A Markdown table of seconds, median and range.

    Args:
        parts: processor → what `measure` returned there.
    """
    rows: dict[tuple, dict[str, str]] = {}
    for processor, part in parts.items():
        for what, values in part["seconds"].items():
            cell = f"{number(median(values))} ({number(min(values))} to {number(max(values))})"
            rows.setdefault((what,), {})[processor] = cell
    return "Seconds from the command:\n\n" + processor_table([""], rows, parts)
