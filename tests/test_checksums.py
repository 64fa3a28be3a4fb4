"""Data files are identified by name and content, and the checksum of a large one is computed once."""

import hashlib
import os

import pytest

from axion import checksums
from axion.checksums import identify, remembered_sha256
from axion.data.sources import Gsm8k
from axion.recipe import load_recipe

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of the empty message


def test_local_files_are_identified_by_name_and_content(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_bytes(b"")
    assert identify([str(file)]) == [{"name": "some.jsonl", "sha256": EMPTY_SHA256}]


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large and as settled, and the list of the files that were read."""
    read = []

    def counted(path):
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(checksums, "sha256", counted)
    monkeypatch.setattr(checksums, "REMEMBERED_BYTES", 4)
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "some.txt"
    file.write_text("first", encoding="utf-8")
    return file, read


def test_the_checksum_of_an_unchanged_file_is_remembered(large, monkeypatch):
    file, read = large
    first = remembered_sha256(file)
    assert first == remembered_sha256(file) == hashlib.sha256(b"first").hexdigest() and len(read) == 1
    before = file.stat()
    file.write_text("other", encoding="utf-8")  # of the same length, and its time is set back
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert remembered_sha256(file) == hashlib.sha256(b"other").hexdigest() and len(read) == 2
    (entry,) = (file.parent / "cache").rglob("*.json")
    entry.write_text("[]", encoding="utf-8")  # a damaged entry
    assert remembered_sha256(file) != first and len(read) == 3
    monkeypatch.setattr(checksums, "REMEMBERED_BYTES", 6)
    remembered_sha256(file)
    assert len(read) == 4


def test_a_file_that_may_still_change_is_not_remembered(large, monkeypatch):
    file, read = large
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", 60)
    remembered_sha256(file)
    remembered_sha256(file)
    assert len(read) == 2 and not (file.parent / "cache").exists()


def test_a_checksum_needs_no_cache_folder(large, monkeypatch):
    file, _ = large
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert remembered_sha256(file) == hashlib.sha256(b"first").hexdigest()


def test_a_large_data_file_is_read_once_for_its_checksum(large):
    file, read = large
    recipe = load_recipe("axion1-v0.1", [f"data.sources.gsm8k.files={file}"])  # may be a known copy of GSM8K
    data = recipe.data
    assert data.hub_ids == [] and data.has_local_text and data.find(Gsm8k).data_name == "some.txt"
    recorded = load_recipe("axion1-v0.1").data.model_validate(data.released())
    assert data.identity() and recipe.to_yaml() and recorded.with_local_copies(data).other_files() == []
    assert read == [file]
