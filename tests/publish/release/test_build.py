"""A release folder is complete and consistent, and is not rebuilt if nothing has changed."""

import json
import multiprocessing
import os
import shutil
import signal

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoTokenizer

import axion
from axion.cli import run
from axion.errors import AxionError
from axion.files import sha256
from axion.release import open_release
from axion.training.metrics import EVALUATIONS_FILE, HISTORY_FILE
from publish.cli import app
from publish.manifest import (
    CHAT_TEMPLATE,
    EVAL_RESULTS,
    LICENSE,
    OPTIONAL_FILES,
    REMOTE_CODE,
    REQUIRED_FILES,
    check_names,
    files_in,
    read_manifest,
    remote_code,
    write_manifest,
)
from publish.release import build, facts, fingerprint

REPO_ID = "someone/Axion-tiny"
FILES = {*REQUIRED_FILES, *REMOTE_CODE, *OPTIONAL_FILES} - {CHAT_TEMPLATE, EVALUATIONS_FILE, HISTORY_FILE}


@pytest.fixture
def ingredients(finished_run, measured):
    return build.Ingredients(finished_run, measured, REPO_ID)


def test_the_folder_holds_the_allow_list_and_is_small(release):
    assert set(files_in(release)) == FILES
    assert sum((release / name).stat().st_size for name in files_in(release)) < 2.5e6
    assert {(release / name).stat().st_mode & 0o777 for name in FILES} == {0o644}


def test_release_json_lists_every_other_file(release, info):
    assert set(info["files"]) == FILES - {"release.json"}
    assert all(sha256(release / name) == digest for name, digest in info["files"].items())


def test_the_remote_code_is_copied_unchanged(release):
    for name in REMOTE_CODE:
        assert (release / name).read_bytes() == (build.Path(axion.__file__).parent / "model" / name).read_bytes()
    config = json.loads((release / "config.json").read_text())
    assert config["auto_map"] == build.AUTO_MAP and "--" not in str(config["auto_map"])
    assert config["use_cache"] is True


