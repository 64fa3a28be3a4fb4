"""Build a Space: a self-contained folder with the page, what it imports, and the README.md that configures it.

The files are found by their imports: `app.py` and every module of the project that it imports, directly or not, with
the page's assets and texts and the sources of the kernels. The libraries that these modules import become the Space's
requirements, with this project's pinned versions.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from importlib.metadata import requires as distribution_requires
from modulefinder import ModuleFinder
from pathlib import Path
from sys import stdlib_module_names

from huggingface_hub import RepoCard, SpaceCardData, SpaceHardware
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from axion.errors import AxionError
from axion.release import WANTED_FROM_HUB, open_release
from axion.shipped import ROOT, path_in_repository, shipped
from publish.check.lint import scan_text_files
from publish.manifest import files_in
from publish.release.card import datasets_of
from publish.release.metadata import check_license
from publish.release.templates import environment

BUNDLED = "axion1-v0.1"
"""The release under releases/ that is copied into the Space if no published model is given."""

READ = ("axion/kernels/csrc", "axion/data/templates")
"""Folders whose files the page reads: the sources of the kernels, which a Space with a compiler compiles, and the
sentences by which it recognises questions."""
PACKAGES = {"axion", "playground"}
ASSETS = {".css", ".html", ".js", ".json", ".md", ".png", ".svg"}
TORCH = "torch>=2.8,<2.12"
"""The versions of ZeroGPU, instead of this project's pin. Source: https://huggingface.co/docs/hub/spaces-zerogpu"""
OPTIONAL_IMPORTS = {"spaces"}
"""Preinstalled on Gradio Spaces, and not needed elsewhere."""
TRAINING_IMPORTS = {"datasets", "pyarrow", "tiktoken"}
"""Imported when training data is read or encoded, which the page never does: it shows what a recipe may say of both."""
ZERO_GPU = SpaceHardware.ZERO_A10G.value
"""Shared hardware, free for two Spaces per account; see `playground.server.zero_gpu`."""

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
FRONT_MATTER = {
    "title": "Axion: see the experts think",
    "emoji": "🔬",
    "colorFrom": "blue",
    "colorTo": "green",
    "sdk": "gradio",
    "python_version": "3.12",
    "app_file": "app.py",
    "short_description": "A tiny DeepSeek-V3: see which experts read each token",
    "license": "mit",
    "tags": ["axion", "deepseek_v3", "mixture-of-experts", "interpretability", "tiny"],
    "suggested_hardware": ZERO_GPU,  # for duplicates of the Space
}
SERVER_KEYS = {"sdk_version", "python_version", "suggested_hardware"}
"""Keys of the front matter that a static Space has not."""
MAX_SHORT_DESCRIPTION = 60
REPOSITORIES = ("models", "datasets")
PRELOAD = re.compile(r"(\S+) (\S+) ([0-9a-f]{40})")


@dataclass(frozen=True)
class PublishedModel:
    """A model on the Hub that the Space shows, pinned to a commit."""

    repo_id: str
    commit: str
    """The full sha."""
    files: tuple[str, ...]
    """The files that the page reads."""
    datasets: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """For `axion.release.open_release`."""
        return f"{self.repo_id}@{self.commit}"


def build_space(folder: Path, models: Sequence[PublishedModel] = (), bundled: str = BUNDLED) -> None:
    """Write the Space into a new folder.

    Args:
        folder: must not exist, or be empty.
        models: the models to show, which stay on the Hub.
        bundled: without models, the release under releases/ to copy into the folder.

    Raises:
        AxionError: the folder is not empty, there is no such release, or a file has a secret or a local path.
    """
    if folder.exists() and any(folder.iterdir()):
        raise AxionError(f"{folder} is not empty; choose a new folder for the Space")
    modules, libraries = find_imports(shipped("app.py"))
    assets = (file for file in shipped("playground").rglob("*") if file.suffix in ASSETS)
    sources = [*modules, *(file for file in assets if not file.is_relative_to(shipped("playground/web")))]
    read = (file for folder in READ for file in shipped(folder).rglob("*") if file.is_file())
    sources += [*(file for file in read if file.suffix not in {".py", ".pyc"}), shipped("LICENSE")]
    files = {path_in_repository(source): source for source in sources}
    datasets = sorted({dataset for model in models for dataset in model.datasets})
    if not models:
        release = open_release(bundled)
        names = filter_repo_objects(files_in(release.folder), allow_patterns=WANTED_FROM_HUB)
        files |= {f"releases/{release.name}/{name}": release.folder / name for name in names}
        datasets = datasets_of(release.info)
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (folder / "requirements.txt").write_text(requirements(libraries), encoding="utf-8")
    (folder / "README.md").write_text(render_readme(models, datasets, bundled), encoding="utf-8")
    check_front_matter(folder)
    if problems := scan_text_files(folder):
        raise AxionError(f"the Space: {problems[0]}")


def find_imports(script: Path) -> tuple[list[Path], set[str]]:
    """The direct and indirect imports of a script, including those in functions.

    Returns:
        The project's files, including the script, and the import names of other libraries.
    """
    finder = _ProjectFinder(path=[str(ROOT)])
    finder.run_script(str(script))
    files = sorted(Path(file) for module in finder.modules.values() if (file := getattr(module, "__file__", None)))
    libraries = {name.partition(".")[0] for name in finder.badmodules} - {file.parent.name for file in files}
    return files, libraries - stdlib_module_names - OPTIONAL_IMPORTS - TRAINING_IMPORTS


