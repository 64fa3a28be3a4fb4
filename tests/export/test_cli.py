"""The command `export`: its files, its output, and what it refuses to replace."""

import json

import pytest
from gguf import GGUFReader
from transformers import AutoModelForCausalLM

from axion.cli import app, run
from axion.errors import AxionError
from axion.export import deliver, export_name
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
