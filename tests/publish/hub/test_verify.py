"""Releases are verified in another process and directory, without this project."""

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
from publish.release.exports import build_exports
from publish.steps import Steps
from tests.publish.conftest import REPO_ID


@pytest.fixture
def copy(release, tmp_path):
    return shutil.copytree(release, tmp_path / "release")


def test_a_clean_process_gives_the_same_logits_and_runs_the_card(release, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "secret" * 5)
    before = sorted(release.iterdir())
    said = verify.verify_release(release)
    assert "bit-identical" in said and "snippets run" in said
    assert sorted(release.iterdir()) == before  # no __pycache__, nothing left behind


def test_a_changed_byte_is_found(copy):
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(AxionError, match=r"model\.safetensors does not match its sha256 in release\.json"):
        verify.verify_release(copy)


def test_a_missing_file_is_found(copy):
    (copy / "training.png").unlink()
    with pytest.raises(AxionError, match=r"lacks training\.png"):
        verify.verify_release(copy)


def test_a_folder_without_a_manifest_is_not_a_release(copy):
    (copy / "release.json").unlink()
    with pytest.raises(AxionError, match=r"no release\.json"):
        verify.verify_release(copy)


def test_code_that_imports_the_project_fails_even_where_it_is_installed(copy, tmp_path):
    """The card's snippet runs last; if it fails, the last line of its traceback is reported."""
    card = copy / "README.md"
    before, marker, after = card.read_text().rpartition("<!-- axion:end ")
    card.write_text(f"{before}```python\nimport axion.errors\n```\n{marker}{after}")
    with pytest.raises(
        AxionError, match="fails in a clean process: ModuleNotFoundError: a release must not import the"
    ):
        verify.run_clean(copy, tmp_path)


def test_a_different_result_in_the_clean_process_is_an_error(release, monkeypatch):
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
    """That release on the loopback Hub, tagged."""
    publish_hub.create_repo(REPO_ID)
    publish_hub.tag(REPO_ID, "v0.1", publish_hub.push(release, REPO_ID, "Release"))
    return f"{REPO_ID}@v0.1"


ENTRY = b'{"files": {"README.md": "0"}, "tag": "v1"}'
RESULT = b"- dataset: {id: openai/gsm8k, task_id: gsm8k}\n  value: 1.3\n"


def edit(name, change):
    content = change(Path(HfApi().hf_hub_download(REPO_ID, name)).read_text())
    HfApi().create_commit(REPO_ID, [CommitOperationAdd(name, content.encode())], commit_message="An edit")


def test_a_release_on_the_hub_is_verified_by_its_name_from_a_fresh_cache(release, hub, tmp_path):
    """The name has dots, which once broke imports of remote code (transformers#28919)."""
    name, lines = "team/Axion.1-v0.1", []
    refresh(release, name, tmp_path / "dotted")
    publish_hub.create_repo(name)
    publish_hub.push(tmp_path / "dotted", name, "Release")
    verify.verify_published(name, Steps(lines.append))
    assert [line.split()[0] for line in lines] == ["download", "verify"]
    assert "checksums match" in lines[1] and "snippets run" in lines[1]
    assert not list(hub.home.glob("hub/models--*")), "the cache was not a fresh one"


def test_a_card_edited_since_is_not_an_error(published, monkeypatch):
    monkeypatch.setattr(verify, "run_clean", lambda folder, scratch, download: compute_here(folder))
    edit("README.md", lambda card: card + "\nA reader's word.\n```python\nraise SystemError\n```\n")
    lines = []
    verify.verify_published(f"{REPO_ID}@main", Steps(lines.append))
    assert "(edited since: README.md)" in lines[1]


def test_results_signed_by_the_hub_are_not_an_error(release, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(verify, "run_clean", lambda folder, scratch, download: compute_here(folder))
    folder, results = shutil.copytree(release, tmp_path / "signed"), ".eval_results/gsm8k.yaml"
    (folder / results).parent.mkdir(exist_ok=True)
    (folder / results).write_bytes(RESULT)
    write_manifest(folder, read_manifest(folder))
    publish_hub.create_repo(REPO_ID)
    publish_hub.push(folder, REPO_ID, "Release")
    edit(results, lambda text: text + "  verifyToken: a-signature\n")
    lines = []
    verify.verify_published(f"{REPO_ID}@main", Steps(lines.append))
    assert f"(edited since: {results})" in lines[1]


def compute_here(folder):
    from axion.release import open_release

    release = open_release(folder)
    ids = release.tokenizer(verify.clean_process.PROMPT, return_tensors="pt").input_ids
    return {"input_ids": ids, **verify._compute_locally(release.model, ids)}


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("modeling_axion.py", lambda code: code + "# mine\n", "modeling_axion.py differs from this version"),
        ("config.json", lambda text: text.replace('"modeling_axion.', '"evil/code--modeling_axion.'), "auto_map"),
        (
            "tokenizer_config.json",
            lambda text: text.replace("{", '{"auto_map": {"AutoTokenizer": "x.Y"},', 1),
            "auto_map",
        ),
        ("README.md", lambda card: card.replace("```python\n", "```python\nimport os\n", 1), "Python snippets differ"),
    ],
)
def test_others_code_is_not_run_unless_it_is_trusted(published, monkeypatch, name, change, line):
    monkeypatch.setattr(verify, "run_clean", None)  # calling it would fail
    edit(name, change)
    with pytest.raises(AxionError, match=line) as caught:
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))
    assert "--trust-remote-code" in str(caught.value)


