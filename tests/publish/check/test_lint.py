"""All rules together: a good release passes, and no folder makes the checks crash."""

import os
import shutil
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from axion.errors import AxionError
from axion.release import RELEASES
from publish.check import files
from publish.check.lint import RULES, Problem, check_folder, lint, scan_text_files
from publish.manifest import REMOTE_CODE, REQUIRED_FILES
from tests.publish.check import test_card, test_code, test_config, test_files, test_text
from tests.publish.check.spoil import put

BUNDLED = RELEASES / "axion1-v0.1"
RESULT_FILE = ".eval_results/gsm8k.yaml"


def test_every_rule_has_a_case():
    modules = (test_files, test_code, test_config, test_card, test_text)
    assert {rule for module in modules for rule, *_ in module.BROKEN} | {files.listed_files} == set(RULES)
    assert len(set(RULES)) == len(RULES) and all(rule.__doc__ for rule in RULES)


def test_a_good_release_passes(release):
    assert lint(release) == []
    assert check_folder(release) == f"{len(RULES)} rules, no problems"


@pytest.mark.skipif(not BUNDLED.is_dir(), reason="releases/axion1-v0.1 is not built")
def test_the_bundled_release_passes():
    assert [str(problem) for problem in lint(BUNDLED)] == []


def test_the_first_problem_is_named_and_the_others_are_counted(spoilt):
    folder = spoilt(put("a.txt", "x"))
    with pytest.raises(AxionError, match=r"^a\.txt does not belong in the release: remove it$"):
        check_folder(folder)
    (folder / "trace.json").unlink()
    with pytest.raises(AxionError, match=r"^trace\.json is missing .* \(and 2 more; "):
        check_folder(folder)


JUNK = [
    b"",
    b"\0" * 4096,
    b"\xff" * 999,
    bytes(range(256)) * 9,
    b"[" * 3_000,
    b"{" * 3_000,
    b'{"a":' * 9_999,
    b"(" * 9_999 + b"\n",
    b"-" * 50_000 + b"1",
    b"x" + b".x" * 20_000,
    b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 120)),
    b"---\na: &a [*a]\n---\n",
    b"---\nlanguage: [[1]]\ntags: {a: b}\nlicense: [mit]\ndatasets: {}\nmodel-index: {a: 1}\nbase_model: [~, 3]\n---\n",
    b"---\n" + b"k: v\n" * 2_000,
    b"```python\n" * 999,
    b"{{" * 1_500,
    b"](" * 9_999,
    b"<!-- axion:start a -->\n" * 999,
    b'{"auto_map": {"AutoConfig": 3, "AutoModelForCausalLM": ["a", null]}, "architectures": {}, "eos_token_id": {}}',
    b'{"auto_map": {"AutoConfig": "..a.B", "AutoModelForCausalLM": "../../a.B"}, "files": {"../../a": 1}, "model": 3}',
    b'{"files": {"a": null}, "model": {"vocab": {"a": []}}, "added_tokens": [3, {"content": []}], "pad_token": {}}',
    b'{"a": ' + b"9" * 9_999 + b"}",
    '{"a": "\\ud800", "license": "\u2028"}'.encode(),
    b"class A(B[0], metaclass=C()): x: int; _tied_weights_keys = f()\nfrom . import *\nimport a.b as c\n",
    struct.pack("<Q", 2**63) + b"{}",
    b'\x40\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[9999999999999],"data_offsets":[0,4]}}    ',
    b"PK\x03\x04" + b"\xff" * 99,
]


@pytest.mark.parametrize("number", range(len(JUNK)))
def test_junk_in_any_file_does_not_crash_the_checks(tmp_path, number):
    for name in (*REQUIRED_FILES, *REMOTE_CODE, RESULT_FILE):
        put(name, JUNK[number])(tmp_path)
    found = lint(tmp_path)
    assert found and all(str(problem).encode() for problem in found)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bad_file_among_good_ones_does_not_crash_the_checks(release, tmp_path_factory, data):
    folder = shutil.copytree(release, tmp_path_factory.mktemp("bad") / "release")
    name = data.draw(st.sampled_from((*REQUIRED_FILES, *REMOTE_CODE)))
    content = (folder / name).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    (folder / name).write_bytes(content[:start] + data.draw(st.binary(max_size=99)) + content[end:])
    for problem in lint(folder):
        assert isinstance(problem, Problem) and "\n" not in str(problem)
    shutil.rmtree(folder)


def test_links_pipes_and_odd_names_do_not_crash_the_checks(tmp_path):
    assert len(lint(tmp_path)) >= len(REQUIRED_FILES)  # the folder does not exist
    for name in REQUIRED_FILES:
        (tmp_path / name).mkdir()
    assert {problem.what for problem in lint(tmp_path)} == {"is missing from the release"}
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a\nb\r\x1b[31m").write_text("x")
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_text("x")
    found = [str(problem) for problem in lint(tmp_path)]
    for name in ("loop", "dangling", "pipe"):
        assert f"{name} is not a readable regular file: replace it with the file itself" in found
    assert not any("\n" in line or "\x1b" in line for line in found)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_path_that_is_not_a_folder_is_reported_in_one_line(tmp_path, name):
    (tmp_path / "file").write_text("x")
    for call in (lint, check_folder, scan_text_files):
        with pytest.raises(AxionError, match="is not a folder"):
            call(tmp_path / name)
