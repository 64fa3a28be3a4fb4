"""Runs the engine in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("engine.mjs")

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (apt install nodejs)")


def run_engine(task: str, **values: Any) -> Any:
    """The result of one of the tasks in engine.mjs."""
    done = subprocess.run(
        ["node", str(SCRIPT)],
        input=json.dumps({"task": task, **values}, default=str),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
