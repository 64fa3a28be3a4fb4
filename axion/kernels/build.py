"""Compiles the kernels for the dimensions of one model, caches the build and loads it.

Every dimension is a constant of the compiled code (`dimensions.h`), so the compiler can unroll loops. The folder of a
build is named by a hash of all that it depends on: sources, dimensions, compiler, flags, processor. Two processes that
start at the same time each build in a temporary folder and rename it into place; the later one uses the folder that is
already there.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import torch

from axion.errors import AxionError
from axion.kernels.coverage import unsupported_reason
from axion.model.attention_axion import softmax_scale
from axion.model.configuration_axion import LATENT_NORM_EPS, AxionConfig

SOURCES = Path(__file__).resolve().parent / "csrc"
LIBRARY = "axion_kernels.so"

FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wno-psabi")
"""-Wno-psabi: GCC warns that wide vectors are passed differently without AVX-512; none is passed between libraries."""


class Unavailable(AxionError):
    """The kernels cannot be used; the message says why."""


def library(config: AxionConfig) -> ctypes.CDLL:
    """The compiled kernels for a model's dimensions, built on first use.

    Builds are kept in `builds_folder()`.

    Raises:
        Unavailable: there is no compiler, ninja or OpenMP, the compiler fails, or the kernels do not cover the config.
    """
    if (reason := unsupported_reason(config)) is not None:
        raise Unavailable(reason)
    return _load(dimensions_header(config), os.environ.get("AXION_KERNELS_FLAGS", ""))


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


def dimensions_header(config: AxionConfig) -> str:
    """The text of dimensions.h: the sizes and constants of the model in C++."""
    sizes = {
        "kVocabulary": config.vocab_size,
        "kHidden": config.hidden_size,
        "kLayers": config.num_hidden_layers,
        "kDenseLayers": config.first_k_dense_replace,
        "kDenseWidth": config.intermediate_size,
        "kHeads": config.num_attention_heads,
        "kQueryRank": config.q_lora_rank or 0,  # 0: queries are projected by one full matrix
        "kLatent": config.kv_lora_rank,
        "kNope": config.qk_nope_head_dim,
        "kRope": config.qk_rope_head_dim,
        "kValue": config.v_head_dim,
        "kExperts": config.n_routed_experts,
        "kChosen": config.num_experts_per_tok,
        "kExpertWidth": config.moe_intermediate_size,
        "kSharedWidth": config.moe_intermediate_size * config.n_shared_experts,
        "kGroups": config.n_group,
        "kTopGroups": config.topk_group,
    }
    switches = {"kNormalise": config.norm_topk_prob, "kInterleave": config.rope_interleave}
    numbers = {
        "kRoutedScale": config.routed_scaling_factor,
        "kSoftmaxScale": softmax_scale(config),
        "kNormEpsilon": config.rms_norm_eps,
        "kLatentEpsilon": LATENT_NORM_EPS,
    }
    lines = [f"constexpr int {name} = {value};" for name, value in sizes.items()]
    lines += [f"constexpr bool {name} = {str(bool(value)).lower()};" for name, value in switches.items()]
    lines += [f"constexpr float {name} = {float(value)!r};" for name, value in numbers.items()]
    return "\n".join(["// Written by axion/kernels/build.py for one model.", "#pragma once", *lines, ""])


@cache
def processor_flags() -> tuple[str, ...]:
    """The compiler's option for the processor: this one, or the one that `$AXION_KERNELS_MARCH` names."""
    name = os.environ.get("AXION_KERNELS_MARCH", "native")
    return (f"-march={name}",) if platform.machine() in {"x86_64", "AMD64"} else (f"-mcpu={name}",)


@cache
def compiler_version(command: str) -> str:
    """The first line that the compiler prints for `--version`."""
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{command} does not run: {error}") from None
    return done.stdout.splitlines()[0]


@cache
def _load(header: str, more_flags: str) -> ctypes.CDLL:
    if not SOURCES.is_dir():
        raise Unavailable("the sources of the kernels are not installed")
    command = compiler()
    flags = [*FLAGS, *processor_flags(), *more_flags.split()]
    sources = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".h", ".cpp"})
    known = [header, compiler_version(command), *flags, _processor(), torch.__version__]
    known += [f"{path.relative_to(SOURCES)}\n{path.read_text(encoding='utf-8')}" for path in sources]
    name = hashlib.sha256("\0".join(known).encode()).hexdigest()[:20]
    built = builds_folder() / name / LIBRARY
    if not built.is_file():
        _build(command, flags, header, sources, built.parent)
    # The OpenMP library is torch's own: the loader reuses a library of the same name.
    try:
        return ctypes.CDLL(str(built))
    except OSError as error:
        raise Unavailable(f"the kernels do not load ({error}); delete {built.parent} to rebuild them") from None


def _build(command: str, flags: Sequence[str], header: str, sources: Sequence[Path], folder: Path) -> None:
    """Builds in a temporary folder and renames it to `folder`."""
    # Imported lazily: it takes a second, and only a new build needs it.
    from torch.utils import cpp_extension

    print("compiling the kernels for this model (once) …", file=sys.stderr)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise Unavailable(
            f"{folder.parent} cannot be written ({error.strerror}); set $AXION_KERNELS to another folder"
        ) from None
    try:
        (staged / "dimensions.h").write_text(header, encoding="utf-8")
        with (
            _environment(CXX=command, PATH=_path_with_ninja()),
            redirect_stdout(StringIO()),  # it prints the path of its cache
        ):
            cpp_extension.load(
                name=f"axion_{folder.name}",
                sources=[str(path) for path in sources if path.suffix == ".cpp"],
                extra_cflags=list(flags),
                extra_ldflags=["-fopenmp", *(flag for flag in flags if flag.startswith("-fsanitize"))],
                extra_include_paths=[str(SOURCES), str(staged)],
                build_directory=str(staged),
                is_python_module=False,
                keep_intermediates=False,
            )
        [made] = staged.glob("*.so")  # a name used twice in one process gets a number appended
        made.rename(staged / LIBRARY)
        try:
            os.rename(staged, folder)
        except OSError:  # another process was first
            if not (folder / LIBRARY).is_file():
                raise
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{command} could not build the kernels: {_first_error(str(error))}") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _path_with_ninja() -> str:
    """`$PATH`, preceded by the folder of pip's ninja, which is not in it unless the environment is activated.

    Raises:
        Unavailable: ninja is not installed.
    """
    path = os.environ.get("PATH", "")
    try:
        import ninja
    except ImportError:
        if shutil.which("ninja") is None:
            raise Unavailable("ninja was not found; pip install ninja") from None
        return path
    return f"{ninja.BIN_DIR}{os.pathsep}{path}"


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Sets environment variables for the duration of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "error" in line.lower()]
    return (lines[1] if len(lines) > 1 else lines[0] if lines else text.strip().splitlines()[-1])[:200]


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
    lines = information.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines[: lines.index("")] if line.startswith(("flags", "Features", "model name")))
