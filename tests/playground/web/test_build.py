"""The committed builds of the decoder are those of its sources."""

from __future__ import annotations

import shutil

import pytest

from axion.errors import AxionError
from axion.files import read_json
from axion.kernels.dimensions import dimensions, variables_header
from axion.model.shape_axion import AxionShape
from playground.web import build


def test_the_builds_are_those_of_the_sources():
    build.check()


@pytest.mark.parametrize("changed", ["sources", "build"])
def test_a_change_without_a_build_is_noticed(changed, monkeypatch, tmp_path):
    if changed == "sources":
        shutil.copytree(build.SOURCES, sources := tmp_path / "csrc")
        with (sources / "decoding" / "draw.h").open("a") as header:
            header.write("// changed\n")
        monkeypatch.setattr(build, "SOURCES", sources)
    else:
        for kind in build.WEIGHT_BITS:
            shutil.copy(build.wasm_file(kind), tmp_path)
        with (tmp_path / build.wasm_file("bf16").name).open("ab") as wasm:
            wasm.write(b"\0")
        digests = build.builds_digests(tmp_path)
        monkeypatch.setattr(build, "builds_digests", lambda: digests)
    with pytest.raises(AxionError, match=r"run python -m playground\.web\.build"):
        build.check()


def test_every_dimension_is_a_variable_of_the_common_build():
    header = variables_header()
    assert all(f" {name} = 0;" in header and f"V({name})" in header for name in dimensions(AxionShape()))


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.delenv("WASM_CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    with pytest.raises(AxionError, match="install clang-19"):
        build.build()


@pytest.mark.slow
def test_the_compiler_of_the_builds_makes_the_same_bytes(tmp_path):
    record = read_json(build.RECORD)
    try:
        found = build.compiler_name(build.compiler())
    except AxionError as reason:
        pytest.skip(str(reason))
    if found != record["compiler"]:
        pytest.skip(f"the builds were made by {record['compiler']}, not by {found}")
    build.build(tmp_path)
    assert build.builds_digests(tmp_path) == record["builds"]
