"""Files are read strictly and written atomically, and temporary folders of killed processes are deleted."""

import json
import os
import resource
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from axion import files
from axion.errors import AxionError
from axion.files import (
    new_folder,
    parse_json,
    parse_yaml,
    read_json,
    read_yaml,
    scratch_folder,
    staged,
    staged_folder,
    system_error,
    write_json,
    write_text,
    writing,
)

# --- Reading ----------------------------------------------------------------------------------------------------------


def test_valid_json_and_yaml_is_read():
    content = {"a": [1, -2.5, 1e-6, True, None, "Raciocínio 🦙 \\ud8"], "b": {}}
    assert parse_json(json.dumps(content)) == parse_json(json.dumps(content, ensure_ascii=False)) == content
    text = "base: &base {x: 1}\na: {<<: *base, x: 2}\ndate: 2026-11-27\nbig: 1_000\n? b\n: *base\nc: !!str 1\n"
    assert parse_yaml(text) == {
        "base": {"x": 1},
        "a": {"x": 2},
        "date": "2026-11-27",
        "big": 1000,
        "b": {"x": 1},
        "c": "1",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is not valid JSON"),
        ('{"a": -Infinity}', "-Infinity is not valid JSON"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        ("[1e999]", "the number 1e999 is too large"),
        ("9" * 5000, "digits"),
        ("[" * 100_000, "nested too deeply"),
        (r'["\ud83e alone"]', r"\\ud83e, which is half of a surrogate pair"),
        (r'{"\uDC00": 1}', r"\\udc00, which is half of a surrogate pair"),
    ],
)
def test_json_that_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "expected the node content"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice"),
        ("a: {b: 1, b: 2}", "the key 'b' is given twice"),
        ("on: 1", "the key True is not text; put it in quotes"),
        ("[a, b]: 1", "the key"),
        ("9" * 5000, "digits"),
        ("[" * 1200, "nested too deeply"),
        ("&a [*a]", "a value contains itself"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: !!timestamp 2026-11-27", "could not determine a constructor"),
        ("a: !!binary aGk=", "could not determine a constructor"),
        ("a: !!set {b, c}", "could not determine a constructor"),
        ("a: !!omap [b: 1]", "could not determine a constructor"),
        ("a: !!pairs [b: 1]", "could not determine a constructor"),
        ("a: !mine 1", "could not determine a constructor"),
        ("a: !!bool maybe", "does not fit its tag"),
        ("a: !!int ''", "does not fit its tag"),
        ("a: !!map [b]", "expected a mapping node"),
        ("a: !!map bc", "expected a mapping node"),
        ("a: \x00", "special characters"),
        ("- 1\n---\n- 2", "single document"),
        ("a" * (files.MAX_YAML_BYTES + 1), "longer than 1,048,576 bytes"),
    ],
)
def test_yaml_that_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


def test_yaml_aliases_cannot_grow_exponentially():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ValueError, match="more than 100,000 values"):
        parse_yaml("\n".join(lines))


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_files_that_cannot_be_read(read, tmp_path, monkeypatch):
    path = tmp_path / "a"
    os.mkfifo(path)
    for wrong in (path, tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="is not a regular file"):
            read(wrong)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")
    (tmp_path / "b").write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="utf-8"):
        read(tmp_path / "b")
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 4)
    monkeypatch.setattr(files, "MAX_YAML_BYTES", 4)
    (tmp_path / "b").write_text("[12]")
    assert read(tmp_path / "b") == [12]
    (tmp_path / "b").write_text("[123]")
    with pytest.raises(ValueError, match="longer than 4 bytes"):
        read(tmp_path / "b")


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "folder" / "text.txt"
    write_text(file, "one\r\ntwo\n")
    with pytest.raises(KeyboardInterrupt), staged(file) as staging:
        staging.write_text("half of")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"one\r\ntwo\n"
    assert list(file.parent.iterdir()) == [file]


