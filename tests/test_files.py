import json

import pytest

from axion.files import identify, parse_json, sha256, staged, staged_folder, write_json, write_text

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4's empty message


def test_local_files_are_known_by_name_and_content(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_bytes(b"")
    assert sha256(file) == EMPTY_SHA256
    assert identify([str(file)]) == [{"name": "some.jsonl", "sha256": EMPTY_SHA256}]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "folder" / "text.txt"
    write_text(file, "one\r\ntwo\n")
    with pytest.raises(KeyboardInterrupt), staged(file) as staging:
        staging.write_text("half of")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"one\r\ntwo\n"
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_fails_leaves_the_old_files_and_nothing_else(tmp_path):
    (tmp_path / "kept").write_text("old")
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path) as staging:
        (staging / "kept").write_text("new")
        raise KeyboardInterrupt
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_last_file_of_a_folder_comes_after_the_others(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr("os.replace", lambda source, target: moved.append(target.name))
    with staged_folder(tmp_path, last="a") as staging:
        for name in "cab":
            (staging / name).touch()
    assert moved == ["b", "c", "a"]


@pytest.mark.parametrize("text", ["NaN", '{"a": -Infinity}', "{"])
def test_json_is_read_as_strictly_as_a_browser_reads_it(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_is_written_as_text_that_people_can_read(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Raciocínio"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "Raciocínio"\n}\n'
    assert json.loads((tmp_path / "a.json").read_bytes())
