"""Building the kernels: once for any number of processes, for any processor; and without a compiler."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from axion.errors import AxionError
from axion.files import locked, partial_of
from axion.kernels import build
from axion.kernels.backend import choose
from axion.kernels.build import library
from axion.kernels.dimensions import dimensions_header
from axion.model.configuration_axion import AxionConfig
from tests.conftest import ROOT, TINY
from tests.kernels.conftest import FACTORS, FAMILY_SHAPES

CONFIG = AxionConfig(**TINY)


def test_a_model_with_the_same_dimensions_is_not_built_again(monkeypatch):
    library(CONFIG, "training")
    monkeypatch.setattr(build, "_build", None)
    assert library(AxionConfig(**TINY, bos_token_id=5), "training") is library(CONFIG, "training")


@pytest.fixture
def fresh(monkeypatch, tmp_path) -> Iterator[Path]:
    """An empty folder of builds, and nothing loaded in this process."""
    builds = tmp_path / "builds"
    monkeypatch.setenv("AXION_KERNELS", str(builds))
    build._load.cache_clear()
    yield builds
    build._load.cache_clear()


@pytest.fixture
def tiny_build(fresh, monkeypatch) -> Path:
    """The folder that the next build makes: of one source of one line, which takes no time to compile."""
    sources = fresh.parent / "csrc"
    for name in ("common", "training"):
        (sources / name).mkdir(parents=True)
    (sources / "training" / "one.cpp").write_text('extern "C" int axion_vector_lanes() { return 1; }\n')
    monkeypatch.setattr(build, "SOURCES", sources)
    return fresh / "0123"


def build_one(folder: Path) -> None:
    source = build.SOURCES / "training" / "one.cpp"
    build._build("training", build.compiler(), build.FLAGS, "// no constants\n", [source], folder)


def test_processes_that_start_at_once_share_one_build(tiny_build, monkeypatch, capsys):
    """One has the lock on the hidden folder and compiles; the others wait, and use what it has built."""
    partial = partial_of(tiny_build)
    partial.mkdir(parents=True)
    monkeypatch.setattr(build, "_compile", None)
    with ThreadPoolExecutor(1) as other:
        with locked(partial):
            waiting = other.submit(build_one, tiny_build)
            while "waiting for another process" not in capsys.readouterr().err:
                time.sleep(0.01)
            assert not waiting.done()
            tiny_build.mkdir()
            (tiny_build / build.LIBRARY).write_bytes(b"built by the other")
        waiting.result()
    assert (tiny_build / build.LIBRARY).read_bytes() == b"built by the other"
    assert list(tiny_build.parent.iterdir()) == [tiny_build]


def test_what_a_killed_compiler_left_is_compiled_again_or_deleted(tiny_build, capsys):
    for folder in (tiny_build, tiny_build.with_name("of-other-sources")):
        partial_of(folder).mkdir(parents=True)
        (partial_of(folder) / build.LIBRARY).write_bytes(b"half a library")
    build_one(tiny_build)
    assert capsys.readouterr().err == "compiling the kernels for training with this model (once) …\n"
    assert list(tiny_build.parent.iterdir()) == [tiny_build]
    assert build.vector_lanes(ctypes.CDLL(str(tiny_build / build.LIBRARY))) == 1


def test_without_a_compiler_pytorch_is_chosen_and_requiring_kernels_is_an_error(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert str(choose("auto", CONFIG, "training")) == "PyTorch: no-such-compiler (from $CXX) was not found"
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(build.shutil, "which", lambda command: None)
    choice = choose("auto", CONFIG, "training")
    assert (choice.name, str(choice)) == ("torch", "PyTorch: no C++ compiler was found (g++ or clang++)")
    with pytest.raises(AxionError, match=r"cannot be used: no C\+\+ compiler was found .*; use --backend auto or"):
        choose("native", CONFIG, "training")


def test_a_command_that_is_no_compiler_is_named(fresh, monkeypatch, tmp_path):
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    monkeypatch.setenv("CXX", str(silent))
    choice = choose("auto", CONFIG, "training")
    assert str(choice) == f"PyTorch: {silent} prints nothing for --version, so it is no C++ compiler"


def test_a_compiler_that_fails_is_named_with_its_first_error(fresh, monkeypatch, tmp_path, capsys):
    broken = tmp_path / "g++"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo broken 1.0 && exit\necho "error: out of order" >&2; exit 1\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert (
        str(choose("auto", CONFIG, "training")) == f"PyTorch: {broken} could not build the kernels: error: out of order"
    )
    assert list(fresh.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written(fresh):
    fresh.touch()
    assert str(choose("auto", CONFIG, "training")).startswith(f"PyTorch: {fresh} cannot be written (")


def test_threads_share_one_build_and_nothing_else_of_the_process_changes(tiny_build, fresh, monkeypatch, capfd):
    environment, stdout, seen = dict(os.environ), sys.stdout, []
    run = subprocess.run

    def compile_and_look(*args, **kwargs):
        seen.append((dict(os.environ) == environment, sys.stdout is stdout))
        return run(*args, **kwargs)

    monkeypatch.setattr(build.subprocess, "run", compile_and_look)
    with ThreadPoolExecutor(3) as threads:
        first, *others = threads.map(lambda _: library(CONFIG, "training"), range(3))
    assert all(other is first for other in others)
    assert set(seen) == {(True, True)}
    assert sys.stdout is stdout and dict(os.environ) == environment
    assert len(list(fresh.iterdir())) == 1 and capfd.readouterr().err.count("compiling") == 1


def test_the_choice():
    assert choose("torch", CONFIG, "training").name == "torch"
    assert choose("auto", CONFIG, "training").name == choose("native", CONFIG, "training").name == "native"
    assert str(choose("auto", CONFIG, "training", device="cuda")) == "PyTorch: the model is on cuda"
    assert str(choose("auto", CONFIG, "training", unsupported_reason="of a reason")) == "PyTorch: of a reason"
    with pytest.raises(AxionError, match="backend must be auto, torch or native, not 'fast'"):
        choose("fast", CONFIG, "training")


def test_the_environment_variable_is_the_default(monkeypatch):
    monkeypatch.setenv("AXION_BACKEND", "torch")
    assert choose("auto", CONFIG, "training").name == "torch"
    assert choose("native", CONFIG, "training").name == "native"
    monkeypatch.setenv("AXION_BACKEND", "")  # as a shell or a container leaves it
    assert choose("auto", CONFIG, "training").name == "native"
    monkeypatch.setenv("AXION_BACKEND", "fast")
    with pytest.raises(AxionError, match=r"\$AXION_BACKEND must be auto, torch or native, not 'fast'"):
        choose("auto", CONFIG, "training")


@pytest.mark.slow
def test_nothing_is_compiled_when_the_package_is_imported(tmp_path):
    code = "import axion.cli, axion.inference.stream, axion.training.run, playground.server.launch"
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, env=os.environ | {"AXION_KERNELS": str(tmp_path)}
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("march", ["x86-64-v3", "x86-64-v2"])
def test_other_x86_instruction_sets(tmp_path, march):
    """AVX2 and SSE: compiled, and compared with PyTorch in a separate process."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("these are x86 processors")
    tests = [
        "test_blocks.py::test_loss_logits_and_every_gradient[odd widths, one head, dense first layer]",
        f"test_blocks.py::test_dropout_has_the_same_mask_forwards_and_backwards_at_every_place[{FACTORS}]",
        "test_reading.py::test_every_shape_gives_the_models_logits_and_routing[wide latents]",
        f"test_reading.py::test_every_shape_gives_the_models_logits_and_routing[{FACTORS}]",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/kernels/{test}" for test in tests)],
        cwd=ROOT,
        env=os.environ | {"AXION_KERNELS_MARCH": march},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_nothing_is_read_or_written_out_of_bounds():
    """Run the other tests of this folder with the address and undefined-behaviour sanitizers."""
    command = build.compiler()
    # The sanitizer must be loaded before Python, and so must libstdc++, whose exceptions it intercepts. The compiler
    # would be slower with it.
    preloaded = [
        subprocess.run([command, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    run = "import os, sys, pytest; del os.environ['LD_PRELOAD']; sys.exit(pytest.main(sys.argv[1:]))"
    small = "not test_every_recipe or v0.1"  # the shapes of the others are like those of the tests beside it
    tests = [str(path) for path in sorted(Path(__file__).parent.glob("test_*.py")) if path.name != Path(__file__).name]
    done = subprocess.run(
        [sys.executable, "-c", run, "-q", "-x", "-s", "-p", "no:cacheprovider", "-k", small, *tests],
        cwd=ROOT,
        env=os.environ
        | {
            "AXION_KERNELS_FLAGS": "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
            "LD_PRELOAD": " ".join(preloaded),
            # Python itself does not free all memory at exit; one test asks for more than there is
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "OMP_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
def test_the_sources_compile_for_aarch64(tmp_path):
    command = shutil.which("aarch64-linux-gnu-g++")
    if command is None:
        pytest.skip("no cross compiler: apt-get install g++-aarch64-linux-gnu")
    folders = ["-I", str(build.SOURCES), "-I", str(tmp_path)]
    grouped = AxionConfig(**TINY | FAMILY_SHAPES[FACTORS])
    for config, use in ((CONFIG, "training"), (CONFIG, "decoding"), (grouped, "training")):
        (tmp_path / "dimensions.h").write_text(dimensions_header(config), encoding="utf-8")
        for source in build.sources(config, use):
            if source.suffix == ".cpp":
                subprocess.run(
                    [command, *build.FLAGS, "-O1", *folders, "-c", str(source), "-o", os.devnull], check=True
                )