def test_the_weights_of_the_run_are_stored_once_with_their_format(release, finished_run):
    with safe_open(release / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 (no mapping): tied to the embeddings
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118
    trained, released = open_release(finished_run / "final").model, open_release(release).model
    for (name, ours), (_, theirs) in zip(trained.state_dict().items(), released.state_dict().items(), strict=True):
        assert torch.equal(ours, theirs), name


def test_tokenizer_config_and_generation_config_agree(release):
    tokenizer = AutoTokenizer.from_pretrained(release)
    assert json.loads((release / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    for name in ("config.json", "generation_config.json"):
        content = json.loads((release / name).read_text())
        for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
            assert content[token] == getattr(tokenizer, token) is not None
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.model_max_length == open_release(release).config.max_position_embeddings


def test_the_log_the_recipe_and_the_trace_come_from_the_run(release, finished_run, measured):
    assert (release / "metrics.csv").read_bytes() == (finished_run / "metrics.csv").read_bytes()
    assert (release / "recipe.yaml").read_text() == json.loads((finished_run / "run.json").read_text())["recipe"]
    trace = json.loads((release / "trace.json").read_text())
    assert trace["prompt"].startswith("# Pergunta:\nTom") and trace["favourites"] == measured["favourites"]
    assert [trace["language"], *(each["language"] for each in trace["others"])] == ["en", "pt"]
    assert trace["steps"][0]["prompt"] and not trace["steps"][-1]["prompt"]


def test_the_same_ingredients_give_the_same_bytes(release, ingredients, tmp_path):
    build.build_release(ingredients, tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (release / name).read_bytes(), name
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_facts_come_from_the_run_and_its_evaluation(info, finished_run, measured):
    run = json.loads((finished_run / "run.json").read_text())
    assert info["training"]["date"] == run["date"] and info["exports"] == []
    assert info["measured"] == {key: measured[key] for key in ("date", "files", "test_files")}
    assert [member["version"] for member in info["roadmap"]] == ["0.1", "0.2", "0.3", "0.4", "0.5"]


def test_a_built_release_is_recognised_by_its_ingredients(release, finished_run, ingredients, measured, tmp_path):
    assert build.is_built(release, ingredients)
    assert not build.is_built(tmp_path, ingredients)
    assert not build.is_built(release, build.Ingredients(finished_run, measured, "another/Name"))
    touched = shutil.copytree(release, tmp_path / "touched")
    (touched / "metrics.csv").write_text("edited")
    assert not build.is_built(touched, ingredients)
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert build.is_built(release, build.Ingredients(run, measured, REPO_ID))
    config = json.loads((run / "final/config.json").read_text())
    (run / "final/config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert not build.is_built(release, build.Ingredients(run, measured, REPO_ID))
    measured["results"]["gsm8k_test"]["accuracy"] = 0.5
    assert not build.is_built(release, build.Ingredients(finished_run, measured, REPO_ID))


def test_changes_that_do_not_affect_a_release_do_not_cause_a_rebuild(release, finished_run, measured):
    measured["key"] = {"measure": "another code, the same figures"}
    assert build.is_built(release, build.Ingredients(finished_run, measured, REPO_ID))


def test_a_version_added_to_the_series_causes_a_rebuild(release, ingredients, monkeypatch):
    monkeypatch.setattr(build, "roadmap", lambda family, name: [{"name": "axion1-v0.9"}])
    assert not build.is_built(release, ingredients)


def test_the_code_of_a_module_is_what_it_imports_and_nothing_else():
    def names(module):
        return {path.relative_to(fingerprint.ROOT).as_posix() for path in fingerprint.code_behind(module)}

    building, measuring = names("publish.release.build"), names("axion.evaluation.evaluate")
    assert {
        "publish/release/build.py",
        "publish/release/card.py",
        "axion/params.py",
        "axion/model/modeling_axion.py",
    } <= building
    assert {
        "axion/evaluation/speed.py",
        "axion/inference/stream.py",
        "axion/data/sources/arithmetic.py",
    } <= measuring
    assert not any(name.startswith("publish/") for name in measuring)
    others = {
        "publish/hub/client.py",
        "publish/cli.py",
        "publish/pipeline.py",
        "axion/cli/__init__.py",
        "axion/training/trainer.py",
    }
    assert not others & (building | measuring)


def test_the_fingerprint_of_code_changes_with_any_of_its_files(tmp_path, monkeypatch):
    package = tmp_path / "axion"
    package.mkdir()
    for name, text in {"one": "from axion import two", "two": "import axion.three", "three": "", "four": ""}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    before = fingerprint.code_fingerprint("axion.one")
    (package / "four.py").write_text("x = 1")
    assert fingerprint.code_fingerprint("axion.one") == before
    (package / "three.py").write_text("x = 1")
    assert fingerprint.code_fingerprint("axion.one") != before


def test_a_failed_build_leaves_the_old_release_and_no_temporary_files(release, ingredients, tmp_path, monkeypatch):
    target = shutil.copytree(release, tmp_path / "axion-tiny")
    before = (target / "release.json").read_bytes()
    monkeypatch.setattr(build, "write_legacy_tokenizer", lambda *_: None)
    with pytest.raises(AxionError, match=r"model\.model is missing from the release"):
        build.build_release(ingredients, target)
    assert (target / "release.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["axion-tiny"]


def die_between_the_moves(target):
    """Replace a release, and kill this process after the old folder was moved away."""

    def move_once(source, destination, usual=os.replace):
        build.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        usual(source, destination)

    with build._replacing(target) as folder:
        (folder / "release.json").write_text("new")
        build.os.replace = move_once


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_build_killed_between_its_two_renames_is_repaired_by_the_next(release, ingredients, tmp_path, monkeypatch):
    target = shutil.copytree(release, tmp_path / "axion-tiny")
    process = multiprocessing.get_context("fork").Process(target=die_between_the_moves, args=(target,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL and not target.exists()

    monkeypatch.setattr(build, "_write_files", lambda *_: None)
    with pytest.raises(AxionError, match="missing"):  # the old release is restored even if the next build fails
        build.build_release(ingredients, target)
    assert build.is_built(target, ingredients)
    assert [path.name for path in tmp_path.iterdir()] == ["axion-tiny"]


def test_token_ids_that_disagree_are_refused(finished_run, measured, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    config = json.loads((run / "final/config.json").read_text())
    (run / "final/config.json").write_text(json.dumps(config | {"eos_token_id": 5}))
    with pytest.raises(AxionError, match="eos_token_id is 5 in the model and 2 in the tokenizer"):
        build.build_release(build.Ingredients(run, measured, REPO_ID), tmp_path / "release")


def test_a_release_for_another_repository_differs_only_in_its_card(release, info, tmp_path):
    build.refresh(release, "another/Name", tmp_path / "copy")
    changed = {name for name in FILES if sha256(tmp_path / "copy" / name) != sha256(release / name)}
    assert changed == {
        "README.md",
        "release.json",
        ".eval_results/gsm8k.yaml",
    }  # the result contains a link to the card
    theirs = json.loads((tmp_path / "copy/release.json").read_text())
    assert theirs["repo_id"] == "another/Name" and theirs["files"]["README.md"] != info["files"]["README.md"]
    assert "another/Name" in (tmp_path / "copy/README.md").read_text()


def test_the_card_and_the_manifest_name_the_other_forms(release, tmp_path):
    build.refresh(release, REPO_ID, tmp_path / "copy", ("native", "gguf"))
    assert json.loads((tmp_path / "copy/release.json").read_text())["exports"] == ["native", "gguf"]
    assert "Axion-tiny-GGUF" in (tmp_path / "copy/README.md").read_text()
    build.refresh(tmp_path / "copy", REPO_ID, tmp_path / "again")
    assert {name for name in FILES if sha256(tmp_path / "again" / name) != sha256(release / name)} == set()


def test_the_benchmark_result_is_included_if_it_was_measured(release, finished_run, measured, tmp_path):
    (entry,) = yaml.safe_load((release / ".eval_results/gsm8k.yaml").read_text())
    assert entry["value"] == round(100 * measured["results"]["gsm8k_test"]["accuracy"], 2)
    measured["results"]["gsm8k_test"] = {"skipped": "no network"}
    build.build_release(build.Ingredients(finished_run, measured, REPO_ID), tmp_path / "release")
    assert set(files_in(tmp_path / "release")) == FILES - {EVAL_RESULTS}


def test_the_licence_text_is_included_if_it_is_the_projects(release, tmp_path):
    assert (release / LICENSE).read_text().startswith("MIT License")
    other = shutil.copytree(release, tmp_path / "other")
    write_manifest(other, read_manifest(other) | {"license": "apache-2.0"})
    build.refresh(other, REPO_ID, other)
    assert not (other / LICENSE).exists() and "Weights and code: APACHE-2.0." in (other / "README.md").read_text()


def test_a_damaged_release_gets_no_new_manifest(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "release")
    (folder / "metrics.csv").write_text("edited")
    with pytest.raises(AxionError, match=r"metrics\.csv does not match its sha256"):
        build.refresh(folder, REPO_ID, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_release_is_refreshed_in_place_with_the_current_code(release, info, tmp_path):
    folder = shutil.copytree(release, tmp_path / "release")
    (folder / "tokenizer.py").write_text("old code")
    files = info["files"] | {"tokenizer.py": sha256(folder / "tokenizer.py")}
    (folder / "release.json").write_text(json.dumps(info | {"files": files}))
    build.refresh(folder, REPO_ID, folder)
    assert json.loads((folder / "release.json").read_text()) == info
    assert all((folder / name).read_bytes() == (release / name).read_bytes() for name in FILES)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"form": "gguf"}, "is the gguf form of a release; name the folder of the release itself"),
        ({"license": None}, "release.json has no license"),
        ({"results": None}, "release.json has no results"),
    ],
)
def test_a_release_that_cannot_be_refreshed_is_reported_in_one_line(release, info, tmp_path, capsys, changes, line):
    folder = shutil.copytree(release, tmp_path / "release")
    (folder / "release.json").write_text(json.dumps(info | changes))
    assert run(app, ["refresh", str(folder)]) == 2
    assert line in (error := capsys.readouterr().err) and len(error.splitlines()) == 1


def test_an_unfinished_run_is_refused(finished_run, measured, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "run.json").write_text('{"finished": false, "recipe": ""}')
    with pytest.raises(AxionError, match="not finished"):
        build.build_release(build.Ingredients(run, measured, REPO_ID), tmp_path / "release")


def test_a_run_whose_record_is_incomplete_is_refused(finished_run, measured, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    del content["date"]
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(AxionError, match="lacks 'date'"):
        build.build_release(build.Ingredients(run, measured, REPO_ID), tmp_path / "release")


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("a: 1\na: 2", "the key 'a' is given twice"),
        ("name: [", "while parsing"),
        ("- 1", "valid dictionary"),
    ],
)
def test_a_run_with_a_broken_recipe_is_reported_in_one_line(finished_run, tmp_path, recipe, reason):
    run = shutil.copytree(finished_run, tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"recipe": recipe}))
    with pytest.raises(AxionError, match=rf"the recipe in .*run\.json cannot be read: .*{reason}") as raised:
        facts.read_run(run)
    assert "\n" not in str(raised.value)


def test_an_older_release_with_fewer_code_files_is_complete_and_can_be_refreshed(release, info, tmp_path):
    """Up to v0.1, all of the model's code was in one file next to the configuration."""
    folder = shutil.copytree(release, tmp_path / "release")
    (folder / "attention_axion.py").unlink()
    (folder / "mixture_axion.py").unlink()
    (folder / "modeling_axion.py").write_text("from .configuration_axion import AxionConfig\n\nclass AxionModel: ...\n")
    (folder / "old_code.py").write_text("")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "old_code.AxionConfig", "AutoModel": "modeling_axion.AxionModel"}
    (folder / "config.json").write_text(json.dumps(config))
    write_manifest(folder, info)
    assert remote_code(folder) == {"configuration_axion.py", "shape_axion.py", "modeling_axion.py", "old_code.py"}
    check_names(folder)
    build.refresh(folder, REPO_ID, tmp_path / "refreshed")
    assert set(files_in(tmp_path / "refreshed")) == FILES
    assert json.loads((tmp_path / "refreshed" / "config.json").read_text())["auto_map"] == build.AUTO_MAP
    (folder / "old_code.py").unlink()
    with pytest.raises(AxionError, match=r"old_code\.py is missing"):
        check_names(folder)