def test_documents_that_others_added_do_not_require_trust(published, monkeypatch):
    monkeypatch.setattr(verify, "run_clean", lambda folder, scratch, download: compute_here(folder))
    added = (".gitignore", "docs/picture.png", ".eval_results/mmlu.yaml")
    HfApi().create_commit(REPO_ID, [CommitOperationAdd(name, RESULT) for name in added], commit_message="More")
    lines = []
    verify.verify_published(f"{REPO_ID}@main", Steps(lines.append))
    assert "checksums match" in lines[1]


def test_an_older_release_with_fewer_code_files_needs_trust_and_can_be_verified(release, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(verify, "run_clean", lambda folder, scratch, download: compute_here(folder))
    folder = shutil.copytree(release, tmp_path / "older")
    for name in ("attention_axion.py", "mixture_axion.py"):
        (folder / name).unlink()
    (folder / "modeling_axion.py").write_text("from .configuration_axion import AxionConfig\n")
    write_manifest(folder, read_manifest(folder))
    publish_hub.create_repo(REPO_ID)
    publish_hub.push(folder, REPO_ID, "Release")
    lines = []
    with pytest.raises(AxionError, match=r"attention_axion\.py differs from this version .*--trust-remote-code"):
        verify.verify_published(REPO_ID, Steps(lines.append))
    verify.verify_published(REPO_ID, Steps(lines.append), trust_remote_code=True)
    assert "checksums match" in lines[-1]


def test_values_of_release_json_cannot_inject_code_into_the_card(release, hub, monkeypatch, tmp_path):
    monkeypatch.setattr(verify, "run_clean", None)  # calling it would fail
    folder = shutil.copytree(release, tmp_path / "evil")
    info = read_manifest(folder)
    info["training"]["machine"]["processor"] += "\n```python\nraise SystemExit\n```\n"
    (folder / "README.md").write_text(render_card(info))
    write_manifest(folder, info)
    publish_hub.create_repo(REPO_ID)
    publish_hub.push(folder, REPO_ID, "Release")
    with pytest.raises(AxionError, match="Python snippets differ"):
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))


def test_trusted_code_is_run(published, monkeypatch):
    ran = []
    monkeypatch.setattr(verify, "run_clean", lambda folder, scratch, download: ran.append(1) or compute_here(folder))
    edit("README.md", lambda card: card.replace("```python\n", "```python\nimport os\n", 1))
    verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None), trust_remote_code=True)
    assert ran == [1]


def test_a_file_that_differs_from_the_manifest(published, monkeypatch):
    edit("metrics.csv", lambda text: text + "0\n")
    with pytest.raises(AxionError, match=r"metrics\.csv does not match its sha256 in release\.json"):
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (
            "custom_generate/generate.py",
            b"raise SystemExit\n",
            "custom_generate/generate.py does not belong in a release",
        ),
        ("torch.py", b"raise SystemExit\n", "torch.py does not belong in a release"),
        ("config.json", b"{broken", "the auto_map of config.json differs"),
        ("config.json", b"[]", "the auto_map of config.json differs"),
        ("release.json", b"{}", "is not an Axion release"),
        ("release.json", ENTRY, "is not an Axion release"),
        ("release.json", b'{"files": ["README.md"], "tag": "v0.1"}', "is not an Axion release"),
        ("release.json", ENTRY.replace(b"0", 64 * b"0"), "describes another repository"),
        ("metrics.csv", None, "metrics.csv is missing"),
    ],
)
def test_every_problem_with_a_download_is_reported_in_one_line(published, monkeypatch, name, content, line):
    monkeypatch.setattr(verify, "run_clean", None)  # calling it would fail
    change = CommitOperationDelete(name) if content is None else CommitOperationAdd(name, content)
    with warnings.catch_warnings(action="ignore"):
        HfApi().create_commit(REPO_ID, [change], commit_message="An edit")
    with pytest.raises(AxionError, match=line):
        verify.verify_published(f"{REPO_ID}@main", Steps(lambda line: None))


@pytest.mark.parametrize("reference", [f"{REPO_ID}@v9", "someone/nothing", f"{REPO_ID}-2@v0.1"])
def test_releases_that_are_not_on_the_hub(published, reference):
    with pytest.raises(AxionError, match="is not on the Hub"):
        verify.verify_published(reference, Steps(lambda line: None))


@pytest.mark.slow
def test_the_native_form_is_loaded_from_the_hub_without_remote_code(release, hub, tmp_path):
    lines = []
    for form in build_exports(release, REPO_ID, tmp_path / "exports"):
        publish_hub.create_repo(form.repo_id)
        commit = publish_hub.push(form.folder, form.repo_id, "Release")
        folder = publish_hub.download(form.repo_id, commit, tmp_path / "cache")
        verify.verify_published(form.repo_id, Steps(lines.append))
        said = verify.verify_export(Download(form.repo_id, commit, tmp_path / "cache", folder), release)
        assert ("without remote code, the card's snippets run" in said) is form.repo_id.endswith("-native")
    assert [line.split()[0] for line in lines] == 2 * ["download", "verify"]
