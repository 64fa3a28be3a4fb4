"""What a release folder holds: the allowed files, and `release.json`, which lists each with its sha256."""

import hashlib
import json
import re
from pathlib import Path, PurePosixPath

import axion.model
from axion.errors import AxionError, one_line
from axion.files import read_json, sha256, write_json
from axion.tokenizer import has_own_form
from axion.training.metrics import EVALUATIONS_FILE, HISTORY_FILE

CODE = Path(axion.model.__path__[0])
"""The folder of the remote code, which is copied into every release."""
REMOTE_CODE = tuple(sorted(path.name for path in CODE.glob("*_axion.py")))
"""The remote code that this version of Axion writes. Older releases have other files, see `remote_code`."""

MANIFEST = "release.json"
EXPERT_LOAD = "expert-load.png"
"""The chart of the experts' load. A dense model has none."""
REQUIRED_FILES = (
    "README.md",
    "config.json",
    EXPERT_LOAD,
    "generation_config.json",
    "metrics.csv",
    "model.model",
    "model.safetensors",
    "model.vocab",
    "recipe.yaml",
    MANIFEST,
    "tokenizer.json",
    "tokenizer.py",
    "tokenizer_config.json",
    "trace.json",
    "training.png",
)
"""Every release has these files, in addition to its remote code."""
PLAIN_TOKENIZER = ("model.model", "model.vocab", "tokenizer.py")
"""The tokenizer without transformers. A release with a tokenizer of others has none of these."""
LICENSE = "LICENSE"
EVAL_RESULTS = ".eval_results/gsm8k.yaml"
CHAT_TEMPLATE = "chat_template.jinja"
HELD_OUT = "heldout.jsonl"
OPTIONAL_FILES = (EVAL_RESULTS, LICENSE, CHAT_TEMPLATE, HELD_OUT, EVALUATIONS_FILE, HISTORY_FILE)
"""Not every release has these files: the benchmark may not have been measured, only MIT's text comes along, not every
model was taught to chat, held-out documents may be private, and earlier and very short runs kept no list of their
evaluations and no history."""

