"""The whole command, as a user types it, with the bundled release and the loopback Hub."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from axion.release import RELEASES

REPO_ID = "someone/Axion1-350k-A250k"
LOAD = """
from transformers import AutoModelForCausalLM, AutoTokenizer
source = {"pretrained_model_name_or_path": "someone/Axion1-350k-A250k", "revision": "v0.1"}
model = AutoModelForCausalLM.from_pretrained(trust_remote_code=True, **source)
tokenizer = AutoTokenizer.from_pretrained(**source)
inputs = tokenizer("# Pergunta:\\nQuanto é 5 + 3?\\n--\\n# Resposta:\\n", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=8, do_sample=False)[0], skip_special_tokens=True))
"""
ANSWER = "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n8\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (RELEASES / "axion1-v0.1").is_dir(), reason="releases/axion1-v0.1 is not built"),
]


class Watch(threading.Thread):
    """Polls the arguments of all processes of this machine for a secret."""

    def __init__(self, secret: str):
        super().__init__(daemon=True)
        self.secret, self.found, self.seen, self.done = secret.encode(), [], set(), threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments = path.read_bytes()
                except OSError:  # it has ended
                    continue
                self.seen.add(arguments)
                if self.secret in arguments:
                    self.found.append(arguments)
            time.sleep(0.2)


@pytest.fixture
def call(hub, tmp_path):
    """Run `python …` in an empty folder, with all temporary files below `tmp_path`."""
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    own = {"PYTHONPATH": str(RELEASES.parent), "TMPDIR": str(tmp_path / "temporary"), "HF_DEBUG": "1"}

    def run(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path / "work",
            env=hub.env | own | more,
            capture_output=True,
            text=True,
            timeout=300,
        )
        everything = done.stdout + done.stderr
        assert hub.token not in everything and done.returncode == 0, everything.replace(hub.token, "THE TOKEN")
        return done.stdout

    return run


def test_the_command_publishes_verifies_and_does_nothing_the_second_time(call, hub, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (RELEASES / "axion1-v0.1").rglob("*")}
    watch = Watch(hub.token)
    watch.start()
    command = ("-m", "publish", "axion1-v0.1", "--skip-train", "--repo-id", REPO_ID)
    first = call(*command)
    steps = [line.split()[0] for line in first.splitlines() if line.endswith(" s)")]
    assert steps == ["preflight", "train", "evaluate", "build", "lint", "reload", "push", "verify", "tag", "announce"]
    assert f'repo, revision = "{REPO_ID}", "v0.1"' in first and f"{hub.url}/{REPO_ID}" in first
    state = hub.snapshot()
    refs = state["repos"][f"models/{REPO_ID}"]["refs"]
    assert refs["refs/heads/main"]["commits"] == 2 and refs["refs/tags/v0.1"] == refs["refs/heads/main"]

    summary = json.loads(call(*command, "--json"))
    done = {step["name"]: step["skipped"] for step in summary["steps"]}
    assert all(done[name] for name in ("train", "evaluate", "build", "lint", "reload", "push", "verify", "tag"))
    assert hub.snapshot() == state

    verified = call("-m", "publish", "verify", f"{REPO_ID}@v0.1")
    assert re.search(r"checksums match, logits .*, the card's snippets run", verified)
    assert call("-c", LOAD).endswith(ANSWER)
    requests = len(hub.log)
    assert call("-c", LOAD, HF_HUB_OFFLINE="1").endswith(ANSWER)  # after the first load, no network is needed
    assert len(hub.log) == requests

    watch.done.set()
    watch.join()
    assert any(b"clean_process" in arguments for arguments in watch.seen) and watch.found == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if hub.token.encode() in path.read_bytes()] == []
    assert os.listdir(tmp_path / "temporary") == []
    assert {path: path.stat().st_mtime_ns for path in (RELEASES / "axion1-v0.1").rglob("*")} == before
