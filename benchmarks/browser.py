"""The decoder in WebAssembly under node beside the native one: `python -m benchmarks.browser [RELEASE …] [--rounds N]`.

Both run on one thread, in turns, and their processor time is measured, so that other work on the machine disturbs
little. The releases are folders, or names under releases/.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from axion.errors import AxionError
from axion.kernels.decoder import NativeDecoder
from axion.release import open_release
from benchmarks.report import machine
from benchmarks.sizes import BUNDLED
from playground.web.build import wasm_file

PROMPT = "# Pergunta:\nQuanto é 27 + 48?\n--\n# Resposta:\n"
SCRIPT = Path(__file__).with_suffix(".mjs")
NEW_TOKENS = 256
KINDS = {"write": "writing", "read": "reading", "stream": "writing with all events"}


class Browser:
    """A process of node that has opened a release."""

    def __init__(self, folder: Path):
        if shutil.which("node") is None:
            raise AxionError("node is not installed; as root, apt-get install nodejs")
        command = ["node", str(SCRIPT), str(folder), str(wasm_file()), str(NEW_TOKENS)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self._answer()
        """Seconds to load and until the first token, and bytes of memory."""

    def round(self) -> dict[str, float]:
        """Tokens per second of each of KINDS."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise AxionError("node stopped; it says above why")
        return json.loads(line)


class Native:
    """The native decoder with the same work."""

    def __init__(self, release) -> None:
        self._decoder = NativeDecoder(release.model)
        self._ids = release.tokenizer(PROMPT).input_ids
        context = release.config.max_position_embeddings
        self._window = [self._ids[at % len(self._ids)] for at in range(context)]
        self._count = min(NEW_TOKENS, context - len(self._ids))

    def round(self) -> dict[str, float]:
        """Tokens per second, writing and reading."""
        decoder = self._decoder
        decoder.rewind(0)
        decoder.read(self._ids)
        start = time.process_time()
        for _ in range(self._count):
            decoder.draw()
        write = time.process_time() - start
        decoder.rewind(0)
        start = time.process_time()
        decoder.read(self._window)
        return {"write": self._count / write, "read": len(self._window) / (time.process_time() - start)}


def measure(reference: str, rounds: int) -> dict:
    """What both do in each round, and what it takes to open the release in node."""
    release = open_release(reference)
    browser, native = Browser(release.folder), Native(release)
    try:
        for contender in (browser, native):  # compilers and caches warm up
            contender.round()
            contender.round()
        found = [(browser.round(), native.round()) for _ in range(rounds)]
        return {"release": release.name, "opened": browser.opened, "rounds": found}
    finally:
        browser.close()


def table(results: Sequence[dict]) -> str:
    """Markdown: medians of tokens per second, and of the ratio of each round."""
    lines = ["| | | WebAssembly | native | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for result in results:
        for kind, label in KINDS.items():
            pairs = [(ours[kind], theirs.get(kind)) for ours, theirs in result["rounds"]]
            native = [theirs for _, theirs in pairs if theirs]
            ratio = f"{statistics.median(ours / theirs for ours, theirs in pairs if theirs):.2f}" if native else ""
            cells = [
                f"{statistics.median(values):,.0f}" if values else "" for values in ([p[0] for p in pairs], native)
            ]
            lines.append(f"| {result['release']} | {label} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("releases", nargs="*", default=[BUNDLED])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    try:
        results = [measure(reference, options.rounds) for reference in options.releases]
    except AxionError as error:
        sys.exit(f"error: {error}")
    where = machine()
    print(f"Tokens per second of processor time on one thread, medians of {options.rounds} rounds:\n\n{table(results)}")
    for result in results:
        opened = result["opened"]
        print(
            f"{result['release']}: {opened['load']:.2f} s to load, first token after {opened['first']:.2f} s, "
            f"{opened['memory'] / 1e6:.1f} MB of memory, {wasm_file().stat().st_size:,} bytes of WebAssembly"
        )
    print(f"{where['processor']}, {where['cores']} cores, {subprocess.check_output(['node', '--version'], text=True)}")


if __name__ == "__main__":
    main()
