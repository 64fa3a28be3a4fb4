"""The decoder in WebAssembly under node beside native ones: `python -m benchmarks.browser [RELEASE …] [--rounds N]`.

The native decoder is measured as it is, compiled for the model's dimensions, and compiled like that for browsers, with
dimensions at run time: the difference is why each model is compiled natively. All run on one thread, in turns, and
their processor time is measured, so that other work on the machine disturbs little. The releases are folders, or names
under releases/.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

from axion.errors import AxionError
from axion.kernels import build, decoder
from axion.kernels.dimensions import dimensions, variables_header
from axion.model.shape_axion import AxionShape
from axion.release import Release, open_release
from benchmarks.report import machine
from benchmarks.sizes import BUNDLED
from playground.web.build import wasm_file

PROMPT = "# Pergunta:\nQuanto é 27 + 48?\n--\n# Resposta:\n"
SCRIPT = Path(__file__).with_suffix(".mjs")
NEW_TOKENS = 256
NAMES = ("native", "native, dimensions at run time", "WebAssembly")
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


def any_model_library(config: AxionShape, _: str, weights: str) -> ctypes.CDLL:
    """The native decoder with dimensions at run time, in place of `axion.kernels.build.library`."""
    files = tuple(build.sources(config, "decoding"))
    library = build._load("decoding", variables_header(weights), files, "-DAXION_ANY_MODEL")
    library.axion_decoder_dimension_names.restype = ctypes.c_char_p
    names = library.axion_decoder_dimension_names().decode().split()
    values = dimensions(config)
    library.axion_decoder_set_dimensions((ctypes.c_double * len(names))(*(float(values[name]) for name in names)))
    return library


class Native:
    """A native decoder with the same work.

    Args:
        library: what stands in for `axion.kernels.build.library`.
    """

    def __init__(self, release: Release, library: Callable = build.library) -> None:
        with patch.object(decoder, "library", library):
            self._decoder = decoder.NativeDecoder(release.model)
        self._ids = release.tokenizer(PROMPT).input_ids
        context = release.config.max_position_embeddings
        self._window = [self._ids[at % len(self._ids)] for at in range(context)]
        self._count = min(NEW_TOKENS, context - len(self._ids))

    def round(self) -> dict[str, float]:
        """Tokens per second, writing and reading."""
        one = self._decoder
        one.rewind(0)
        one.read(self._ids)
        start = time.process_time()
        for _ in range(self._count):
            one.draw()
        write = time.process_time() - start
        one.rewind(0)
        start = time.process_time()
        one.read(self._window)
        return {"write": self._count / write, "read": len(self._window) / (time.process_time() - start)}


def measure(reference: str, rounds: int) -> dict:
    """Tokens per second of all in each round, and what it takes to open the release in node."""
    release = open_release(reference)
    browser = Browser(release.folder)
    contenders = dict(zip(NAMES, (Native(release), Native(release, any_model_library), browser), strict=True))
    try:
        for one in contenders.values():  # compilers and caches warm up
            one.round()
            one.round()
        found = [{name: one.round() for name, one in contenders.items()} for _ in range(rounds)]
        return {"release": release.name, "opened": browser.opened, "rounds": found}
    finally:
        browser.close()


def table(results: Sequence[dict]) -> str:
    """Markdown: medians of tokens per second, and of each round's ratio to the native decoder as it is."""
    lines = [f"| | | {' | '.join(NAMES)} |", f"| --- | --- |{' ---: |' * len(NAMES)}"]
    for result in results:
        for kind, label in KINDS.items():
            cells = []
            for name in NAMES:
                speeds = [one[name][kind] for one in result["rounds"] if kind in one[name]]
                shares = [one[name][kind] / one[NAMES[0]][kind] for one in result["rounds"] if kind in one[NAMES[0]]]
                share = f" ({statistics.median(shares):.2f})" if shares and name != NAMES[0] else ""
                cells.append(f"{statistics.median(speeds):,.0f}{share}" if speeds else "")
            lines.append(f"| {result['release']} | {label} | {' | '.join(cells)} |")
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
