"""A release opens on the oldest transformers that we promise, in an environment of its own."""

import subprocess
from pathlib import Path

import pytest
import torch

from axion.release import RELEASES
from publish.hub import verify
from publish.release.facts import OLDEST_TRANSFORMERS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def oldest_python(make_environment) -> str:
    """The interpreter of an environment with the oldest transformers."""
    return make_environment(f"transformers=={OLDEST_TRANSFORMERS}.*")


@pytest.fixture(params=["random weights", "axion1-v0.1"])
def folder(request) -> Path:
    if request.param == "random weights":
        return request.getfixturevalue("release")
    if not (RELEASES / request.param / "release.json").is_file():
        pytest.skip("releases/axion1-v0.1 is not built")
    return RELEASES / request.param


def test_the_oldest_transformers_gives_the_same_logits(folder, oldest_python, tmp_path):
    print_version = "import transformers; print(transformers.__version__)"
    version = subprocess.check_output([oldest_python, "-I", "-c", print_version], text=True)
    assert version.startswith(OLDEST_TRANSFORMERS + ".")
    (tmp_path / "oldest").mkdir()
    (tmp_path / "newest").mkdir()
    oldest = verify.run_clean(folder, tmp_path / "oldest", oldest_python)
    newest = verify.run_clean(folder, tmp_path / "newest")
    assert torch.equal(oldest["input_ids"], newest["input_ids"])
    torch.testing.assert_close(oldest["logits"], newest["logits"], rtol=0, atol=1e-6)
    assert torch.equal(oldest["generated"], newest["generated"])
