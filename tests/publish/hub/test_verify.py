"""A release folder is opened by a stranger: another process, another directory, none of this project."""

import shutil
import warnings
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from axion.errors import AxionError
from publish.hub import client as publish_hub
from publish.hub import verify
from publish.hub.delivery import Download
from publish.manifest import read_manifest, write_manifest
from publish.release.build import refresh
from publish.release.card import render_card
from publish.release.exports import stage_exports
from publish.steps import Steps
from tests.publish.conftest import REPO_ID


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
    before, marker, after = card.read_text().rpartition("<!-- axion:end ")
    card.write_text(f'{before}```python\nraise SystemError("this snippet is wrong")\n```\n{marker}{after}')
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
    monkeypatch.setenv("WANDB_API_KEY", "secret" * 6)
    environment = verify._clean_environment(tmp_path)
    assert not any("secret" in value for value in environment.values())
    assert "PATH" in environment and not any(name.startswith("PYTHON") for name in environment)


@pytest.fixture
def published(release, hub, monkeypatch):
    """That release on a Hub on this machine, under its own name, tagged."""
    publish_hub.make_repo(REPO_ID)
    publish_hub.tag(REPO_ID, "v0.1", publish_hub.push(release, REPO_ID, "Release"))
    return f"{REPO_ID}@v0.1"


def edit(name, change):
    content = change(Path(HfApi().hf_hub_download(REPO_ID, name)).read_text())
    HfApi().create_commit(REPO_ID, [CommitOperationAdd(name, content.encode())], commit_message="An edit")


def test_a_release_on_the_hub_is_verified_by_its_name_from_a_fresh_cache(published, hub):
    lines = []
    verify.verify_published(published, Steps(lines.append))
    assert [line.split()[0] for line in lines] == ["download", "verify"]
    assert "checksums hold" in lines[1] and "snippets run" in lines[1]
    assert not list(hub.home.glob("hub/models--*")), "the cache was not a fresh one"


def test_a_name_with_dots_in_it_can_be_loaded(release, hub, tmp_path):
    name = "team/Axion.1-v0.1"
    refresh(release, name, tmp_path / "dotted")
    publish_hub.make_repo(name)
    commit = publish_hub.push(tmp_path / "dotted", name, "Release")
    folder = publish_hub.download(name, commit, tmp_path / "cache")
    assert "bit-equal" in verify.verify_download(Download(name, commit, tmp_path / "cache", folder))


def test_a_card_that_was_edited_since_is_no_fault(published, monkeypatch):
    monkeypatch.setattr(verify, "run_clean", lambda folder, scratch, download: compute_here(folder))
    edit("README.md", lambda card: card + "\nA reader's word.\n```python\nraise SystemError\n```\n")
    lines = []
    verify.verify_published(f"{REPO_ID}@main", Steps(lines.append))
    assert "the card was edited since" in lines[1]


def compute_here(folder):
    from axion.release import open_release

    release = open_release(folder)
    ids = release.tokenizer(verify.clean_process.PROMPT, return_tensors="pt").input_ids
    return {"input_ids": ids, **verify._compute_locally(release.model, ids)}


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("modeling_axion.py", lambda code: code + "# mine\n", "modeling_axion.py is not this version's"),
        ("config.json", lambda text: text.replace('"modeling_axion.', '"evil/code--modeling_axion.'), "auto_map"),
        (
            "tokenizer_config.json",
            lambda text: text.replace("{", '{"auto_map": {"AutoTokenizer": "x.Y"},', 1),
            "auto_map",
        ),
        ("README.md", lambda card: card.replace("```python\n", "```python\nimport os\n", 1), "Python snippets are not"),
    ],
)
def test_code_of_others_is_not_run_unless_it_is_trusted(published, monkeypatch, name, change, line):
    monkeypatch.setattr(verify, "run_clean", None)  # calling it would fail
    edit(name, change)
    with pytest.raises(AxionError, match=line) as caught:
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))
    assert "--trust-remote-code" in str(caught.value)


def test_a_stranger_s_figures_bring_no_code_into_the_card(release, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(verify, "run_clean", None)  # calling it would fail
    folder = shutil.copytree(release, tmp_path / "evil")
    info = read_manifest(folder)
    info["training"]["machine"]["processor"] += "\n```python\nraise SystemExit\n```\n"
    (folder / "README.md").write_text(render_card(info))
    write_manifest(folder, info)
    publish_hub.make_repo(REPO_ID)
    publish_hub.push(folder, REPO_ID, "Release")
    with pytest.raises(AxionError, match="Python snippets are not this version's"):
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))


def test_trusted_code_is_run(published, monkeypatch):
    ran = []
    monkeypatch.setattr(verify, "run_clean", lambda folder, scratch, download: ran.append(1) or compute_here(folder))
    edit("README.md", lambda card: card.replace("```python\n", "```python\nimport os\n", 1))
    verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None), trust_remote_code=True)
    assert ran == [1]


def test_other_weights_than_the_manifest_says(published, monkeypatch):
    edit("metrics.csv", lambda text: text + "0\n")
    with pytest.raises(AxionError, match=r"metrics\.csv is not the file that its release\.json describes"):
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("custom_generate/generate.py", b"raise SystemExit\n", "custom_generate/generate.py is no file of a release"),
        ("torch.py", b"raise SystemExit\n", "torch.py is no file of a release"),
        ("config.json", b"{broken", "config.json names other code"),
        ("config.json", b"[]", "config.json names other code"),
        ("release.json", b"{}", "is no release of Axion"),
        ("release.json", b'{"files": ["README.md"], "tag": "v0.1"}', "is no release of Axion"),
        ("release.json", b'{"files": {"README.md": "0"}, "tag": "v0.1"}', "describes another repository"),
        ("metrics.csv", None, "metrics.csv is missing"),
    ],
)
def test_whatever_is_wrong_with_it_is_one_line(published, monkeypatch, name, content, line):
    monkeypatch.setattr(verify, "run_clean", None)  # calling it would fail
    change = CommitOperationDelete(name) if content is None else CommitOperationAdd(name, content)
    with warnings.catch_warnings(action="ignore"):
        HfApi().create_commit(REPO_ID, [change], commit_message="An edit")
    with pytest.raises(AxionError, match=line):
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))


@pytest.mark.parametrize("reference", [f"{REPO_ID}@v9", "someone/nothing", f"{REPO_ID}-2@v0.1"])
def test_what_is_not_on_the_hub(published, reference):
    with pytest.raises(AxionError, match="is not on the Hub"):
        verify.verify_published(reference, Steps(lambda line: None))


def test_the_native_form_is_loaded_from_the_hub_without_remote_code(release, hub, tmp_path):
    lines = []
    for form in stage_exports(release, REPO_ID, tmp_path / "exports"):
        publish_hub.make_repo(form.repo_id)
        commit = publish_hub.push(form.folder, form.repo_id, "Release")
        folder = publish_hub.download(form.repo_id, commit, tmp_path / "cache")
        verify.verify_published(form.repo_id, Steps(lines.append))
        said = verify.verify_export(Download(form.repo_id, commit, tmp_path / "cache", folder), release)
        assert ("without remote code, the card's snippets run" in said) is form.repo_id.endswith("-native")
    assert [line.split()[0] for line in lines] == 2 * ["download", "verify"]
