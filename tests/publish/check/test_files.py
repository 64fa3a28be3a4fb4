"""Rules for the folder as a whole: names, file types, manifest and weights."""

import json
import pickle
import shutil
import struct

import pytest
import torch
from safetensors.torch import save_file

from publish.check import files as rules
from publish.check.folder import Folder
from tests.publish.check.spoil import BOMB, broken, fields, gone, link, put, twins, weights, zipped

PICKLE = "{} is a pickle, which can run code when opened: save it as safetensors"

BROKEN = [
    (rules.allowed_names, gone("trace.json"), "trace.json is missing from the release: build the release again"),
    (rules.allowed_names, put("notes.txt", "x"), "notes.txt does not belong in the release: remove it"),
    (rules.allowed_names, put(".env", "x"), r"\.env does not belong in the release"),
    (rules.allowed_names, put("model.gguf", "GGUF"), r"model\.gguf does not belong in the release"),
    (rules.allowed_names, put("__pycache__/a.pyc", "x"), "__pycache__/ does not belong in the release: remove it"),
    (rules.plain_files, link("metrics.csv"), "metrics.csv is missing", "metrics.csv is not a readable regular file"),
    (rules.readable, put("trace.json", '{"steps": [1,\n2'), r"trace\.json is not valid JSON \(line 2\)"),
    (rules.readable, put("trace.json", '{"p": NaN}'), "trace.json is not valid JSON"),
    (rules.readable, put("trace.json", "[]"), "trace.json is not a non-empty JSON object"),
    (rules.readable, put("tokenizer.py", "def"), r"tokenizer\.py is not valid Python \(line 1\)"),
    (rules.readable, put("recipe.yaml", "a: [1,\nb: {"), r"recipe\.yaml is not valid YAML \(line 2\)"),
    (
        rules.readable,
        put("recipe.yaml", "a: 1\na: 2"),
        "is not valid YAML: the key 'a' is given twice: build",
    ),
    (rules.readable, put("recipe.yaml", BOMB), "recipe.yaml is not valid YAML: it has more than 100,000 values: build"),
    (rules.readable, put("metrics.csv", b"step\n\xff\xfe"), r"metrics\.csv is not valid UTF-8 text"),
    (rules.readable, put("training.png", b"GIF89a"), "training.png is not a PNG image"),
    (rules.no_pickle, put("metrics.csv", pickle.dumps([1])), PICKLE.format("metrics.csv"), "not valid UTF-8"),
    (rules.no_pickle, put("model.bin", "x"), "model.bin does not belong", PICKLE.format("model.bin")),
    (rules.no_pickle, zipped("model.pth", "archive/data.pkl"), "model.pth does not", PICKLE.format("model.pth")),
    (rules.no_pickle, zipped("model.model", "archive/data.pkl"), "not valid UTF-8", PICKLE.format("model.model")),
    (rules.weights_readable, put("model.safetensors", b"\x08" + b"\0" * 99), r"can't be read \("),
    (
        rules.weights_readable,
        weights(lambda tensors: None, {}),
        "model.safetensors has no metadata `format: pt`: save it",
    ),
    (rules.weights_readable, weights(lambda tensors: tensors.clear()), "model.safetensors has no tensors"),
    (rules.weights_stored_once, weights(twins), "stores the same weights twice, as 'lm_head.weight' and 'model.embed"),
    (rules.weights_finite, weights(broken), "has NaN or infinite values in 'model.norm.weight': train again"),
]


@pytest.mark.parametrize(("rule", "change", "messages"), [(rule, change, words) for rule, change, *words in BROKEN])
def test_each_rule_alone_reports_its_problem(check_rule, rule, change, messages):
    check_rule(rule, change, messages)


def test_the_manifest_lists_every_file(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "release")
    with (folder / "metrics.csv").open("a") as file:
        file.write("9,9\n")
    fields("release.json", files={"nowhere.txt": 64 * "0", "metrics.csv": 64 * "0"})(folder)
    found = [str(problem) for problem in rules.listed_files(Folder(folder))]
    assert "metrics.csv does not match its sha256 in release.json: build the release again" in found
    assert "release.json lists 'nowhere.txt', which does not exist: build the release again" in found
    assert "README.md is not listed in release.json: build the release again" in found
    fields("release.json", files=["README.md"])(folder)
    assert "does not list the files" in str(*rules.listed_files(Folder(folder)))


def test_safetensors_whose_header_begins_like_a_pickle_are_accepted(tmp_path):
    size = 640  # 0x0280: the first two bytes are those of a pickle of protocol 2
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode().ljust(size)
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", size) + header)
    assert list(rules.no_pickle(Folder(tmp_path))) == []
    for protocol in range(2, 6):
        (tmp_path / "b.csv").write_bytes(pickle.dumps({"a": [1]}, protocol))
        assert [problem.file for problem in rules.no_pickle(Folder(tmp_path))] == ["b.csv"]
    for legacy in (True, False):
        torch.save({"a": torch.ones(2)}, tmp_path / "b.csv", _use_new_zipfile_serialization=not legacy)
        assert [problem.file for problem in rules.no_pickle(Folder(tmp_path))] == ["b.csv"]


def test_weights_that_are_equal_by_chance_may_be_stored_twice(tmp_path):
    tensors = {f"{kind}.{i}": torch.full((4, 4), kind) for kind in (0.0, 1.0) for i in range(2)}
    vector = torch.arange(8.0)
    save_file(tensors | {"a": vector.clone(), "b": vector.clone()}, tmp_path / "model.safetensors")
    assert list(rules.weights_stored_once(Folder(tmp_path))) == []


def test_weights_of_every_type_are_read(tmp_path):
    types = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool, torch.float64]
    tensors = {str(kind): torch.tensor([[0, 1], [1, 1]]).to(kind) for kind in types}
    save_file(tensors | {"scalar": torch.tensor(1.0), "none": torch.zeros(0, 3)}, tmp_path / "model.safetensors")
    assert list(rules.weights_stored_once(Folder(tmp_path))) == list(rules.weights_finite(Folder(tmp_path))) == []
