"""What a release folder holds: the allow-list of files, and `release.json`, which names each with its sha256."""

from pathlib import Path

import axion
from axion.errors import AxionError
from axion.files import read_json, sha256, write_json

REMOTE_CODE = tuple(sorted(path.name for path in Path(axion.__file__).parent.glob("model/*_axion.py")))
"""The files of `axion/model`, which a release has copies of."""
RELEASE_FILES = (
    "README.md",
    "config.json",
    *REMOTE_CODE,
    "expert-load.png",
    "generation_config.json",
    "metrics.csv",
    "model.model",
    "model.safetensors",
    "model.vocab",
    "recipe.yaml",
    "release.json",
    "tokenizer.json",
    "tokenizer.py",
    "tokenizer_config.json",
    "trace.json",
    "training.png",
)
"""What a release holds that is built today: all of these files."""
REQUIRED_FILES = tuple(
    name for name in RELEASE_FILES if name not in REMOTE_CODE or name in {"configuration_axion.py", "modeling_axion.py"}
)
"""What any release holds. Older ones have the model in one file, and `config.json` and its imports name the others."""
OPTIONAL_FILES = (".eval_results/gsm8k.yaml",)
"""What a release holds where its figures were measured. Nothing else belongs in one, and nothing else is ever sent."""


def files_in(folder: Path) -> list[str]:
    """The files of a folder and the folders in it, as paths relative to it with forward slashes, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def check_names(folder: Path) -> None:
    """Check that a folder holds the allow-list and nothing else.

    Raises:
        AxionError: it does not; the message names the first file.
    """
    present = set(files_in(folder))
    if missing := sorted(set(RELEASE_FILES) - present):
        raise AxionError(f"{missing[0]} is missing from the release")
    if stray := sorted(present - {*RELEASE_FILES, *OPTIONAL_FILES}):
        raise AxionError(f"{stray[0]} does not belong in the release")


def read_manifest(folder: Path) -> dict:
    """The content of a folder's `release.json`.

    Raises:
        AxionError: there is none, it is broken, or it lists no files.
    """
    try:
        info = read_json(folder / "release.json")
    except FileNotFoundError:
        info = {}
    except ValueError as error:
        raise AxionError(f"{folder / 'release.json'} is broken: {error}") from None
    if not isinstance(info, dict) or not info.get("files"):
        raise AxionError(f"{folder} has no release.json with the sha256 of its files; build the release with: publish")
    return info


def write_manifest(folder: Path, info: dict) -> None:
    """Write `release.json`: `info`, and the sha256 of every other file of the folder."""
    files = {name: sha256(folder / name) for name in files_in(folder) if name != "release.json"}
    content = {key: value for key, value in info.items() if key != "files"} | {"files": files}
    write_json(folder / "release.json", content)


def check_files(folder: Path) -> dict:
    """Check that every file that `release.json` lists is there, unchanged; returns its content.

    Raises:
        AxionError: it lists none, or a file is missing or differs from its sha256.
    """
    info = read_manifest(folder)
    for name, digest in info["files"].items():
        if not (folder / name).is_file():
            raise AxionError(f"{folder} lacks {name}, which its release.json lists; build the release again")
        if sha256(folder / name) != digest:
            raise AxionError(f"{folder / name} is not the file that release.json describes; build the release again")
    return info
