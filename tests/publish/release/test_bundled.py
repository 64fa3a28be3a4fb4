"""The bundled release is complete, small, current, and passes all checks."""

import pytest

from axion.release import RELEASES, open_release
from publish.check.lint import lint
from publish.manifest import check_files, files_in
from publish.release import build
from publish.release.card import card_files
from publish.release.facts import roadmap

FOLDER = RELEASES / "axion1-v0.1"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="releases/axion1-v0.1 is not built")

REFRESH = "refresh it: python -m publish refresh releases/axion1-v0.1"


@pytest.fixture
def bundled():
    return open_release(FOLDER)


def test_it_is_complete_and_unchanged(bundled):
    assert lint(FOLDER) == []
    check_files(FOLDER)


def test_it_is_small():
    assert sum((FOLDER / name).stat().st_size for name in files_in(FOLDER)) < 2.5e6


def test_its_code_is_current():
    for source in build.code_files():
        assert (FOLDER / source.name).read_bytes() == source.read_bytes(), REFRESH


def test_its_card_is_current(bundled):
    for name, text in card_files(bundled.info).items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, REFRESH


def test_its_roadmap_is_current(bundled):
    assert bundled.info["roadmap"] == roadmap("axion1", bundled.info["name"]), REFRESH


def test_every_result_was_measured(bundled):
    assert [task for task, result in bundled.info["results"].items() if "skipped" in result] == []


def test_its_benchmark_result_is_included():
    assert ".eval_results/gsm8k.yaml" in files_in(FOLDER)
