"""Compiles the decoder for browsers: `python -m playground.web.build` writes decoder-fp32.wasm and its siblings here.

They are the sources in axion/kernels/csrc with dimensions that are set when a model is opened, so that each kind of
weights needs one build for all models. The builds are committed, together with decoder.json, which says what they were
made from; whoever changes the sources builds them again.

Needs clang with its WebAssembly libraries, `apt install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32
libc++-19-dev-wasm32 libc++abi-19-dev-wasm32`, or `pip install ziglang`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from axion.errors import AxionError
from axion.files import read_json, write_json
from axion.kernels.build import SOURCES, compiler_version
from axion.kernels.dimensions import WEIGHT_BITS, variables_header

FOLDER = Path(__file__).resolve().parent
RECORD = FOLDER / "decoder.json"
"""What the committed builds were made from: a hash of the sources, the compiler, and a hash of each build."""

FUNCTIONS = (
    *("dimension_names", "set_dimensions", "weights_new", "weights_free", "parts", "pack"),
    *("new", "free", "sampling", "read", "watch", "rewind", "step", "choose", "score", "guess", "verify", "logits"),
)
"""What JavaScript calls, without the prefix `axion_decoder_`."""

FLAGS = (
    *("-std=c++17", "-Os", "-msimd128", "-DAXION_ANY_MODEL", "-mexec-model=reactor"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-rtti", "-fignore-exceptions", "-fvisibility=hidden"),
    *("-Wno-unknown-pragmas", "-Wno-deprecated-declarations"),
)
LINKER_FLAGS = (
    *("--strip-all", "--stack-first", "-z", "stack-size=1048576", "--export=malloc", "--export=free"),
    *(f"--export=axion_decoder_{name}" for name in FUNCTIONS),
)


def wasm_file(weights: str = "fp32") -> Path:
    """The build for one of the kinds of WEIGHT_BITS."""
    return FOLDER / f"decoder-{weights}.wasm"


def sources_digest() -> str:
    """A hash of everything that the builds follow from, but the compiler."""
    files = [*SOURCES.glob("common/*.h"), *SOURCES.glob("decoding/*.*"), FOLDER / "no_exceptions.cpp"]
    texts = [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sorted(files)]
    texts += [variables_header(weights) for weights in WEIGHT_BITS]
    return hashlib.sha256("\0".join([*FLAGS, *LINKER_FLAGS, *texts]).encode()).hexdigest()


def builds_digests(folder: Path = FOLDER) -> dict[str, str]:
    """A hash of each build in a folder."""
    names = [wasm_file(weights).name for weights in WEIGHT_BITS]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def check() -> None:
    """Raises AxionError unless the committed builds are those of the sources."""
    record = read_json(RECORD)
    if record["sources"] != sources_digest():
        raise AxionError("the decoder's sources changed after its builds; run python -m playground.web.build")
    if record["builds"] != builds_digests():
        raise AxionError("a decoder-*.wasm is not the one in decoder.json; run python -m playground.web.build")


def compiler() -> list[str]:
    """The command that compiles C++ to WebAssembly: `$WASM_CXX`, clang 19, or zig's clang from PyPI.

    Raises:
        AxionError: none was found.
    """
    if chosen := os.environ.get("WASM_CXX"):
        return [*chosen.split(), "--target=wasm32-wasi"]
    if shutil.which("clang++-19"):
        return ["clang++-19", "--target=wasm32-wasi"]
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++", "-target", "wasm32-wasi", "-mcpu=generic+simd128"]
    raise AxionError("no compiler for WebAssembly: install clang-19 with its wasm32 libraries, or ziglang from PyPI")


def compiler_name(command: Sequence[str]) -> str:
    """Its name and version, as decoder.json has them."""
    return "ziglang" if "ziglang" in command else compiler_version(command[0])


def build(folder: Path = FOLDER) -> None:
    """Compiles every kind of weights into a folder.

    Raises:
        AxionError: there is no compiler, or it fails.
    """
    command = compiler()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(lambda weights: _compile(command, weights, folder / wasm_file(weights).name), WEIGHT_BITS):
            pass


def _compile(command: Sequence[str], weights: str, output: Path) -> None:
    with TemporaryDirectory() as headers:
        Path(headers, "dimensions.h").write_text(variables_header(weights), encoding="utf-8")
        files = [str(SOURCES / "decoding" / "decoder.cpp"), str(FOLDER / "no_exceptions.cpp")]
        link = [f"-Wl,{flag}" for flag in LINKER_FLAGS]
        done = subprocess.run(
            [*command, *FLAGS, "-I", str(SOURCES), "-I", headers, *files, *link, "-o", str(output)],
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or ["it gave no reason"]
        raise AxionError(f"{command[0]} could not build the decoder: {errors[0][:200]}")


def main() -> None:
    """Builds, and writes decoder.json."""
    try:
        build()
        record = {"sources": sources_digest(), "compiler": compiler_name(compiler()), "builds": builds_digests()}
    except AxionError as error:
        sys.exit(f"error: {error}")
    write_json(RECORD, record)
    for weights in WEIGHT_BITS:
        print(f"{wasm_file(weights).name}: {wasm_file(weights).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
