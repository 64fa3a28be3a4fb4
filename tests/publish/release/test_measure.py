"""A run is measured once; the data it was measured on is recorded by content, never by path."""

import json
import shutil
from copy import deepcopy

import numpy as np
import pytest

from axion.data.prepare import ValidationDocument
from axion.evaluation import evaluate as evaluation
from axion.evaluation.subject import Subject
from axion.files import sha256
from axion.recipe import load_recipe
from axion.release import open_release
from axion.tokenizer import encode_documents
from publish.manifest import HELD_OUT, read_manifest
from publish.release import build, fingerprint
from publish.release.measure import SAMPLE_PROMPTS, measure, measure_missing, missing_held_out
from tests.publish.publications import REPO_ID


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture
def local(tmp_path):
    """Overrides that name local data files."""
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / "private" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "private" / name).write_text(f'{{"of": "{name}"}}\n')
    return [f"data.files={tmp_path}/private/train.jsonl", f"data.test_files={tmp_path}/private/test.jsonl"]


@pytest.fixture
def evaluations(monkeypatch, measured):
    calls = []
    monkeypatch.setattr(evaluation, "evaluate", lambda *a, **k: calls.append(a) or measured["results"])
    monkeypatch.setattr(evaluation.Subject, "load_documents", lambda *_, **__: {})
    monkeypatch.setattr(evaluation.Subject, "validation", [])
    return calls


def test_the_date_and_the_data_are_recorded_by_content(run, recipe_file, local, evaluations, tmp_path):
    content = measure(run, load_recipe(recipe_file, local), [].append)
    assert content == json.loads((run / "evaluation.json").read_text())
    for key, name in (("files", "train.jsonl"), ("test_files", "test.jsonl")):
        assert content[key] == [{"name": name, "sha256": sha256(tmp_path / "private" / name)}]
    assert "private" not in (run / "evaluation.json").read_text()
    assert len(content["date"].split("-")) == 3


def test_different_data_is_measured_again_but_not_the_same_data_elsewhere(
    run, recipe_file, local, evaluations, tmp_path
):
    measure(run, load_recipe(recipe_file, local), [].append)
    shutil.copytree(tmp_path / "private", tmp_path / "elsewhere")
    measure(run, load_recipe(recipe_file, [each.replace("private", "elsewhere") for each in local]), [].append)
    assert len(evaluations) == 1
    (tmp_path / "private" / "test.jsonl").write_text("{}\n")
    measure(run, load_recipe(recipe_file, local), [].append)
    assert len(evaluations) == 2


def test_skipped_tasks_are_tried_again_and_the_rest_is_kept(run, recipe_file, measured, monkeypatch):
    seen, said = [], []
    answers = {"gsm8k_test": {"skipped": "no network"}}

    def evaluate(release, data, known, **_):
        seen.append(set(known))
        return deepcopy(
            {task: known.get(task) or answers.get(task) or measured["results"][task] for task in measured["results"]}
        )

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    monkeypatch.setattr(evaluation.Subject, "load_documents", lambda *_, **__: {})
    monkeypatch.setattr(evaluation.Subject, "validation", [])
    first = measure(run, load_recipe(recipe_file), said.append)
    before = (run / "evaluation.json").stat().st_mtime_ns
    answers["gsm8k_test"] = {"skipped": "another reason"}
    measured["results"]["speed"]["new_tokens"] = 7  # would change if it were measured again
    assert measure(run, load_recipe(recipe_file), said.append) == first
    assert (run / "evaluation.json").stat().st_mtime_ns == before
    assert said == ["5 tasks, not measured: gsm8k_test", "skipped: already measured, not measured: gsm8k_test"]
    del answers["gsm8k_test"]
    third = measure(run, load_recipe(recipe_file), said.append)
    assert measure(run, load_recipe(recipe_file), said.append) == third and said[-1] == "skipped: already measured"
    assert third["results"] == first["results"] | {"gsm8k_test": measured["results"]["gsm8k_test"]}
    assert seen == [set(), set(first["results"]) - {"gsm8k_test"}, set(first["results"]) - {"gsm8k_test"}]