class _ProjectFinder(ModuleFinder):
    """Finds modules of this project only; in an installation, ROOT contains other libraries too."""

    def find_module(self, name, path, parent=None):
        if path is None and name not in PACKAGES:
            raise ImportError(name)
        return super().find_module(name, path, parent)


def requirements(libraries: set[str]) -> str:
    """The text of the Space's requirements.txt: the imported libraries, pinned as in this project, except torch.

    Raises:
        AxionError: a library is not pinned in this project's requirements.txt.
    """
    pins = {}
    for line in shipped("requirements.txt").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            pins[_distribution(line)] = line
    pins["torch"] = TORCH
    brought = {
        _distribution(line) for name in ("gradio", "huggingface_hub") for line in distribution_requires(name) or ()
    }
    distributions = packages_distributions()
    lines = []
    for library in sorted(libraries):
        names = {name.lower().replace("_", "-") for name in distributions.get(library, [library])}
        if not names & (pins.keys() | brought):
            raise AxionError(f"the page imports {library}, which requirements.txt does not pin")
        lines += [pins[name] for name in sorted(names & pins.keys())]
    return "\n".join(lines) + "\n"


def _distribution(requirement: str) -> str:
    """The name in a line such as `gradio[mcp]==6.31.0`."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def render_readme(models: Sequence[PublishedModel], datasets: Sequence[str], bundled: str) -> str:
    """The Space's README.md: front matter, which configures it, and a description."""
    front_matter = FRONT_MATTER | {
        "sdk_version": version("gradio"),
        "models": [model.repo_id for model in models] or None,
        "datasets": list(datasets) or None,
        "preload_from_hub": [f"{model.repo_id} {','.join(model.files)} {model.commit}" for model in models] or None,
    }
    body = environment().get_template("space.md.j2").render(models=models, bundled=bundled)
    return f"---\n{SpaceCardData(**front_matter).to_yaml()}\n---\n\n{body}"


def check_front_matter(folder: Path) -> None:
    """Check the configuration of a Space, Gradio's or a static one, as the Hub does, before anything is pushed.

    Raises:
        AxionError: the Hub would reject the front matter of README.md; the message names the key.
    """
    values: Mapping = RepoCard((folder / "README.md").read_text(encoding="utf-8")).data.to_dict()
    needed = {*FRONT_MATTER, "sdk_version"}
    if values.get("sdk") == "static":
        needed -= SERVER_KEYS
    known = {*needed, "preload_from_hub", *REPOSITORIES}
    problems = dict.fromkeys(values.keys() - known, "is unknown")
    problems |= dict.fromkeys(needed - values.keys(), "is missing")
    for key, value in values.items():
        if key not in problems and (problem := _find_problem(key, value, folder)):
            problems[key] = problem
    if problems:
        key = min(problems)
        raise AxionError(f"README.md of the Space: {key} {problems[key]}")


def _find_problem(key: str, value: object, folder: Path) -> str | None:
    """What is wrong with a value of the front matter, as a sentence whose subject is the key; None if it is valid."""
    if key in {*REPOSITORIES, "tags", "preload_from_hub"}:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            return "must be a list of strings"
        return next(filter(None, (_find_problem_in_entry(key, entry) for entry in value)), None)
    if not isinstance(value, str) or not value.strip():
        return f"must be a quoted string, not {value!r}"
    if key == "emoji" and any(character.isascii() or character.isalnum() for character in value):
        return f"must be an emoji, not {value!r}"
    if key in ("colorFrom", "colorTo") and value not in COLOURS:
        return f"must be one of {', '.join(sorted(COLOURS))}, not {value!r}"
    if key == "sdk" and value not in ("gradio", "static"):
        return f"must be gradio or static, not {value!r}"
    if key == "sdk_version" and not re.fullmatch(r"\d+\.\d+\.\d+", value):
        return f"must be a release of Gradio such as 6.31.0, not {value!r}"
    if key == "python_version" and not re.fullmatch(r"3\.\d+(\.\d+)?", value):
        return f"must be a version such as 3.12, not {value!r}"
    if key == "app_file" and not (folder / value).is_file():
        return f"is {value!r}, which does not exist in the folder"
    if key == "short_description" and len(value) > MAX_SHORT_DESCRIPTION:
        return f"has {len(value)} characters; the maximum is {MAX_SHORT_DESCRIPTION}"
    if key == "suggested_hardware" and value not in set(SpaceHardware):
        return f"must be hardware of the Hub, such as cpu-basic, not {value!r}"
    if key == "license":
        check_license(value)
    return None


def _find_problem_in_entry(key: str, entry: str) -> str | None:
    repo_id = entry
    if key == "preload_from_hub":
        if not (match := PRELOAD.fullmatch(entry)):
            return f"must be 'USER/MODEL FILES COMMIT' with a full commit sha, not {entry!r}"
        repo_id = match[1]
    if key != "tags":
        try:
            validate_repo_id(repo_id)
        except HFValidationError:
            return f"has {repo_id!r}, which is not a repository id"
    return None
