"""Prove that a release works for somebody who has nothing but the release: a folder, or a repository on the Hub."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.files import sha256
from axion.release import Release, open_release
from publish.hub import clean_process
from publish.hub import client as hub
from publish.hub.delivery import Download
from publish.manifest import OPTIONAL_FILES, RELEASE_FILES, REQUIRED_FILES, check_files, files_in, read_manifest
from publish.release.build import AUTO_MAP, code_files
from publish.release.card import python_of_card
from publish.steps import Steps

TIMEOUT_SECONDS = 300
NEEDED = {"PATH", "LANG", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS"}
"""The variables that a clean process keeps."""
SAME_LOGITS = 1e-5
"""Largest difference of two logits, relative to the largest logit, for what other code computes."""


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
    _compare(release, theirs)
    return f"{len(info['files'])} sha256 hold, logits and text are bit-equal, the card's snippets run"


def verify_download(download: Download, tolerance: float = 0.0) -> str:
    """The same for what was downloaded from the Hub, loaded by its name there, pinned, from nothing but that cache.

    Args:
        download: a commit, its checksums right.
        tolerance: how far logits may be from the local ones, relative to the largest.

    Returns:
        One line that says what was checked.

    Raises:
        AxionError: the release is not what it claims to be; the message says where.
    """
    info = read_manifest(download.folder)
    edited = _check_manifest(download, info)
    _compare(Release(download.repo_id, download.folder), _run_download(download, info), tolerance)
    agree = f"agree to {tolerance:g}" if tolerance else "are bit-equal"
    card = "the card was edited since; its snippets run" if edited else "the card's snippets run"
    return f"{len(info['files'])} files downloaded, checksums hold, logits {agree}, {card}"


def verify_export(download: Download, release: Path) -> str:
    """Check what was downloaded of another form of a release; the native one is loaded and compared with the original.

    Args:
        download: a commit, its checksums right.
        release: the folder of the original.

    Returns:
        One line that says what was checked.

    Raises:
        AxionError: it is not what it claims to be; the message says where.
    """
    info = read_manifest(download.folder)
    _check_manifest(download, info)
    said = f"{download.repo_id}: {len(info['files'])} files downloaded, checksums hold"
    if info["form"] != "native":
        return said
    _compare(open_release(release), _run_download(download, info), SAME_LOGITS)
    return f"{said}, logits agree to {SAME_LOGITS:g} without remote code, the card's snippets run"


def _run_download(download: Download, info: dict) -> dict[str, torch.Tensor]:
    """What a clean process computes with a download, by its name on the Hub."""
    # That process has no network, so the tag that the card's snippets name must be known to the cache.
    refs = download.folder.parent.parent / "refs"
    refs.mkdir(exist_ok=True)
    (refs / info["tag"]).write_text(download.commit, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="axion-verify-") as scratch:
        return run_clean(download.folder, Path(scratch), download=download)


def verify_published(reference: str, steps: Steps, trust_remote_code: bool = False) -> None:
    """Verify a release on the Hub, anybody's, as it is there now.

    Its code and the snippets of its card are run, so both must be this project's own, to the letter, or be trusted.

    Args:
        reference: USER/NAME@REVISION: a tag, a branch or a commit; main without one.
        steps: is told each step.
        trust_remote_code: run its code whatever it is.

    Raises:
        AxionError: there is no such release, or it is not what it claims to be, or its code is not trusted.
    """
    repo_id, _, revision = reference.partition("@")
    hub.check_repo_id(repo_id, "the release")
    commit = hub.head(repo_id, revision or "main")
    if commit is None:
        raise AxionError(f"{reference} is not on the Hub, or the token may not see it; write USER/NAME@v0.1")
    with tempfile.TemporaryDirectory(prefix="axion-fresh-cache-") as cache:
        with steps.step("download") as did:
            download = Download(repo_id, commit, Path(cache), hub.download(repo_id, commit, Path(cache)))
            did(f"{repo_id} at {commit[:8]}")
        info = _read_release(download)
        with steps.step("verify") as did:
            if "form" in info:  # native or GGUF: there is no code in it, and its original is elsewhere
                _check_manifest(download, info)
                did(f"{len(info['files'])} files downloaded, checksums hold")
                return
            if not trust_remote_code:
                _check_code_is_ours(download, info)
            did(verify_download(download, SAME_LOGITS))


def _read_release(download: Download) -> dict:
    """The manifest of a download, which must be that of a release, under this name."""
    try:
        info = read_manifest(download.folder)
    except AxionError:
        raise AxionError(
            f"{download.repo_id} is no release of Axion: it has no release.json that lists files"
        ) from None
    if not isinstance(info["files"], dict) or not re.fullmatch(r"v\d[\w.]*", str(info.get("tag"))):
        raise AxionError(f"{download.repo_id} is no release of Axion: its release.json names no tag or no checksums")
    if info.get("repo_id") != download.repo_id:
        raise AxionError(f"{download.repo_id}: its release.json describes another repository, {info.get('repo_id')}")
    if missing := [name for name in REQUIRED_FILES if "form" not in info and not (download.folder / name).is_file()]:
        raise AxionError(f"{download.repo_id} is no whole release of Axion: {missing[0]} is missing")
    return info


def _check_manifest(download: Download, info: dict) -> bool:
    """Check the sha256 of every file that the manifest lists; returns whether the card was edited since."""
    changed = [
        name
        for name, digest in info["files"].items()
        if not (download.folder / name).is_file() or sha256(download.folder / name) != digest
    ]
    if wrong := [name for name in changed if name != "README.md"]:
        raise AxionError(f"{download.repo_id}: {wrong[0]} is not the file that its release.json describes")
    return bool(changed)


def _check_code_is_ours(download: Download, info: dict) -> None:
    """Check that whatever a clean process would run of a download is what this version of Axion writes.

    transformers looks for code by itself (custom_generate/, for one), so a file that Axion doesn't write is none to run
    beside.
    """
    advice = "look at it, then allow it with --trust-remote-code"
    known = {*RELEASE_FILES, *OPTIONAL_FILES, ".gitattributes"}
    if strange := [name for name in files_in(download.folder) if name not in known]:
        raise AxionError(f"{download.repo_id}: {strange[0]} is no file of a release; {advice}")
    for source in code_files():
        copy = download.folder / source.name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            raise AxionError(f"{download.repo_id}: {source.name} is not this version's of Axion; {advice}")
    for name, expected in (("config.json", AUTO_MAP), ("tokenizer_config.json", None)):
        if _auto_map(download.folder / name) != expected:
            raise AxionError(f"{download.repo_id}: {name} names other code in its auto_map; {advice}")
    card = (download.folder / "README.md").read_text(encoding="utf-8", errors="replace")
    # From the template, not from a card rendered anew: a stranger's release.json could bring code of its own into that.
    ours = python_of_card(str(info.get("family")), download.repo_id, info["tag"])
    if not set(clean_process.python_snippets(card)) <= set(ours):
        raise AxionError(f"{download.repo_id}: the card's Python snippets are not this version's of Axion; {advice}")


def _auto_map(path: Path) -> object:
    """The code that a JSON file names; the file itself where it is broken, which is never right."""
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("auto_map")
    except (ValueError, AttributeError):
        return path


def run_clean(
    folder: Path, scratch: Path, python: str = sys.executable, download: Download | None = None
) -> dict[str, torch.Tensor]:
    """Run `clean_process.py` on a release folder.

    Args:
        folder: the release.
        scratch: an empty directory, for the process's working directory, Hub cache and result.
        python: the interpreter.
        download: load the model by the name and commit of this download, from its cache.

    Returns:
        `input_ids` [1, S], `logits` [1, S, V] and `generated`, see `clean_process.compute`.

    Raises:
        AxionError: the process failed or took too long; the message ends with its last line.
    """
    result = scratch / "result.safetensors"
    name = download.repo_id if download else str(folder)
    # -I: neither PYTHONPATH nor the working directory is on the path; -B: no __pycache__ in the release.
    command = [python, "-I", "-B", "-X", "utf8", clean_process.__file__, str(folder.resolve()), str(result)]
    if download:
        command += [download.repo_id, download.commit]
    try:
        process = subprocess.run(
            command,
            cwd=scratch,
            env=_clean_environment(scratch, download.cache if download else None),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise AxionError(f"{name} did not load in a clean process within {TIMEOUT_SECONDS} seconds") from None
    if process.returncode != 0:
        last_line = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise AxionError(f"{name} fails in a clean process: {last_line}")
    return load_file(result)


def _clean_environment(scratch: Path, cache: Path | None = None) -> dict[str, str]:
    """What a process needs of this environment to run, and nothing else: whoever's code it runs sees no token."""
    kept = {name: value for name, value in os.environ.items() if name in NEEDED or name.startswith("LC_")}
    own = {name: str(scratch) for name in ("HOME", "TMPDIR", "TEMP", "TMP")}  # what it leaves behind goes with scratch
    own |= {"HF_HOME": str(scratch / "hf"), "HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    return kept | own | ({"HF_HUB_CACHE": str(cache)} if cache else {})


def _compare(release: Release, theirs: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    """Compare what a clean process computed with what this project's classes compute."""
    if not torch.equal(release.tokenizer(clean_process.PROMPT, return_tensors="pt").input_ids, theirs["input_ids"]):
        raise AxionError(f"{release.name}: the tokenizer gives other ids in a clean process")
    ours = _compute_locally(release.model, theirs["input_ids"])
    largest = ours["logits"].abs().max()
    same = {
        "logits": bool((ours["logits"] - theirs["logits"]).abs().max() <= tolerance * largest),
        "generated": torch.equal(ours["generated"], theirs["generated"]),
    }
    for name, holds in same.items():
        if not holds:
            raise AxionError(f"{release.name}: the {name} of the local model and of a clean process differ")


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
