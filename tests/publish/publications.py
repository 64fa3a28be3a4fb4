"""What a publication of the tiny run is asked for, and the steps that it has."""

from pathlib import Path

from axion.files import sha256
from axion.release import RELEASES
from publish.manifest import REMOTE_CODE, REQUIRED_FILES, files_in
from publish.pipeline import PublishRequest, publish
from publish.steps import Steps

REPO_ID = "someone/Axion-tiny"
BUNDLED = RELEASES / "axion1-v0.1"
SYNTHETIC = ("data.hub_id=null", "data.arithmetic=300", "data.word_problems=0")
"""Data that is generated in a second, without a network."""
FILES = len(REQUIRED_FILES) + len(REMOTE_CODE) + 1
"""With the licence."""
DRY = ["preflight", "train", "evaluate", "build", "lint", "reload", "push"]
WHOLE = [*DRY, "verify", "tag", "announce"]


def run_steps(request: PublishRequest) -> dict[str, str]:
    lines = []
    publish(request, Steps(lines.append))
    return {line.split()[0]: line for line in lines}


def contents(folder: Path) -> dict:
    return {name: (sha256(folder / name), (folder / name).stat().st_mtime_ns) for name in files_in(folder)}
