"""Compiles the kernels for the dimensions of one model, caches the build and loads it.

Training and decoding are libraries of their own, so that nobody waits for a part that is not used. Every dimension is a
constant of the compiled code (`dimensions.h`), so the compiler can unroll loops. The folder of a build is named by a
hash of all that it depends on: sources, dimensions, compiler, flags, processor. Of several processes that start at the
same time, one compiles in a hidden folder, which is renamed when it is complete, and the others wait for it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from threading import Lock

from axion.errors import AxionError
from axion.files import continued_folder, delete_partial, locked, partial_of
from axion.kernels.coverage import Use, unsupported_reason
from axion.kernels.dimensions import dimensions_header
from axion.model.shape_axion import AxionShape

SOURCES = Path(__file__).resolve().parent / "csrc"
LIBRARY = "axion_kernels.so"

FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wno-psabi")
"""-Wno-psabi: GCC warns that wide vectors are passed differently without AVX-512; none is passed between libraries."""


_lock = Lock()


class Unavailable(AxionError):
    """The kernels cannot be used; the message says why."""


def library(config: AxionShape, use: Use, weights: str = "fp32") -> ctypes.CDLL:
    """The compiled kernels that train, or decode with, models of these dimensions, built on first use.

    Builds are kept in `builds_folder()`. Each kind of weights for decoding has its own.

    Raises:
        Unavailable: there is no compiler or OpenMP, the compiler fails, or the kernels do not cover the config.
    """
    if (reason := unsupported_reason(config, use)) is not None:
        raise Unavailable(reason)
    with _lock:
        header, files = dimensions_header(config, weights), tuple(sources(config, use))
        return _load(use, header, files, os.environ.get("AXION_KERNELS_FLAGS", ""))


def sources(config: AxionShape, use: Use) -> list[Path]:
    """The headers, and the C++ files of the parts that a model has.

    Raises:
        Unavailable: they are not installed.
    """
    left_out = {"grouped_block.cpp" if config.attention == "mla" else "latent_block.cpp"}
    if not config.mixture_layers:
        left_out.add("mixture_block.cpp")
    if not config.first_k_dense_replace:
        left_out.add("dense_block.cpp")
    folders = (SOURCES / "common", SOURCES / use)
    if not all(folder.is_dir() for folder in folders):
        raise Unavailable("the sources of the kernels are not installed")
    files = (path for folder in folders for path in folder.iterdir() if path.suffix in {".h", ".cpp"})
    return sorted(path for path in files if path.name not in left_out)


def vector_lanes(kernels: ctypes.CDLL) -> int:
    """Floats per vector of the compiled code: 16 with AVX-512, 8 with AVX2, 4 with NEON or SSE."""
    return kernels.axion_vector_lanes()


def compiler() -> str:
    """The command of the C++ compiler: `$CXX`, or the first of g++, clang++ and c++ that is found.

    Raises:
        Unavailable: no compiler was found.
    """
    chosen = os.environ.get("CXX")
    for command in [chosen] if chosen else ["g++", "clang++", "c++"]:
        if shutil.which(command):
            return command
    raise Unavailable(f"{chosen} (from $CXX) was not found" if chosen else "no C++ compiler was found (g++ or clang++)")


@cache
def processor_flags() -> tuple[str, ...]:
    """The compiler's option for the processor: this one, or the one that `$AXION_KERNELS_MARCH` names."""
    name = os.environ.get("AXION_KERNELS_MARCH") or "native"
    return (f"-march={name}",) if platform.machine() in {"x86_64", "AMD64"} else (f"-mcpu={name}",)


@cache
def compiler_version(command: str) -> str:
    """The first line that the compiler prints for `--version`."""
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{command} does not run: {error}") from None
    if not (lines := done.stdout.splitlines()):
        raise Unavailable(f"{command} prints nothing for --version, so it is no C++ compiler")
    return lines[0]


@cache
def _load(use: Use, header: str, files: tuple[Path, ...], more_flags: str) -> ctypes.CDLL:
    command = compiler()
    flags = [*FLAGS, *processor_flags(), *more_flags.split()]
    known = [header, compiler_version(command), *flags, _processor(), version("torch")]
    known += [f"{path.relative_to(SOURCES)}\n{path.read_text(encoding='utf-8')}" for path in files]
    name = hashlib.sha256("\0".join(known).encode()).hexdigest()[:20]
    built = builds_folder() / name / LIBRARY
    if not built.is_file():
        _build(use, command, flags, header, files, built.parent)
    # where torch is imported, the OpenMP library is its own: the loader reuses a library of the same name
    try:
        return ctypes.CDLL(str(built))
    except OSError as error:
        raise Unavailable(f"the kernels do not load ({error}); delete {built.parent} to rebuild them") from None


def _build(use: Use, command: str, flags: Sequence[str], header: str, sources: Sequence[Path], folder: Path) -> None:
    """Builds in a hidden folder and renames it to `folder`, or waits for the process that is doing so."""
    try:
        with locked(partial_of(folder), wait=False) as is_free:
            if is_free is False:
                print(f"waiting for another process that compiles the kernels for {use} …", file=sys.stderr)
        with continued_folder(folder, is_complete=lambda: (folder / LIBRARY).is_file()) as staged:
            if staged is None:
                return  # another process has built it
            print(f"compiling the kernels for {use} with this model (once) …", file=sys.stderr)
            try:
                _compile(command, flags, header, sources, staged)
            except BaseException:  # nothing of it is worth continuing
                shutil.rmtree(staged, ignore_errors=True)
                raise
        delete_partial(folder, "*")
    except OSError as error:
        raise Unavailable(
            f"{folder.parent} cannot be written ({error.strerror}); set $AXION_KERNELS to another folder"
        ) from None


def _compile(command: str, flags: Sequence[str], header: str, sources: Sequence[Path], folder: Path) -> None:
    """Compiles the sources side by side and links them to `folder / LIBRARY`."""
    (folder / "dimensions.h").write_text(header, encoding="utf-8")
    compile_one = [command, *flags, "-fPIC", "-I", str(SOURCES), "-I", str(folder)]
    units = {folder / f"{source.stem}.o": source for source in sources if source.suffix == ".cpp"}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        compiled = [
            threads.submit(_run, [*compile_one, "-c", str(source), "-o", str(unit)]) for unit, source in units.items()
        ]
    for unit in compiled:
        unit.result()
    _run([command, *flags, "-shared", *map(str, units), "-o", str(folder / LIBRARY)])
    for unit in units:
        unit.unlink()


def _run(command: Sequence[str]) -> None:
    """Runs the compiler. Raises Unavailable with the first error that it prints."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise Unavailable(f"{command[0]} could not build the kernels: {_first_error(done.stderr)}")


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it gave no reason")[:200]


def builds_folder() -> Path:
    """The folder of all builds: `$AXION_KERNELS`, or `axion/kernels` in the user's cache folder.

    The cache folder is `$XDG_CACHE_HOME`, or ~/.cache.
    """
    if folder := os.environ.get("AXION_KERNELS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "axion" / "kernels"


@cache
def _processor() -> str:
    """What -march=native means here: machines with different processors may share a home folder."""
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return platform.processor()
    first = takewhile(str.strip, information.read_text(encoding="utf-8").splitlines())  # the others are alike
    return "\n".join(line for line in first if line.startswith(("flags", "Features", "model name")))
