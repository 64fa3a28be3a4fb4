"""Rules for all files: local paths and secrets."""

import pytest
import torch

from publish.check import text as rules
from publish.check.folder import Folder
from tests.publish.check.spoil import add, fields, front, picture_says, weights
from tests.publish.check.test_secrets import drawn

SLASH = "/"

BROKEN = [
    (
        rules.no_local_path,
        add("README.md", f"{SLASH}home/me/model\n"),
        r"README\.md contains a path of this machine \(/home/m…",
    ),
    (
        rules.no_local_path,
        add("metrics.csv", f"{SLASH}root/.cache\n"),
        r"metrics\.csv contains a path .*\(line 5\): remove it",
    ),
    (rules.no_local_path, fields("trace.json", name="C:\\Users\\me"), "trace.json contains a path of this machine"),
    (rules.no_local_path, add("recipe.yaml", "a: C:\\data\n"), "recipe.yaml contains a path"),
    (rules.no_local_path, add("recipe.yaml", f"a: file:{SLASH * 3}etc\n"), "recipe.yaml contains a path"),
    (rules.no_local_path, picture_says(f"{SLASH}Users/me/a.py"), "training.png contains a path of this machine"),
    (
        rules.no_local_path,
        weights(lambda tensors: None, {"format": "pt", "by": f"{SLASH}home/me"}),
        "model.safetensors contains a path of this machine",
    ),
    (
        rules.no_secret,
        add("README.md", f"hf_{drawn(34)}\n"),
        r"README\.md contains a Hugging Face token \(line \d+\): remove",
    ),
    (rules.no_secret, fields("trace.json", key=f"hf_{drawn(34)}"), "trace.json contains a Hugging Face token"),
    (rules.no_secret, picture_says(f"hf_{drawn(34)}"), "training.png contains a Hugging Face token: remove"),
    (
        rules.no_secret,
        weights(lambda tensors: None, {"format": "pt", "by": f"hf_{drawn(34)}"}),
        "model.safetensors contains a Hugging Face token",
    ),
    (rules.no_secret, front("license", f"hf_{drawn(34)}"), "has the license '…'", "contains a Hugging Face token"),
]


@pytest.mark.parametrize(("rule", "change", "messages"), [(rule, change, words) for rule, change, *words in BROKEN])
def test_each_rule_alone_reports_its_problem(check_rule, rule, change, messages):
    check_rule(rule, change, messages)


def test_weights_may_look_like_a_path(spoilt):
    """Four bytes that begin like one are among some million weights by chance."""

    def write(tensors):
        norm = tensors["model.norm.weight"]
        norm.copy_(torch.frombuffer(bytearray(b"F:\\a" * len(norm)), dtype=torch.float32))

    folder = Folder(spoilt(weights(write, {"format": "pt"})))
    assert b"F:\\a" in (folder.path / "model.safetensors").read_bytes()
    assert list(rules.no_local_path(folder)) == []
