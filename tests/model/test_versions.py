"""Parity, loops and multi-token prediction on other versions of transformers, each in its own environment."""

import subprocess

import pytest

from publish.release.facts import NEWEST_TRANSFORMERS, OLDEST_TRANSFORMERS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

FIRST_WITH_MTP = "5.14"
"""The first version whose `generate` has `use_mtp`."""
TESTS = (
    *("tests/model/test_modeling.py", "tests/model/test_parts.py"),
    *("tests/inference/test_loops.py", "tests/inference/test_speculative.py", "tests/export/test_native.py"),
)


@pytest.mark.parametrize("version", [OLDEST_TRANSFORMERS, FIRST_WITH_MTP, NEWEST_TRANSFORMERS])
def test_the_model_is_the_same_on_this_version(version, make_environment):
    command = [make_environment(f"transformers=={version}.*"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "-rs", "-m", "not slow", *TESTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    has_mtp = tuple(map(int, version.split("."))) >= tuple(map(int, FIRST_WITH_MTP.split(".")))
    assert ("this transformers has no MTP" in done.stdout) != has_mtp, done.stdout[-500:]
