"""A release folder is opened by a stranger: another process, another directory, none of this project."""

import shutil

import pytest

from axion.errors import AxionError
from publish import verify


@pytest.fixture
def copy(release, tmp_path):
    return shutil.copytree(release, tmp_path / "release")


def test_a_clean_process_gives_the_same_logits_and_runs_the_card(release, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "secret" * 5)
    before = sorted(release.iterdir())
    said = verify.verify_release(release)
    assert "bit-equal" in said and "snippets run" in said
    assert sorted(release.iterdir()) == before  # no __pycache__, nothing left behind


def test_a_byte_that_changed_is_found(copy):
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(AxionError, match=r"model\.safetensors is not the file that release\.json describes"):
        verify.verify_release(copy)


def test_a_file_that_is_gone_is_found(copy):
    (copy / "training.png").unlink()
    with pytest.raises(AxionError, match=r"lacks training\.png"):
        verify.verify_release(copy)


def test_a_folder_without_a_manifest_is_not_a_release(copy):
    (copy / "release.json").unlink()
    with pytest.raises(AxionError, match=r"no release\.json"):
        verify.verify_release(copy)


def test_remote_code_that_imports_the_project_fails(copy, tmp_path):
    code = copy / "modeling_axion.py"
    code.write_text("import axion.errors\n" + code.read_text())
    with pytest.raises(AxionError, match="a release must not import the project"):
        verify.run_clean(copy, tmp_path)


def test_a_snippet_of_the_card_that_fails_is_told(copy, tmp_path):
    card = copy / "README.md"
    card.write_text(card.read_text() + '\n```python\nraise SystemError("this snippet is wrong")\n```\n')
    with pytest.raises(AxionError, match="fails in a clean process: SystemError: this snippet is wrong"):
        verify.run_clean(copy, tmp_path)


def test_another_result_in_the_clean_process_is_told(release, monkeypatch):
    def run_clean(folder, scratch):
        theirs = verify.clean_process.compute(str(folder))
        return theirs | {"logits": theirs["logits"] + 1e-7}

    monkeypatch.setattr(verify, "run_clean", run_clean)
    monkeypatch.setattr(verify, "_compute_locally", lambda model, ids: verify.clean_process.compute(str(release)))
    with pytest.raises(AxionError, match="logits of the local model and of a clean process differ"):
        verify.verify_release(release)


def test_no_token_reaches_the_clean_process(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "secret" * 5)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_" + "secret" * 5)
    environment = verify._clean_environment(tmp_path)
    assert not any("secret" in value for value in environment.values())
    assert "PATH" in environment and not any(name.startswith("PYTHON") for name in environment)
