"""A release folder holds what the design lists, agrees with itself, and is left alone when nothing changed."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

import axion
from axion.errors import AxionError
from axion.release import open_release
from publish import build
from publish.manifest import RELEASE_FILES, REMOTE_CODE, sha256

REPO_ID = "someone/Axion-tiny"


@pytest.fixture
def ingredients(finished_run, measured):
    return build.Ingredients(finished_run, measured, REPO_ID)


def test_the_folder_holds_the_allow_list_and_is_small(release):
    assert {path.name for path in release.iterdir()} == set(RELEASE_FILES)
    assert sum(path.stat().st_size for path in release.iterdir()) < 2.5e6


def test_release_json_vouches_for_every_other_file(release, info):
    assert set(info["files"]) == set(RELEASE_FILES) - {"release.json"}
    assert all(sha256(release / name) == digest for name, digest in info["files"].items())


def test_the_remote_code_is_copied_to_the_letter(release):
    for name in REMOTE_CODE:
        assert (release / name).read_bytes() == (build.Path(axion.__file__).parent / name).read_bytes()
    config = json.loads((release / "config.json").read_text())
    assert config["auto_map"] == build.AUTO_MAP and "--" not in str(config["auto_map"])


def test_weights_are_those_of_the_run_stored_once_with_their_format(release, finished_run):
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
    assert trace["prompt"] == build.TRACE_PROMPT and trace["favourites"] == measured["favourites"]
    assert trace["steps"][0]["prompt"] and not trace["steps"][-1]["prompt"]


def test_the_same_ingredients_give_the_same_bytes(release, ingredients, tmp_path):
    build.build_release(ingredients, tmp_path / "again")
    for name in RELEASE_FILES:
        assert (tmp_path / "again" / name).read_bytes() == (release / name).read_bytes(), name
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_what_is_built_is_known_by_its_ingredients(release, finished_run, ingredients, measured, tmp_path):
    assert build.is_built(release, ingredients)
    assert not build.is_built(tmp_path, ingredients)
    assert not build.is_built(release, build.Ingredients(finished_run, measured, "another/Name"))
    touched = shutil.copytree(release, tmp_path / "touched")
    (touched / "metrics.csv").write_text("edited")
    assert not build.is_built(touched, ingredients)
    measured["results"]["gsm8k_test"]["accuracy"] = 0.5
    assert not build.is_built(release, build.Ingredients(finished_run, measured, REPO_ID))


def test_a_failing_build_leaves_the_old_release_and_no_rubbish(release, ingredients, measured, tmp_path):
    target = shutil.copytree(release, tmp_path / "axion-tiny")
    before = (target / "release.json").read_bytes()
    measured["results"]["gsm8k_test"]["command"] = "python -m axion eval " + "/" + "home/me/model"
    with pytest.raises(AxionError, match=r"README\.md names a path of this machine"):
        build.build_release(ingredients, target)
    assert (target / "release.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["axion-tiny"]


def test_tokens_that_disagree_are_refused(finished_run, measured, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    config = json.loads((run / "final/config.json").read_text())
    (run / "final/config.json").write_text(json.dumps(config | {"eos_token_id": 5}))
    with pytest.raises(AxionError, match="eos_token_id is 5 in the model and 2 in the tokenizer"):
        build.build_release(build.Ingredients(run, measured, REPO_ID), tmp_path / "release")


def test_files_that_do_not_belong_are_refused(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "release")
    (folder / "optimizer.bin").write_text("x")
    with pytest.raises(AxionError, match=r"optimizer\.bin does not belong"):
        build.check_contents(folder)
    (folder / "optimizer.bin").unlink()
    (folder / "trace.json").unlink()
    with pytest.raises(AxionError, match=r"trace\.json is missing"):
        build.check_contents(folder)


def test_a_release_for_another_repository_differs_in_its_card_alone(release, info, tmp_path):
    build.refresh(release, "another/Name", tmp_path / "copy")
    changed = {name for name in RELEASE_FILES if sha256(tmp_path / "copy" / name) != sha256(release / name)}
    assert changed == {"README.md", "release.json"}
    theirs = json.loads((tmp_path / "copy/release.json").read_text())
    assert theirs["repo_id"] == "another/Name" and theirs["files"]["README.md"] != info["files"]["README.md"]
    assert "another/Name" in (tmp_path / "copy/README.md").read_text()


def test_a_damaged_release_gets_no_new_manifest(release, tmp_path):
    folder = shutil.copytree(release, tmp_path / "release")
    (folder / "metrics.csv").write_text("edited")
    with pytest.raises(AxionError, match=r"metrics\.csv is not the file"):
        build.refresh(folder, REPO_ID, tmp_path / "copy")


def test_a_release_is_refreshed_in_place_with_the_code_of_today(release, info, tmp_path):
    folder = shutil.copytree(release, tmp_path / "release")
    (folder / "tokenizer.py").write_text("old code")
    files = info["files"] | {"tokenizer.py": sha256(folder / "tokenizer.py")}
    (folder / "release.json").write_text(json.dumps(info | {"files": files}))
    build.refresh(folder, REPO_ID, folder)
    assert json.loads((folder / "release.json").read_text()) == info
    assert all((folder / name).read_bytes() == (release / name).read_bytes() for name in RELEASE_FILES)


def test_an_unfinished_run_is_refused(finished_run, measured, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "run.json").write_text('{"finished": false}')
    with pytest.raises(AxionError, match="not finished"):
        build.build_release(build.Ingredients(run, measured, REPO_ID), tmp_path / "release")
