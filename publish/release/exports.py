"""The other forms of a release, each for a repository of its own: `NAME-native` for transformers without remote code,
`NAME-GGUF` for llama.cpp and what is built on it.

Their cards point to the original, which has the figures; `release.json` lists the files with their sha256, as there.
"""

from dataclasses import dataclass
from pathlib import Path

import jinja2
from huggingface_hub import ModelCardData

from axion.errors import AxionError
from axion.export.gguf import DTYPES, write_gguf
from axion.export.native import write_native
from axion.families import get_family
from axion.release import Release, open_release
from publish.manifest import check_files, write_manifest
from publish.release.card import FILTERS, TEMPLATES, pin

SUFFIXES = {"native": "-native", "gguf": "-GGUF"}
"""Export format → what its repository's name adds to the original's."""

OLDEST_TRANSFORMERS = "4.57"
"""The oldest version that the native form was tried with; `tests/export/test_native.py` does it again."""

LIBRARIES = {"native": "transformers", "gguf": "gguf"}
PRECISIONS = {
    "f32": "full precision, as trained",
    "f16": "half precision",
    "q8_0": "eight bits for each weight where rows allow it, half precision elsewhere",
}
"""Of each of `DTYPES`, what the GGUF card says."""

_KEPT = ("format", "name", "title", "family", "version", "tag", "license", "languages", "dataset", "parameters")


@dataclass(frozen=True)
class Staged:
    """A folder that is ready for its repository."""

    folder: Path
    """Named as the repository is."""
    repo_id: str


def stage_exports(release: Path, repo_id: str, scratch: Path) -> list[Staged]:
    """Make the folders of a release's other forms: files, card, `release.json`.

    Args:
        release: the release folder.
        repo_id: USER/NAME of the original on the Hub, which the cards name.
        scratch: where the folders go; made if need be.

    Raises:
        AxionError: the release is not what its own release.json says, or a form cannot express this model.
    """
    info, opened = check_files(release), open_release(release)
    staged = []
    for form in opened.family.exports:
        folder = scratch / f"{repo_id.rpartition('/')[2]}{SUFFIXES[form]}"
        folder.mkdir(parents=True)
        _write_model(opened, info["name"], folder, form, repo_id)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors lets nobody else read what it writes
        facts = _facts(info, opened, folder, form, repo_id)
        (folder / "README.md").write_text(render_card(facts), encoding="utf-8")
        write_manifest(folder, facts)
        staged.append(Staged(folder, facts["repo_id"]))
    return staged


def _write_model(release: Release, name: str, folder: Path, form: str, repo_id: str) -> None:
    if form == "native":
        write_native(release, folder)
        return
    for dtype in DTYPES:
        write_gguf(release, folder / f"{name}-{dtype}.gguf", dtype, repo_id)


def _facts(info: dict, release: Release, folder: Path, form: str, repo_id: str) -> dict:
    """What the card states and `release.json` keeps: facts of the original, and what was made of it."""
    return {key: info[key] for key in _KEPT} | {
        "form": form,
        "repo_id": repo_id + SUFFIXES[form],
        "base_model": repo_id,
        "base_weights_sha256": info["files"]["model.safetensors"],
        "context": release.config.max_position_embeddings,
        "libraries": {name: info["training"]["libraries"][name] for name in ("torch", "transformers")},
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }


def render_card(facts: dict) -> str:
    """The card of a form as Markdown with its YAML front matter; every section stands in a block of its own.

    Args:
        facts: the content of the form's `release.json`.

    Raises:
        AxionError: `facts` lacks something that the card states.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= FILTERS
    files = {dtype: f"{facts['name']}-{dtype}.gguf" for dtype in DTYPES}
    try:
        text = environment.get_template(f"{facts['form']}.md.j2").render(
            info=facts,
            parameters=facts["parameters"],
            oldest_transformers=OLDEST_TRANSFORMERS,
            pins=[pin(name, version) for name, version in facts["libraries"].items()],
            files=files,
            precisions=PRECISIONS,
        )
    except (jinja2.UndefinedError, KeyError) as error:
        raise AxionError(f"the card of {facts['repo_id']} needs a figure that it was not given: {error}") from None
    return f"---\n{card_metadata(facts).to_yaml()}\n---\n\n{text}"


def card_metadata(facts: dict) -> ModelCardData:
    """The front matter of a form's card, by which the Hub hangs it under the original in the model tree.

    The Hub knows four relations: adapter, merge, finetune, quantized. Both forms are `quantized`, under which it lists
    the same model in another format. Nothing was trained, so the native form is no `finetune`, the Hub's own guess.
    """
    return ModelCardData(
        license=facts["license"],
        language=facts["languages"],
        library_name=LIBRARIES[facts["form"]],
        pipeline_tag="text-generation",
        base_model=facts["base_model"],
        base_model_relation="quantized",
        datasets=[facts["dataset"]] if facts["dataset"] else None,
        tags=["axion", facts["family"], *get_family(facts["family"]).tags, "tiny", "cpu"],
    )
