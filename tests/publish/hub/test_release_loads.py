"""A release opens and generates on the oldest, the pinned and the newest transformers, each in its own environment."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from axion.release import RELEASES
from publish.hub import verify
from publish.release.facts import NEWEST_TRANSFORMERS, OLDEST_TRANSFORMERS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

VERSIONS = {"oldest": OLDEST_TRANSFORMERS, "pinned": None, "newest": NEWEST_TRANSFORMERS}
"""The versions of transformers; None is the one that is installed here."""


@pytest.fixture(scope="module", params=VERSIONS)
def version(request) -> str | None:
    return VERSIONS[request.param]


@pytest.fixture(scope="module")
def python(version, make_environment) -> str:
    """The interpreter of an environment with one of the versions."""
    return make_environment(f"transformers=={version}.*") if version else sys.executable


def release_of(python: str) -> tuple[int, ...]:
    """The version of transformers that an interpreter imports, as (major, minor)."""
    printed = subprocess.check_output([python, "-I", "-c", "import transformers as t; print(t.__version__)"], text=True)
    return tuple(map(int, printed.split(".")[:2]))


def parsed(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_versions_are_those_that_cards_name(version, python):
    if version:
        assert release_of(python) == parsed(version)
    else:
        assert parsed(OLDEST_TRANSFORMERS) <= release_of(python) <= parsed(NEWEST_TRANSFORMERS)


@pytest.fixture(params=["random weights", "axion1-v0.1"])
def folder(request) -> Path:
    if request.param == "random weights":
        return request.getfixturevalue("release")
    if not (RELEASES / request.param / "release.json").is_file():
        pytest.skip("releases/axion1-v0.1 is not built")
    return RELEASES / request.param


@pytest.fixture(scope="module")
def compute_here(tmp_path_factory):
    """A function: what a clean process of this environment computes with a release, once for each release."""
    return cache(lambda folder: verify.run_clean(folder, tmp_path_factory.mktemp("ours")))


@pytest.mark.parametrize("version", ["oldest", "newest"], indirect=True)
def test_logits_and_text_match_this_version(folder, python, compute_here, tmp_path):
    theirs, ours = verify.run_clean(folder, tmp_path, python), compute_here(folder)
    assert torch.equal(theirs["input_ids"], ours["input_ids"])
    torch.testing.assert_close(theirs["logits"], ours["logits"], rtol=0, atol=1e-6)
    assert torch.equal(theirs["generated"], ours["generated"])


def test_every_way_of_generating_gives_the_same_with_and_without_a_cache(release, python, tmp_path):
    """If the model did not know the name of the cache's argument, the cache would be ignored and the text be wrong."""
    printed = subprocess.check_output(
        [python, ROOT / "tests" / "support" / "generation.py", release],
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        text=True,
    )
    found = json.loads(printed.splitlines()[-1])["found"]
    assert len(found) == 9
    for way, (ids, expected) in found.items():
        assert ids == expected, way