def test_two_writers_of_one_file_do_not_conflict(tmp_path):
    with staged(tmp_path / "a") as first, staged(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"  # its block ended last
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_fails_leaves_the_old_files_and_nothing_else(tmp_path):
    (tmp_path / "kept").write_text("old")
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path) as staging:
        (staging / "kept").write_text("new")
        raise KeyboardInterrupt
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_last_file_of_a_folder_is_moved_after_the_others(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr("os.replace", lambda source, target: moved.append(target.name))
    with staged_folder(tmp_path, last="a") as staging:
        for name in "cab":
            (staging / name).touch()
    assert moved == ["b", "c", "a"]


def test_the_first_complete_folder_is_kept_and_an_incomplete_one_is_replaced(tmp_path):
    folder = tmp_path / "made"

    def is_complete() -> bool:
        return (folder / "last").exists()

    folder.mkdir()
    with new_folder(folder, is_complete) as staging:
        (staging / "last").write_text("first")
    with new_folder(folder, is_complete) as staging:
        (staging / "last").write_text("second")
    assert (folder / "last").read_text() == "first"
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "other", is_complete):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [folder]


def test_many_threads_can_make_the_same_folder(tmp_path):
    folder, found, start = tmp_path / "made", [], threading.Barrier(8)

    def is_complete() -> bool:
        return (folder / "a").exists() and (folder / "b").exists()

    def make(number: int) -> None:
        start.wait()
        for _ in range(10):
            with new_folder(folder, is_complete) as staging:
                (staging / "a").write_text(str(number))
                (staging / "b").write_text(str(number))
            found.append((folder / "a").read_text() == (folder / "b").read_text())

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80 and list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_process_left_behind_is_deleted(tmp_path):
    if (child := os.fork()) == 0:
        with scratch_folder(tmp_path, "name") as scratch:
            (scratch / "half").write_text("of it")
            os._exit(0)  # as if killed: no cleanup code runs
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path, "name") as first, scratch_folder(tmp_path, "name") as second:
        assert not left.exists()
        assert first.is_dir() and second.is_dir()  # their processes are alive
    assert not list(tmp_path.iterdir())


def test_folders_of_other_machines_stay(tmp_path, monkeypatch):
    """On a network file system, a lock may only be visible on the machine that holds it."""
    monkeypatch.setattr("platform.node", lambda: "one")
    with scratch_folder(tmp_path, "name") as first:
        monkeypatch.setattr(files, "locked", lambda *_, **__: nullcontext(True))  # as if no other process held it
        monkeypatch.setattr("platform.node", lambda: "another")
        with scratch_folder(tmp_path, "name"):
            assert first.is_dir()
        monkeypatch.setattr("platform.node", lambda: "one")
        with scratch_folder(tmp_path, "name"):
            assert not first.is_dir()


def test_json_is_written_indented_and_in_utf8(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Raciocínio"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "Raciocínio"\n}\n'
    assert json.loads((tmp_path / "a.json").read_bytes())


@pytest.fixture
def small_files():
    """Limits files to 64 kB; like a full disk, each library reports this in its own way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(2**20)),
        lambda path: save_file({"a": torch.zeros(2**20)}, path),
        lambda path: torch.save(torch.zeros(2**20), path),
        lambda path: np.save(path, np.zeros(2**20)),
    ],
    ids=["python", "safetensors", "torch", "numpy"],
)
def test_a_failed_write_is_one_line_whichever_library_writes(tmp_path, small_files, write):
    message = r"file\.npy cannot be written: .*; free some space"
    with pytest.raises(AxionError, match=message) as caught, writing(tmp_path / "file.npy", "free some space"):
        write(tmp_path / "file.npy")
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_recognised(tmp_path, monkeypatch):
    assert system_error(OSError(28, "No space left on device")) == "No space left on device"
    assert system_error(Exception("No space left on device (os error 28)")) == "No space left on device"  # tokenizers
    assert system_error(ValueError("of another kind")) is None
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=0))
    unknown = OSError("1048576 requested and 0 written")  # numpy
    assert system_error(unknown, tmp_path / "not" / "made") == "No space left on device" and asked == [tmp_path]
    assert system_error(unknown) == "1048576 requested and 0 written; the disk may be full"
    with pytest.raises(ValueError, match="a mistake"), writing("file"):
        raise ValueError("a mistake")
