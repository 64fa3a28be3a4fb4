"""The command `export`: its files, its output, and what it refuses to replace."""

import json
import os
import re
import shutil

import pytest
from gguf import GGUFReader
from transformers import AutoModelForCausalLM

from axion.cli import app, run
from axion.errors import AxionError
from axion.export import deliver, export_name
from axion.export.gguf import metadata
from axion.release import Release


@pytest.fixture
def export(tiny_release, tmp_path, monkeypatch, capsys):
    """Runs the command on the tiny release in an empty working directory: exit code, standard output, error lines."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, release=tiny_release):
        code = run(app, ["export", str(release), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if line.startswith("error: ")]

    return call


def test_native(export, tmp_path):
    code, out, _ = export("--to", "native")
    folder = tmp_path / "exports" / "axion-tiny-native"
    assert code == 0 and f"{folder.relative_to(tmp_path)}/model.safetensors" in out
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "deepseek_v3"
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(("options", "dtype"), [((), "f32"), (("--dtype", "q8_0"), "q8_0")])
def test_gguf(options, dtype, export, tmp_path):
    code, out, _ = export("--to", "gguf", "--json", *options)
    name = f"exports/axion-tiny-gguf/axion-tiny-{dtype}.gguf"
    expected = {"release": "axion-tiny", "to": "gguf", "files": {name: (tmp_path / name).stat().st_size}}
    assert code == 0 and json.loads(out) == expected
    assert GGUFReader(tmp_path / name).tensors


def test_an_export_replaces_an_earlier_one(export, tmp_path):
    for _ in range(2):
        assert export("--to", "native", "--out", "here")[0] == 0
        assert export("--to", "gguf", "--out", "there")[0] == 0
    assert export("--to", "gguf", "--dtype", "f16", "--out", "there")[0] == 0
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [
        "axion-tiny-f16.gguf",
        "axion-tiny-f32.gguf",
        "export.json",
    ]


@pytest.mark.parametrize("to", ["native", "gguf"])
def test_it_never_replaces_other_files(to, export, tmp_path):
    assert export("--to", to, "--out", "out")[0] == 0
    name = "model.safetensors" if to == "native" else "axion-tiny-f32.gguf"
    mine = tmp_path / "out" / name
    mine.write_bytes(b"trained for a week")
    code, out, errors = export("--to", to, "--out", "out")
    assert (code, out) == (2, "") and f"{name} exists and is not an unchanged file" in errors[0]
    assert mine.read_bytes() == b"trained for a week"

    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / name).write_bytes(b"somebody's")
    assert export("--to", to, "--out", "foreign")[0] == 2
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == [name]


def test_it_never_replaces_the_export_of_another_model(tiny_release, tmp_path):
    def write(folder):
        (folder / "model.safetensors").touch()

    for name in ("alice/model", "alice/model"):
        deliver(Release(name, tiny_release), write, tmp_path / "out")
    with pytest.raises(AxionError, match=r"model\.safetensors was exported from alice/model; move it away"):
        deliver(Release("bob/model", tiny_release), write, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--to", "onnx"), "'onnx' is not one of 'native', 'gguf'"),
        (("--to", "gguf", "--dtype", "q4"), "'q4' is not one of 'f32', 'f16', 'q8_0'"),
        (("--to", "native", "--dtype", "f16"), "--dtype goes with --to gguf"),
        ((), "Missing option '--to'"),
    ],
)
def test_mistakes_are_one_line(arguments, line, export, tmp_path):
    code, out, errors = export(*arguments)
    assert (code, out) == (2, "") and line in errors[0]
    assert not (tmp_path / "exports").exists()


def test_a_model_that_cannot_be_expressed_leaves_nothing(export, make_release, tmp_path):
    release = make_release(attention_bias=True)
    code, _, errors = export("--to", "gguf", "--out", "out", release=release.folder)
    assert code == 2 and "attention_bias is True" in errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("reference", "name"),
    [("axion1-v0.1", "axion1-v0.1"), ("someone/Axion1-350k-A250k@v0.1", "Axion1-350k-A250k")],
)
def test_the_name_of_the_files(reference, name, tiny_release):
    assert export_name(Release(reference, tiny_release)) == name


@pytest.fixture
def described(tiny_release, tmp_path):
    """The tiny release with a release.json."""

    def make(info):
        folder = shutil.copytree(tiny_release, tmp_path / "described", dirs_exist_ok=True)
        (folder / "release.json").write_text(json.dumps(info))
        return Release("someone/model", folder)

    return make


@pytest.mark.parametrize("name", ["../../x", "/x", "a/b", "", ".", 3, ["a"], "a\n"])
def test_a_name_that_leaves_the_folder_is_refused(name, described, export, tmp_path):
    with pytest.raises(AxionError, match=r"someone/model: release\.json is broken: its name is "):
        export_name(described({"name": name}))


INFO = {"repo_id": "a/b", "title": "A", "version": "1", "tag": "v1", "license": "mit", "languages": ["en"]}


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        *(({name: None}, f"its {name} is None; it must be ") for name in INFO),
        ({"languages": ["en", 3]}, "its languages is ['en', 3]; it must be a list of texts"),
        ({"title": []}, "its title is []; it must be text"),
        ({"dataset": 3}, "its dataset is 3; it must be text"),
    ],
)
def test_a_release_json_of_another_form_is_one_line(wrong, line, described):
    with pytest.raises(AxionError, match=re.escape(line)):
        metadata(described(INFO | wrong), None)
    with pytest.raises(AxionError, match="its title is missing"):
        metadata(described({"name": "a"}), "a/b")
    assert metadata(described(INFO | {"repo_id": None}), "c/d").organization is None


@pytest.mark.parametrize("last", ["a", "b", "export.json"])
def test_the_next_export_replaces_the_files_of_one_that_was_killed(last, tiny_release, tmp_path, monkeypatch):
    def write(content, *names):
        return lambda folder: [(folder / name).write_text(content) for name in names]

    def killed(source, target):
        replace(source, target)
        if target.name == last and (last != "export.json" or (tmp_path / "out" / "a").read_text() == content):
            raise KeyboardInterrupt

    release, replace, content = Release("alice/model", tiny_release), os.replace, ""
    deliver(release, write("first", "a", "b"), tmp_path / "out")
    monkeypatch.setattr("os.replace", killed)
    for content in ("second", "third"):
        with pytest.raises(KeyboardInterrupt):
            deliver(release, write(content, "a", "b", "c"), tmp_path / "out")
    monkeypatch.setattr("os.replace", replace)
    deliver(release, write("other", "d"), tmp_path / "out")
    written = deliver(release, write("last", "a", "b", "c"), tmp_path / "out")
    assert [path.read_text() for path in written] == ["last"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "out" / "a").write_text("trained for a week")
    with pytest.raises(AxionError, match="a exists and is not an unchanged file"):
        deliver(release, write("more", "a"), tmp_path / "out")
