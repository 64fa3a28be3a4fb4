"""The remote code of a release, as transformers loads and saves it, and that of older releases in one file."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from axion.release import open_release
from publish.check.lint import lint
from publish.hub import verify
from publish.manifest import REMOTE_CODE, check_files, check_names
from publish.release.build import refresh
from tests.publish.conftest import REPO_ID
from tests.support.old_release import copy_as_old_release

IDS = torch.arange(3, 20).unsqueeze(0)


@pytest.fixture(scope="module")
def old(release, tmp_path_factory):
    """The release in the old form. Read it, don't change it."""
    return copy_as_old_release(release, tmp_path_factory.mktemp("old") / "release")


@torch.no_grad()
def test_code_travels_with_a_model_that_is_loaded_and_saved_again(release, tmp_path):
    loaded = AutoModelForCausalLM.from_pretrained(release, trust_remote_code=True)
    assert type(loaded).__module__.startswith("transformers_modules.")
    assert type(loaded.model.layers[0].self_attn).__module__.endswith(".attention_axion")
    loaded.save_pretrained(tmp_path / "again")
    for name in REMOTE_CODE:
        assert (tmp_path / "again" / name).read_bytes() == (release / name).read_bytes()
    assert AutoConfig.from_pretrained(tmp_path / "again", trust_remote_code=True).auto_map == loaded.config.auto_map
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True)
    again.set_experts_implementation("batched_mm")
    assert again.config._experts_implementation == "batched_mm"
    expected = open_release(release).model(IDS).logits
    assert torch.equal(loaded(IDS).logits, expected)
    torch.testing.assert_close(again(IDS).logits, expected)


@torch.no_grad()
def test_an_old_release_opens(old):
    assert not (old / "attention_axion.py").exists()
    loaded = AutoModelForCausalLM.from_pretrained(old, trust_remote_code=True)
    assert type(loaded.model.layers[0].self_attn).__module__.endswith(".modeling_axion")
    assert torch.equal(open_release(old).model(IDS).logits, loaded(IDS).logits)


def test_an_old_release_passes_lint_and_verification(old):
    assert lint(old) == []
    assert "bit-identical" in verify.verify_release(old)


def test_an_old_release_is_refreshed_into_the_new_form(old, tmp_path):
    refresh(old, REPO_ID, tmp_path / "new")
    check_names(tmp_path / "new")
    check_files(tmp_path / "new")
    assert lint(tmp_path / "new") == []
    assert {name for name in REMOTE_CODE if (tmp_path / "new" / name).is_file()} == set(REMOTE_CODE)


def test_a_missing_part_of_the_code_is_found(release, tmp_path):
    for name in REMOTE_CODE:
        folder = shutil.copytree(release, tmp_path / name, ignore=shutil.ignore_patterns(name))
        assert any(name in str(problem) for problem in lint(folder))
