"""Compiles the kernels for one model's dimensions, once, and loads them.

Every dimension is a constant of the compiled code (`dimensions.h`), so the compiler unrolls what it can. A build is
kept in a folder named by a hash of all that it depends on: sources, dimensions, compiler, flags, processor. Two
processes that start at once each build in a folder of their own and rename it into place: the later one finds it there.
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
"""-Wno-psabi: GCC notes that wide vectors are passed another way without AVX-512; nothing here passes one between
libraries."""


class Unavailable(AxionError):
    """The kernels cannot be used here; the message says why."""


def library(config: AxionConfig) -> ctypes.CDLL:
    """The compiled kernels for a model's dimensions, built at the first call.

    The folder of builds is `$AXION_KERNELS`, or `axion/kernels` in the user's cache folder (`$XDG_CACHE_HOME` or
    ~/.cache).

    Raises:
        Unavailable: no compiler, ninja or OpenMP, a compiler that fails, or a model that the kernels do not cover.
    """
    if (reason := unsupported_reason(config)) is not None:
        raise Unavailable(reason)
    return _load(dimensions_header(config))


def vector_lanes(kernels: ctypes.CDLL) -> int:
    """How many floats the compiled code works on at once: 16 with AVX-512, 8 with AVX2, 4 with NEON or SSE."""
    return kernels.axion_vector_lanes()


def compiler() -> str:
    """The C++ compiler's command: `$CXX`, or g++, clang++ or c++, whichever is found first.

    Raises:
        Unavailable: none is there.
    """
    wish = os.environ.get("CXX")
    for command in [wish] if wish else ["g++", "clang++", "c++"]:
        if shutil.which(command):
            return command
    raise Unavailable(f"{wish} (from $CXX) was not found" if wish else "no C++ compiler was found (g++ or clang++)")


def dimensions_header(config: AxionConfig) -> str:
    """dimensions.h: the model's sizes and constants as C++."""
    sizes = {
        "kVocabulary": config.vocab_size,
        "kHidden": config.hidden_size,
        "kLayers": config.num_hidden_layers,
        "kDenseLayers": config.first_k_dense_replace,
        "kDenseWidth": config.intermediate_size,
        "kHeads": config.num_attention_heads,
        "kQueryRank": config.q_lora_rank or 0,  # 0: queries come from one full matrix
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
    """What the compiler is told of the processor: this one, unless `$AXION_KERNELS_MARCH` names another."""
    wish = os.environ.get("AXION_KERNELS_MARCH", "native")
    return (f"-march={wish}",) if platform.machine() in {"x86_64", "AMD64"} else (f"-mcpu={wish}",)


@cache
def compiler_version(command: str) -> str:
    """The first line of `--version`."""
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{command} does not run: {error}") from None
    return done.stdout.splitlines()[0]


@cache
def _load(header: str) -> ctypes.CDLL:
    if not SOURCES.is_dir():
        raise Unavailable("the kernels' sources are not beside the package")
    command = compiler()
    flags = [*FLAGS, *processor_flags(), *os.environ.get("AXION_KERNELS_FLAGS", "").split()]
    sources = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".h", ".cpp"})
    known = [header, compiler_version(command), *flags, _processor(), torch.__version__]
    known += [f"{path.relative_to(SOURCES)}\n{path.read_text(encoding='utf-8')}" for path in sources]
    name = hashlib.sha256("\0".join(known).encode()).hexdigest()[:20]
    built = _folder() / name / LIBRARY
    if not built.is_file():
        _build(command, flags, header, sources, built.parent)
    # its OpenMP is torch's own: a library of the same name that is loaded already is taken again
    try:
        return ctypes.CDLL(str(built))
    except OSError as error:
        raise Unavailable(f"the kernels do not load ({error}); remove {built.parent} to build them anew") from None


def _build(command: str, flags: Sequence[str], header: str, sources: Sequence[Path], folder: Path) -> None:
    """Builds into a folder of this process and renames it to `folder`."""
    # Only here: this import takes a second, and nobody needs it whose build is there.
    from torch.utils import cpp_extension

    print("compiling the kernels for this model, once …", file=sys.stderr)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise Unavailable(
            f"{folder.parent} cannot be written ({error.strerror}); $AXION_KERNELS names another folder for the kernels"
        ) from None
    try:
        (staged / "dimensions.h").write_text(header, encoding="utf-8")
        with (
            _environment(CXX=command, PATH=_path_with_ninja()),
            redirect_stdout(StringIO()),  # it prints where it looks for its cache
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
        [made] = staged.glob("*.so")  # the same name a second time in one process gets a number
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
    """$PATH, and before it the folder of the ninja that pip installed: an environment need not be active to be used.

    Raises:
        Unavailable: there is no ninja.
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
    """Sets environment variables for a while."""
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


def _folder() -> Path:
    if wish := os.environ.get("AXION_KERNELS"):
        return Path(wish)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "axion" / "kernels"


@cache
def _processor() -> str:
    """What -march=native stands for: a home folder may be shared by different machines."""
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return platform.processor()
    lines = information.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines[: lines.index("")] if line.startswith(("flags", "Features", "model name")))
