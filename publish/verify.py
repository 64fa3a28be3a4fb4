"""Prove that a release folder works for somebody who has nothing but the folder."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.release import open_release
from publish import clean_process
from publish.manifest import check_files

TIMEOUT_SECONDS = 300


def verify_release(folder: Path) -> str:
    """Check the files, load the folder in a clean process and compare it with the local model, bit for bit.

    The clean process lives in an empty directory with an empty Hub cache, no network, and no way to import this
    project. It also runs the card's own Python snippets.

    Returns:
        One line that says what was checked.

    Raises:
        AxionError: the release is not what it claims to be; the message says where.
    """
    release = open_release(folder)
    info = check_files(folder)
    with tempfile.TemporaryDirectory(prefix="axion-verify-") as scratch:
        theirs = run_clean(folder, Path(scratch))
    if not torch.equal(release.tokenizer(clean_process.PROMPT, return_tensors="pt").input_ids, theirs["input_ids"]):
        raise AxionError(f"{folder}: the tokenizer gives other ids in a clean process")
    ours = _compute_locally(release.model, theirs["input_ids"])
    for name in ("logits", "generated"):
        if not torch.equal(ours[name], theirs[name]):
            raise AxionError(f"{folder}: the {name} of the local model and of a clean process differ")
    return f"{len(info['files'])} sha256 hold, logits and text are bit-equal, the card's snippets run"


def run_clean(folder: Path, scratch: Path, python: str = sys.executable) -> dict[str, torch.Tensor]:
    """Run `clean_process.py` on a release folder.

    Args:
        folder: the release.
        scratch: an empty directory, for the process's working directory, Hub cache and result.
        python: the interpreter.

    Returns:
        `input_ids` [1, S], `logits` [1, S, V] and `generated`, see `clean_process.compute`.

    Raises:
        AxionError: the process failed or took too long; the message ends with its last line.
    """
    result = scratch / "result.safetensors"
    # -I: neither PYTHONPATH nor the working directory is on the path; -B: no __pycache__ in the release.
    command = [python, "-I", "-B", "-X", "utf8", clean_process.__file__, str(folder.resolve()), str(result)]
    try:
        process = subprocess.run(
            command,
            cwd=scratch,
            env=_clean_environment(scratch),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise AxionError(f"{folder} did not load in a clean process within {TIMEOUT_SECONDS} seconds") from None
    if process.returncode != 0:
        last_line = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise AxionError(f"{folder} fails in a clean process: {last_line}")
    return load_file(result)


def _clean_environment(scratch: Path) -> dict[str, str]:
    """This environment without Python's, the Hub's and transformers' settings (tokens among them), offline."""
    private = ("PYTHON", "HF_", "HUGGING_FACE", "HUGGINGFACE", "TRANSFORMERS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    cache = {"HF_HOME": str(scratch / "hf"), "HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    return kept | cache


@torch.no_grad()
def _compute_locally(model: torch.nn.Module, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `clean_process.compute` computes, with the local model."""
    attention_mask = torch.ones_like(input_ids)
    new_tokens = clean_process.NEW_TOKENS
    return {
        "logits": model(input_ids=input_ids, attention_mask=attention_mask).logits,
        "generated": model.generate(
            input_ids,
            attention_mask=attention_mask,
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
        ),
    }
