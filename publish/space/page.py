"""The page without a server: built by `python -m playground.web`, as a folder for anyone or as a static Space."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import RepoCard, SpaceCardData, constants

from axion.errors import AxionError
from axion.release import open_release
from axion.shipped import ROOT, shipped
from publish.check.lint import scan_text_files
from publish.release.card import datasets_of
from publish.release.templates import environment
from publish.space.build import BUNDLED, FRONT_MATTER, SERVER_KEYS, PublishedModel, check_front_matter

STATIC_FRONT_MATTER = {
    **{name: value for name, value in FRONT_MATTER.items() if name not in SERVER_KEYS},
    "sdk": "static",
    "app_file": "index.html",
}
"""The static page's own; see `publish.space.build.FRONT_MATTER`."""

FILES = ("index.html", "page.js", "page.css", "worker.js", "decoder.wasm", "service_worker.js")


def write_page(references: Sequence[str], folder: Path, linked: bool = False) -> dict[str, str]:
    """Write the page that shows some releases into a folder.

    Args:
        references: folders, names under releases/, or Hub ids with their commit.
        folder: new, empty, or an earlier page, which is replaced.
        linked: leave the weights of models on the Hub, from where browsers read them.

    Returns:
        "folder": the page's index.html; "file": the page as one file, if it has all its models.

    Raises:
        AxionError: a release is broken, or the folder has other files or cannot be written.
    """
    command = [sys.executable, "-m", "playground.web", *references, "--out", str(folder)]
    command += ["--weights-on-hub"] if linked else []
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    surroundings = os.environ | {"PYTHONPATH": paths, "HF_ENDPOINT": constants.ENDPOINT}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise AxionError(last if done.returncode == 2 else f"the page cannot be built: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def build_static_space(folder: Path, models: Sequence[PublishedModel] = (), linked: bool = False) -> None:
    """Write a static Space into a new folder: the page, and the README.md that configures it.

    Args:
        folder: must not exist, or be empty.
        models: the models to show; without any, the bundled release.
        linked: leave the models' weights in their repositories.

    Raises:
        AxionError: a model is broken, or a file has a secret or a local path.
    """
    write_page([model.reference for model in models] or [BUNDLED], folder, linked)
    datasets = sorted({dataset for model in models for dataset in model.datasets})
    front_matter: dict[str, Any] = STATIC_FRONT_MATTER | {
        "models": [model.repo_id for model in models] or None,
        "datasets": (datasets if models else datasets_of(open_release(BUNDLED).info)) or None,
    }
    body = environment().get_template("static_space.md.j2").render(models=models, bundled=BUNDLED, linked=linked)
    text = f"---\n{SpaceCardData(**front_matter).to_yaml()}\n---\n\n{body}"
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "LICENSE").write_bytes(shipped("LICENSE").read_bytes())
    check_front_matter(folder)
    if problems := scan_text_files(folder):
        raise AxionError(f"the Space: {problems[0]}")


def check_page(folder: Path) -> str:
    """Check that a page has every file that it names, as it was when the page was built.

    Returns:
        A summary.

    Raises:
        AxionError: a file is missing, or of another size.
    """
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise AxionError(f"the page has no {missing[0]}")
    index = (folder / "index.html").read_text(encoding="utf-8")
    data = json.loads(index.partition('id="axion-page">')[2].partition("</script>")[0])
    local = 0
    for model in data["models"]:
        if not (folder / model["content"]).is_file():
            raise AxionError(f"the page has no {model['content']}")
        for file in model["files"].values():
            if "://" in file["path"]:
                continue
            local += 1
            place = folder / file["path"]
            if not place.is_file() or place.stat().st_size != file["bytes"]:
                raise AxionError(f"{file['path']} is missing, or not the file that the page was built with")
    names = ", ".join(model["name"] for model in data["models"])
    return f"{names}: {local} files of models beside the page" if local else f"{names}: all weights on the Hub"


def sdk_of(folder: Path) -> str:
    """The SDK that a Space's README.md names."""
    return str(RepoCard((folder / "README.md").read_text(encoding="utf-8")).data.to_dict().get("sdk"))