CHECKPOINT = "checkpoint"
"""The value of "form" in the release.json of a branch that holds an intermediate checkpoint."""
OF_A_RELEASE = (EXPERT_LOAD, "trace.json", "training.png")
"""Required files that only the release of the whole run has."""

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = (
    "README.md",
    ADAPTER_CONFIG,
    "adapter_model.safetensors",
    CHAT_TEMPLATE,
    MANIFEST,
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What the repository of an adapter has, which is published without the model that it belongs to."""

_RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.(\w+)\s+import", re.MULTILINE)  # as transformers finds them


def files_in(folder: Path) -> list[str]:
    """All files below a folder, as sorted relative paths with forward slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def remote_code(folder: Path) -> set[str]:
    """The Python files that transformers loads from a release: those of `auto_map`, and what they import.

    Files that are named but missing are included. Releases differ in how many files their code has, so this reads the
    folder instead of assuming `REMOTE_CODE`.
    """
    try:
        auto_map = json.loads(_read(folder / "config.json"))["auto_map"]
        targets = [target for target in auto_map.values() if isinstance(target, str)]
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return set()
    modules = (target.rpartition(".")[0].rpartition("--")[2] for target in targets)
    waiting, found = {f"{module}.py" for module in modules if module.isidentifier()}, set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            imports = _RELATIVE_IMPORT.findall(_read(folder / name))
        except (OSError, ValueError):
            continue
        waiting |= {f"{module}.py" for module in imports} - found
    return found


def _read(path: Path) -> str:
    if not path.is_file():  # opening a pipe would block
        raise FileNotFoundError(path)
    return path.read_text(encoding="utf-8")


def required_files(folder: Path) -> set[str]:
    """The files that a release must have: its own tokenizer is there in two forms, a chart where it has experts.

    An intermediate checkpoint has no charts and no trace.
    """
    without = (set() if has_own_tokenizer(folder) else {*PLAIN_TOKENIZER}) | (
        set() if has_experts(folder) else {EXPERT_LOAD}
    )
    if is_checkpoint(folder):
        without |= {*OF_A_RELEASE}
    return {*REQUIRED_FILES, *remote_code(folder)} - without


def is_checkpoint(folder: Path) -> bool:
    """Whether release.json says that a folder holds an intermediate checkpoint."""
    try:
        return read_json(folder / MANIFEST)["form"] == CHECKPOINT
    except (OSError, ValueError, LookupError, TypeError):
        return False


def has_experts(folder: Path) -> bool:
    """Whether config.json describes a model with routed experts; also where it cannot be read."""
    try:
        config = read_json(folder / "config.json")
        return config["first_k_dense_replace"] < config["num_hidden_layers"]
    except (OSError, ValueError, LookupError, TypeError):
        return True


def has_own_tokenizer(folder: Path) -> bool:
    """Whether tokenizer.json has the form of Axion's own; also where it cannot be read."""
    try:
        return has_own_form(read_json(folder / "tokenizer.json"))
    except (OSError, ValueError):
        return True


def allowed_files(code: set[str]) -> set[str]:
    """The files that a release may have, given its remote code; anything else is never sent."""
    return {*REQUIRED_FILES, *code, *REMOTE_CODE, *OPTIONAL_FILES}


def check_names(folder: Path) -> None:
    """Check that a folder has all required files and only allowed ones.

    Raises:
        AxionError: it has not; the message names the first file.
    """
    present, code = set(files_in(folder)), remote_code(folder)
    if missing := sorted(required_files(folder) - present):
        raise AxionError(f"{missing[0]} is missing from the release")
    if unexpected := sorted(present - allowed_files(code)):
        raise AxionError(f"{unexpected[0]} does not belong in the release")


def read_manifest(folder: Path) -> dict:
    """The content of a folder's `release.json`.

    Raises:
        AxionError: there is none, it is not valid JSON, or it does not list the files with their sha256.
    """
    try:
        info = read_json(folder / MANIFEST)
    except FileNotFoundError:
        info = {}
    except (ValueError, RecursionError) as error:
        raise AxionError(f"{folder / MANIFEST} is not valid JSON: {one_line(error)}") from None
    files = info.get("files") if isinstance(info, dict) else None
    if not files or not are_checksums(files):
        raise AxionError(
            f"{folder} has no release.json with the sha256 of its files; build the release with `python -m publish`"
        )
    return info


def are_checksums(files: object) -> bool:
    """Whether this is a mapping of relative paths to sha256."""
    return isinstance(files, dict) and all(_is_entry(name, digest) for name, digest in files.items())


def _is_entry(name: str, digest: object) -> bool:
    inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    return inside and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None


def write_manifest(folder: Path, info: dict) -> None:
    """Write `release.json`: `info`, the sha256 of every other file of the folder, and a digest of all that."""
    files = {name: sha256(folder / name) for name in files_in(folder) if name != MANIFEST}
    content = {key: value for key, value in info.items() if key not in ("files", "digest")} | {"files": files}
    write_json(folder / MANIFEST, content | {"digest": _digest(content)})


def is_as_written(info: dict) -> bool:
    """Whether the content of a `release.json` is as `write_manifest` wrote it; earlier ones cannot be checked."""
    return "digest" not in info or info["digest"] == _digest(info)


def _digest(info: dict) -> str:
    content = {key: value for key, value in info.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require(info: dict, *keys: str) -> None:
    """Check that the content of a `release.json` has these keys, each with a text.

    Raises:
        AxionError: it lacks one, so it is not of a complete release.
    """
    if missing := [key for key in keys if not isinstance(info.get(key), str)]:
        raise AxionError(f"release.json has no {missing[0]}; build the release with `python -m publish`")


def check_release(folder: Path) -> dict:
    """Check the files of a release that is to be written again, and that its `release.json` has what the card needs.

    Returns:
        The content of `release.json`.

    Raises:
        AxionError: a file is missing or damaged, a value is missing, or the folder is another form of a release.
    """
    info = check_files(folder)
    if "form" in info:
        raise AxionError(f"{folder} is the {info['form']} form of a release; name the folder of the release itself")
    require(info, "family", "license", "repo_id", "tag")
    if missing := [key for key in ("results", "measured") if not isinstance(info.get(key), dict)]:
        raise AxionError(f"release.json has no {missing[0]}; build the release with `python -m publish`")
    return info


def check_files(folder: Path) -> dict:
    """Check the sha256 of every file that `release.json` lists.

    Returns:
        The content of `release.json`.

    Raises:
        AxionError: there is no valid `release.json`, or a file is missing or has another sha256.
    """
    info = read_manifest(folder)
    for name, digest in info["files"].items():
        if not (folder / name).is_file():
            raise AxionError(f"{folder} lacks {name}, which its release.json lists; build the release again")
        if sha256(folder / name) != digest:
            raise AxionError(f"{folder / name} does not match its sha256 in release.json; build the release again")
    return info
