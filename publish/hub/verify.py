"""Verify that a release works without this project: a folder, or a repository on the Hub."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import torch
from safetensors.torch import load_file

from axion.errors import AxionError
from axion.files import sha256
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import Release, open_release
from publish.hub import clean_process
from publish.hub import client as hub
from publish.hub.delivery import Download
from publish.hub.edits import CARD, RESULTS
from publish.manifest import (
    allowed_files,
    check_files,
    files_in,
    has_own_tokenizer,
    read_manifest,
    remote_code,
    required_files,
)
from publish.markdown import python_snippets
from publish.release.build import AUTO_MAP, code_files
from publish.release.card import python_of_card
from publish.scratch import scratch_folder
from publish.steps import Steps

TIMEOUT_SECONDS = 300
KEPT_VARIABLES = {"PATH", "LANG", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS"}
"""Environment variables that the clean process inherits."""
DOCUMENTS = (".cff", ".csv", ".gif", ".jpeg", ".jpg", ".md", ".pdf", ".png", ".svg", ".txt", ".webp")
"""Suffixes of files that others may add to a release: nothing loads them as code, configuration or weights."""
DOCUMENT_NAMES = {"LICENSE", "LICENCE", "NOTICE", "AUTHORS", ".gitattributes", ".gitignore"}
LOGIT_TOLERANCE = 1e-5
"""Largest difference of two logits, relative to the largest logit, where another implementation computed them."""


def verify_release(folder: Path) -> str:
    """Check the files, load the folder in a clean process, and compare with the local model, bit for bit.

    The clean process has an empty working directory, an empty Hub cache and no network, and cannot import this project.
    It also runs the Python snippets of the card.

    Returns:
        A summary of what was checked.

    Raises:
        AxionError: a check failed; the message says which.
    """
    release = open_release(folder)
    info = check_files(folder)
    with scratch_folder("verify") as scratch:
        theirs = run_clean(folder, scratch)
    _compare(release, theirs)
    return f"{len(info['files'])} checksums match, logits and text are bit-identical, the card's snippets run"


def verify_download(download: Download, tolerance: float = 0.0) -> str:
    """Like `verify_release`, for a commit downloaded from the Hub: the clean process loads it by name and revision.

    Args:
        download: a commit whose checksums are verified.
        tolerance: largest difference from the local logits, relative to the largest one.

    Returns:
        A summary of what was checked.

    Raises:
        AxionError: a check failed; the message says which.
    """
    info = read_manifest(download.folder)
    edited = _check_manifest(download, info)
    _compare(Release(download.repo_id, download.folder), _run_download(download, info), tolerance)
    agree = f"agree to {tolerance:g}" if tolerance else "are bit-identical"
    since = f" (edited since: {', '.join(edited)})" if edited else ""
    return f"{len(info['files'])} files downloaded, checksums match{since}, logits {agree}, the card's snippets run"


def verify_export(download: Download, release: Path) -> str:
    """Check another form of a release as downloaded; the native form is loaded and compared with the original.

    Args:
        download: a commit whose checksums are verified.
        release: the folder of the original.

    Returns:
        A summary of what was checked.

    Raises:
        AxionError: a check failed; the message says which.
    """
    info = read_manifest(download.folder)
    _check_manifest(download, info)
    summary = f"{download.repo_id}: {len(info['files'])} files downloaded, checksums match"
    if info["form"] != "native":
        return summary
    _compare(open_release(release), _run_download(download, info), LOGIT_TOLERANCE)
    return f"{summary}, logits agree to {LOGIT_TOLERANCE:g} without remote code, the card's snippets run"


def _run_download(download: Download, info: dict) -> dict[str, torch.Tensor]:
    """What the clean process computes with a download, loaded by its name on the Hub."""
    # The card's snippets name a tag. Without a network, the cache must know its commit.
    refs = download.folder.parent.parent / "refs"
    refs.mkdir(exist_ok=True)
    (refs / info["tag"]).write_text(download.commit, encoding="utf-8")
    with scratch_folder("verify") as scratch:
        return run_clean(download.folder, scratch, download=download)


def verify_published(reference: str, steps: Steps, trust_remote_code: bool = False) -> None:
    """Verify a release on the Hub, whoever published it.

    This runs the release's code and its card's snippets, so both must be identical to what this version of Axion
    writes, unless `trust_remote_code` is set.

    Args:
        reference: USER/NAME@REVISION: a tag, a branch or a commit; main by default.
        steps: reports each step.
        trust_remote_code: run the code whatever it is.

    Raises:
        AxionError: there is no such release, a check failed, or the code is not trusted.
    """
    repo_id, _, revision = reference.partition("@")
    hub.check_repo_id(repo_id, "the release")
    commit = hub.head(repo_id, revision or "main")
    if commit is None:
        raise AxionError(f"{reference} is not on the Hub, or the token has no access to it; write USER/NAME@v0.1")
    with scratch_folder("cache") as cache:
        with steps.step("download") as did:
            download = Download(repo_id, commit, cache, hub.download(repo_id, commit, cache))
            did(f"{repo_id} at {commit[:8]}")
        info = _read_release(download)
        with steps.step("verify") as did:
            if "form" in info:  # native, GGUF or an intermediate checkpoint: what it belongs to is elsewhere
                _check_manifest(download, info)
                did(f"{len(info['files'])} files downloaded, checksums match")
                return
            if not trust_remote_code:
                _check_code_is_ours(download, info)
            did(verify_download(download, LOGIT_TOLERANCE))


def _read_release(download: Download) -> dict:
    """The manifest of a download, which must be a complete release under this name."""
    name = download.repo_id
    try:
        info = read_manifest(download.folder)
    except AxionError:
        raise AxionError(f"{name} is not an Axion release: it has no release.json that lists files") from None
    if not re.fullmatch(r"v\d[\w.]*|step\d[\w-]*", str(info.get("tag"))):
        raise AxionError(f"{name} is not an Axion release: its release.json has no tag")
    if info.get("repo_id") != name:
        raise AxionError(f"{name}: its release.json describes another repository, {info.get('repo_id')}")
    if "form" not in info and (missing := required_files(download.folder) - set(files_in(download.folder))):
        raise AxionError(f"{name} is not a complete Axion release: {min(missing)} is missing")
    return info


def _check_manifest(download: Download, info: dict) -> list[str]:
    """Check the sha256 of every file that the manifest lists; returns which documents were edited since.

    The card and the evaluation results are open to edits, which publishing keeps: the Hub signs results, for example.
    """
    changed = [
        name
        for name, digest in info["files"].items()
        if not (download.folder / name).is_file() or sha256(download.folder / name) != digest
    ]
    if wrong := [name for name in changed if name != CARD and not name.startswith(RESULTS)]:
        raise AxionError(f"{download.repo_id}: {wrong[0]} does not match its sha256 in release.json")
    return changed


def _check_code_is_ours(download: Download, info: dict) -> None:
    """Check that all code which the clean process would run is what this version of Axion writes.

    transformers also looks for code under names of its own (custom_generate/, for example), so of other files only
    documents may be there.
    """
    folder, advice = download.folder, "look at it, then allow it with --trust-remote-code"
    code = remote_code(folder)
    allowed = allowed_files(code)
    if unexpected := [name for name in files_in(folder) if name not in allowed and not _is_document(name)]:
        raise AxionError(f"{download.repo_id}: {unexpected[0]} does not belong in a release; {advice}")
    ours = {source.name: source.read_bytes() for source in code_files(has_own_tokenizer(folder))}
    for name in sorted(code | ours.keys()):
        if not (folder / name).is_file() or (folder / name).read_bytes() != ours.get(name):
            raise AxionError(f"{download.repo_id}: {name} differs from this version of Axion; {advice}")
    for name, expected in (("config.json", AUTO_MAP), ("tokenizer_config.json", None)):
        if _auto_map(folder / name) != expected:
            raise AxionError(f"{download.repo_id}: the auto_map of {name} differs from this version of Axion; {advice}")
    card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    # Compared with the template, not with a card rendered from release.json, which could itself inject code.
    if not set(python_snippets(card)) <= set(python_of_card(info, download.repo_id)):
        raise AxionError(f"{download.repo_id}: the card's Python snippets differ from this version of Axion; {advice}")


def _is_document(name: str) -> bool:
    path = PurePosixPath(name)
    is_result = str(path.parent) == ".eval_results" and path.suffix in (".yaml", ".yml")
    return is_result or path.name in DOCUMENT_NAMES or path.suffix.lower() in DOCUMENTS


def _auto_map(path: Path) -> object:
    """The `auto_map` of a JSON file; for an invalid file, something that no `auto_map` equals."""
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
        scratch: an empty directory for the process's working directory, caches and result.
        python: the interpreter.
        download: load the model by this download's name and commit, from its cache.

    Returns:
        `input_ids` [1, S], `logits` [1, S, V] and `generated`, see `clean_process.compute`.

    Raises:
        AxionError: the process failed or timed out; the message ends with its last line.
    """
    result = scratch / "result.safetensors"
    name = download.repo_id if download else str(folder)
    # -I: neither PYTHONPATH nor the working directory is searched for modules; -B: no __pycache__ in the release.
    command = [python, "-I", "-B", "-X", "utf8", clean_process.__file__, str(folder.resolve()), str(result)]
    if download:
        command += [download.repo_id, download.commit]
    try:
        process = subprocess.run(
            command,
            cwd=scratch,
            env=_clean_environment(scratch, download.cache if download else None),
            input=json.dumps(_snippets(folder, by_name=download is not None)),
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


def _snippets(folder: Path, by_name: bool) -> list[str]:
    """The card's Python snippets. Unless `by_name`, they load the model from the folder, not from the repository."""
    snippets = python_snippets((folder / "README.md").read_text(encoding="utf-8", errors="replace"))
    if by_name:
        return snippets
    repo_id = read_manifest(folder).get("repo_id")
    return [snippet.replace(f'"{repo_id}"', '"."') for snippet in snippets]


def _clean_environment(scratch: Path, cache: Path | None = None) -> dict[str, str]:
    """The environment variables that a process needs to run, and no others: the code must not see any token."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES or name.startswith("LC_")}
    own = {name: str(scratch) for name in ("HOME", "TMPDIR", "TEMP", "TMP")}  # removed with scratch
    own |= {"HF_HOME": str(scratch / "hf"), "HF_MODULES_CACHE": str(scratch / "modules"), "HF_HUB_OFFLINE": "1"}
    return kept | own | ({"HF_HUB_CACHE": str(cache)} if cache else {})


def _compare(release: Release, theirs: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    """Compare what the clean process computed with what this project's classes compute."""
    if not torch.equal(release.tokenizer(clean_process.PROMPT, return_tensors="pt").input_ids, theirs["input_ids"]):
        raise AxionError(f"{release.name}: the tokenizer gives different ids in a clean process")
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
def _compute_locally(model: AxionForCausalLM, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `clean_process.compute` computes, with the local model."""
    attention_mask = torch.ones_like(input_ids)
    new_tokens = clean_process.NEW_TOKENS
    return {
        "logits": model(input_ids=input_ids, attention_mask=attention_mask).logits,
        "generated": model.generate(  # pyright: ignore[reportAttributeAccessIssue] (transformers' lazy imports hide it)
            input_ids,
            attention_mask=attention_mask,
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
        ),
    }
