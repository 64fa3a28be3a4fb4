"""Other processes as clients: transformers with a release's own code, the `hf` command, and the Hub's own command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from tests.hub.conftest import FILES, RELEASE, ROOT

LOAD = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
options = dict(revision="v0.1", trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained("someone/Axion-0.1", **options)
tokenizer = AutoTokenizer.from_pretrained("someone/Axion-0.1", **options)
ids = tokenizer("# Pergunta:", return_tensors="pt")
assert "axion.model.modeling_axion" not in sys.modules
print(type(model).__name__, model.generate(**ids, max_new_tokens=3).shape[1] > 3)
"""


def run(command: list[str], env: dict[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_transformers_loads_a_release_at_its_tag(hub, api, tmp_path):
    api.create_repo("someone/Axion-0.1", private=True)
    files = [CommitOperationAdd(name, RELEASE / name) for name in FILES]
    made = api.create_commit("someone/Axion-0.1", files, commit_message="v0.1")
    api.create_tag("someone/Axion-0.1", tag="v0.1", revision=made.oid)
    api.delete_file("config.json", "someone/Axion-0.1")
    assert run([sys.executable, "-c", LOAD], hub.env, tmp_path).split() == ["AxionForCausalLM", "True"]


def test_the_hf_command_uploads_and_downloads(hub, tmp_path):
    hf = [sys.executable, "-m", "huggingface_hub.cli.hf"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "weights.bin").write_bytes(bytes(range(256)) * 10)
    assert "someone" in run([*hf, "auth", "whoami"], hub.env)
    run([*hf, "upload", "someone/Axion", str(tmp_path / "in"), "--private"], hub.env)
    run([*hf, "download", "someone/Axion", "--local-dir", str(tmp_path / "out")], hub.env)
    assert (tmp_path / "out" / "weights.bin").read_bytes() == (tmp_path / "in" / "weights.bin").read_bytes()


def test_the_command_runs_a_hub_until_ctrl_c_and_leaves_no_files(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.hub", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "\n")
        said = dict(line.removeprefix("export ").rstrip().split("=", 1) for line in lines)
        api = HfApi(said["HF_ENDPOINT"], token=said["HF_TOKEN"])
        assert api.whoami()["name"] == "someone"
        api.create_repo("someone/Axion")
        assert "Ctrl-C" in process.stdout.readline()
        httpx2.get(said["HF_ENDPOINT"] + "/api/nothing")
        assert process.stdout.readline() == "Surprise: GET /api/nothing: Not Found\n"
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and errors == ""
    assert list(tmp_path.iterdir()) == []


def test_the_command_reports_a_port_in_use(hub, tmp_path):
    command = [sys.executable, "-m", "tests.hub", "--port", str(hub.port)]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and done.stderr.startswith(f"Port {hub.port} can't be opened")
    assert list(tmp_path.iterdir()) == []
