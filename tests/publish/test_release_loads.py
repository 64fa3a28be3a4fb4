"""A release opens on the oldest transformers that we promise, in an environment of its own."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from axion.release import RELEASES
from publish import verify
from publish.facts import OLDEST_TRANSFORMERS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def oldest_python(tmp_path_factory) -> str:
    """The interpreter of a fresh environment with the oldest transformers and everybody else's torch."""
    folder = tmp_path_factory.mktemp("oldest")
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [python, "-m", "pip", "install", "--quiet", f"transformers=={OLDEST_TRANSFORMERS}.*"]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode != 0:
        pytest.skip(f"transformers {OLDEST_TRANSFORMERS} can't be installed here: {installed.stderr.strip()[-200:]}")
    # torch comes from this environment: a path file comes after the fresh environment's own packages.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "torch.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(python)


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