def test_different_sample_prompts_give_different_samples(run, recipe_file, local, evaluations, monkeypatch):
    for prompts in (SAMPLE_PROMPTS, ("1 + 1 =",)):
        monkeypatch.setattr("publish.release.measure.SAMPLE_PROMPTS", prompts)
        content = measure(run, load_recipe(recipe_file, local), [].append)
        assert [sample["prompt"] for sample in content["samples"]] == list(prompts)


def test_the_load_is_measured_again_once_the_documents_are_available(run, recipe_file, measured, monkeypatch):
    monkeypatch.setattr(evaluation.Subject, "load_documents", lambda *_, **__: {})
    monkeypatch.setattr(evaluation.Subject, "validation", [])
    results = measured["results"] | {"validation": {"skipped": "no network"}}
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, known, **__: seen.append(known) or results)
    seen = []
    for _ in "12":
        measure(run, load_recipe(recipe_file), [].append)
    assert set(seen[1]) == {"arithmetic", "arithmetic_reasoning", "gsm8k_test", "speed"}


def test_only_missing_results_are_measured_for_an_existing_release(release, measured, monkeypatch):
    seen = []

    def evaluate(release, data, known, **_):
        seen.append(set(known))
        return known | {"arithmetic_reasoning": {"scores": []}, "gsm8k_test": {"skipped": "no network"}}

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    info = read_manifest(release)
    for task in ("arithmetic_reasoning", "gsm8k_test"):
        del info["results"][task]
    monkeypatch.setattr("publish.release.measure.read_manifest", lambda folder: deepcopy(info))
    changes = measure_missing(release)
    assert seen == [{"validation", "arithmetic", "expert_load", "speed"}]
    assert changes["results"] == info["results"] | {"arithmetic_reasoning": {"scores": []}}
    assert changes["measured"].items() > info["measured"].items()
    assert list(changes["measured"]["later"]) == ["arithmetic_reasoning"]
    assert [sample["prompt"] for sample in changes["samples"]] == list(SAMPLE_PROMPTS)
    assert all(isinstance(sample["output"], str) for sample in changes["samples"])


def test_changes_of_unrelated_code_do_not_matter(run, recipe_file, local, evaluations, tmp_path, monkeypatch):
    root = tmp_path / "code"
    for package in ("axion", "publish"):
        shutil.copytree(fingerprint.ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", root)
    measure(run, load_recipe(recipe_file, local), [].append)
    (root / "publish/release/card.py").write_text("# another card\n")
    (root / "axion/cli/__init__.py").write_text("# another command line\n")
    measure(run, load_recipe(recipe_file, local), [].append)
    assert len(evaluations) == 1
    for count, file in enumerate(("axion/kernels/csrc/decoding/decoder.cpp", "axion/evaluation/speed.py"), start=2):
        assert (root / file).is_file()
        (root / file).write_text("// another clock\n" if file.endswith("cpp") else "# another clock\n")
        measure(run, load_recipe(recipe_file, local), [].append)
        assert len(evaluations) == count


def test_a_release_gets_the_held_out_documents_that_it_lacks(finished_run, measured, monkeypatch, tmp_path):
    release = tmp_path / "release"
    build.build_release(build.Ingredients(finished_run, measured | {"held_out": []}, REPO_ID), release)
    opened, sums = (
        open_release(release),
        [f"# Pergunta:\nQuanto é {n} + 1?\n--\n# Resposta:\n{n + 1}" for n in range(50)],
    )
    ids = [np.asarray(each) for each in encode_documents(opened.tokenizer, sums)]
    documents = [ValidationDocument(each, each, 9, "gsm8k") for each in ids]
    monkeypatch.setattr(Subject, "validation", documents[1:])
    assert missing_held_out(release) == []  # not those over which its loss was measured
    monkeypatch.setattr(Subject, "validation", documents)
    texts = missing_held_out(release)
    assert [each["text"] for each in texts] == sums
    assert not (release / HELD_OUT).exists()
    build.refresh(release, REPO_ID, tmp_path / "copy", held_out=texts)
    info = read_manifest(tmp_path / "copy")
    assert info["held_out"] == 50 and HELD_OUT in info["files"]
    assert "has 50 of the held-out documents" in (tmp_path / "copy" / "README.md").read_text()
    assert missing_held_out(tmp_path / "copy") == []
    build.refresh(tmp_path / "copy", REPO_ID, tmp_path / "again")
    assert read_manifest(tmp_path / "again")["held_out"] == 50
