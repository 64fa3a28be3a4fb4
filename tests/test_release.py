"""Opening releases: from a folder, by name, from the Hub; and the errors for missing or broken ones."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from axion.errors import AxionError
from axion.release import list_releases, open_release


@pytest.fixture
def copy(tiny_release, tmp_path):
    """A copy of the tiny release, for tests that damage it."""
    return shutil.copytree(tiny_release, tmp_path / "axion-copy")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_opens_with_model_and_tokenizer(tiny_release):
    release = open_release(tiny_release)
    assert release.name == "axion-tiny"
    assert release.model is release.model and not release.model.training
    assert {weight.dtype for weight in release.model.parameters()} == {torch.float32}
    weights = load_file(tiny_release / "model.safetensors")
    assert torch.equal(release.model.state_dict()["model.norm.weight"], weights["model.norm.weight"])
    assert release.tokenizer.decode(release.tokenizer("ação 7").input_ids, skip_special_tokens=True) == "ação 7"
    assert release.info == {} and release.trace is None


def test_a_name_opens_a_folder_under_releases(tiny_release, monkeypatch, tmp_path):
    monkeypatch.setattr("axion.release.RELEASES", tiny_release.parent)
    monkeypatch.chdir(tmp_path)
    assert list_releases() == ["axion-tiny"]
    assert open_release("axion-tiny").folder == tiny_release
    (tmp_path / "axion-tiny").mkdir()  # a folder of the same name that is not a release
    assert open_release("axion-tiny").folder == tiny_release
    shutil.copytree(tiny_release, tmp_path / "releases" / "axion-tiny")  # a release built here takes precedence
    assert open_release("axion-tiny").folder == tmp_path / "releases" / "axion-tiny"
    assert list_releases() == ["axion-tiny"]


def test_info_and_trace_are_read(copy):
    (copy / "release.json").write_text('{"version": "0.1"}')
    (copy / "trace.json").write_text('{"format": 1}')
    release = open_release(str(copy))
    assert (release.info, release.trace) == ({"version": "0.1"}, {"format": 1})


def test_the_code_inside_a_release_is_never_run(copy):
    (copy / "modeling_axion.py").write_text("raise SystemExit('run!')")
    edit_json(copy / "config.json", auto_map={"AutoModelForCausalLM": "modeling_axion.AxionForCausalLM"})
    assert type(open_release(copy).model).__module__ == "axion.model.modeling_axion"


def test_an_unknown_name_lists_the_known_ones(tiny_release, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("axion.release.RELEASES", tiny_release.parent)
    with pytest.raises(AxionError, match="no release 'axion9'; here: axion-tiny"):
        open_release("axion9")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(copy, file):
    (copy / file).unlink()
    with pytest.raises(AxionError, match=rf"it has no {file}"):
        open_release(copy)


def test_a_training_run_points_to_its_final_folder(copy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(copy, run / "final")
    with pytest.raises(AxionError, match="its folder final/ is one"):
        open_release(run)


def test_a_model_is_named_after_its_training_run(copy, tmp_path):
    for name in ("one", "other"):
        shutil.copytree(copy, tmp_path / name / "final")
        (tmp_path / name / "run.json").touch()
    names = {open_release(tmp_path / name / "final").name for name in ("one", "other")}
    assert names == {"one", "other"}
    shutil.copytree(copy, tmp_path / "one" / "checkpoint-8")
    assert open_release(tmp_path / "one" / "checkpoint-8").name == "one-checkpoint-8"


def damaged_weights(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def missing_weight(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})


def not_a_number(copy):
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.0.mlp.gate.e_score_correction_bias"][1] = float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})


def other_shape(copy):
    edit_json(copy / "config.json", hidden_size=64)


def other_family(copy):
    edit_json(copy / "config.json", model_type="llama")


def impossible_shape(copy):
    edit_json(copy / "config.json", num_experts_per_tok=9)


def broken_config(copy):
    (copy / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damaged_weights, r"model\.safetensors cannot be read"),
        (missing_weight, r"does not fit config\.json: missing model\.norm\.weight"),
        (not_a_number, r"broken: model\.layers\.0\.mlp\.gate\.e_score_correction_bias has NaN or infinite values"),
        (other_shape, r"model\.safetensors (does not fit config\.json: mismatched|cannot be read)"),
        (other_family, r"type 'llama'"),
        (impossible_shape, r"config\.json is broken: num_experts_per_tok"),
        (broken_config, r"config\.json cannot be read"),
    ],
)
def test_broken_weights_and_configs_are_reported_in_one_line(copy, damage, said, capfd):
    damage(copy)
    capfd.readouterr()
    with pytest.raises(AxionError, match=said) as error:
        assert open_release(copy).model
    assert capfd.readouterr() == ("", "")
    assert re.fullmatch(r"axion-copy.*", str(error.value))


def test_a_broken_tokenizer_is_reported_in_one_line(copy):
    (copy / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(AxionError, match="axion-copy: the tokenizer cannot be read") as error:
        assert open_release(copy).tokenizer
    assert "\n" not in str(error.value)


def test_a_hub_id_is_downloaded_at_its_revision_and_without_code(tiny_release, monkeypatch):
    asked = []

    def snapshot_download(repo_id, revision, allow_patterns):
        asked.append((repo_id, revision, allow_patterns))
        return str(tiny_release)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert open_release("someone/Axion1-350k-A250k@v0.1").name == "someone/Axion1-350k-A250k@v0.1"
    assert open_release("someone/Axion1-350k-A250k").folder == tiny_release
    assert [call[:2] for call in asked] == [("someone/Axion1-350k-A250k", "v0.1"), ("someone/Axion1-350k-A250k", None)]
    assert not any(pattern.endswith((".py", "*")) for pattern in asked[0][2])


@pytest.mark.parametrize("reference", ["some one/x", "someone/na..me", "someone/x@", "a/b/c", "/nowhere/at/all", ""])
def test_other_references_are_reported_in_one_line(reference, monkeypatch):
    def unreachable(*args, **kwargs):
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", unreachable)
    monkeypatch.setattr("huggingface_hub._snapshot_download.HfApi.repo_info", unreachable)
    with pytest.raises(AxionError) as error:
        open_release(reference)
    assert "\n" not in str(error.value)
