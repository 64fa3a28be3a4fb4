"""The other forms of a release, each with a repository of its own: `NAME-native` for transformers without remote code,
and `NAME-GGUF` for llama.cpp and programs built on it.

Their cards link to the original, which has the results. Their `release.json` lists the files with their sha256.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData
from packaging.version import Version

from axion.export.gguf import DTYPES, write_gguf
from axion.export.native import OLDEST_DRAFTING_TRANSFORMERS, drafting_line, write_native
from axion.families import get_family
from axion.release import Release, open_release
from axion.tokenizer import has_own_form
from publish.manifest import check_files, write_manifest
from publish.release.card import datasets_of, example_prompt, is_of_problems, pin
from publish.release.templates import environment, naming_missing_values

SUFFIXES = {"native": "-native", "gguf": "-GGUF"}
"""Export format → the suffix of its repository's name."""

OLDEST_NATIVE_TRANSFORMERS = "4.57"
"""The oldest version that loads the native form, see `tests/export/test_native.py`."""

LIBRARIES = {"native": "transformers", "gguf": "gguf"}
PRECISIONS = {
    "f32": "full precision, as trained",
    "f16": "half precision",
    "q8_0": "8 bits per weight where rows allow it, half precision elsewhere",
}
"""Description of each of `DTYPES` on the GGUF card."""

_COPIED = ("format", "name", "title", "family", "version", "tag", "license", "languages", "parameters")


@dataclass(frozen=True)
class Export:
    """A folder that is ready to be pushed to its repository."""

    folder: Path
    """Named like the repository."""
    repo_id: str


def build_exports(release: Path, repo_id: str, target: Path) -> list[Export]:
    """Write the folders of a release's other forms: files, card, `release.json`.

    Args:
        release: the release folder.
        repo_id: USER/NAME of the original on the Hub, for the cards.
        target: the folder to write them into; created if it does not exist.

    Raises:
        AxionError: the release does not match its release.json, or a form cannot express this model.
    """
    info, opened = check_files(release), open_release(release)
    exports = []
    for form in opened.family.exports:
        folder = target / f"{repo_id.rpartition('/')[2]}{SUFFIXES[form]}"
        folder.mkdir(parents=True)
        _write_model(opened, info["name"], folder, form, repo_id)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors writes files that only their owner can read
        facts = _facts(info, opened, folder, form, repo_id)
        (folder / "README.md").write_text(render_card(facts), encoding="utf-8")
        write_manifest(folder, facts)
        exports.append(Export(folder, facts["repo_id"]))
    return exports


def _write_model(release: Release, name: str, folder: Path, form: str, repo_id: str) -> None:
    if form == "native":
        write_native(release, folder)
        return
    for dtype in DTYPES:
        write_gguf(release, folder / f"{name}-{dtype}.gguf", dtype, repo_id)


def _facts(info: dict, release: Release, folder: Path, form: str, repo_id: str) -> dict:
    """The content of the form's `release.json`, from which its card is rendered."""
    return {key: info[key] for key in _COPIED} | {
        "form": form,
        "repo_id": repo_id + SUFFIXES[form],
        "base_model": repo_id,
        "datasets": datasets_of(info),
        "base_weights_sha256": info["files"]["model.safetensors"],
        "openings": info.get("openings", []),
        "chats": info.get("chats", False),
        "context": release.config.max_position_embeddings,
        "drafting_line": drafting_line(release.config),
        "tied": release.config.tie_word_embeddings,
        "own_tokenizer": has_own_form(json.loads(release.tokenizer.backend_tokenizer.to_str())),
        "libraries": {name: info["training"]["libraries"][name] for name in ("torch", "transformers")},
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }


def render_card(facts: dict) -> str:
    """The card of a form as Markdown with YAML front matter; its body consists of sections (see `publish.markdown`).

    Args:
        facts: the content of the form's `release.json`.

    Raises:
        AxionError: `facts` lacks a value that the card needs.
    """
    files = {dtype: f"{facts['name']}-{dtype}.gguf" for dtype in DTYPES}
    with naming_missing_values(facts["repo_id"]):
        text = (
            environment()
            .get_template(f"{facts['form']}.md.j2")
            .render(
                info=facts,
                prompt=example_prompt(facts),
                problems=is_of_problems(facts),
                parameters=facts["parameters"],
                oldest_transformers=OLDEST_NATIVE_TRANSFORMERS,
                pins=[pin(name, version) for name, version in facts["libraries"].items()],
                architecture=get_family(facts["family"]).architecture(facts["form"]),
                drafting_line=facts.get("drafting_line"),
                drafts=Version(facts["libraries"]["transformers"]) >= Version(OLDEST_DRAFTING_TRANSFORMERS),
                oldest_drafting_transformers=OLDEST_DRAFTING_TRANSFORMERS,
                tied=facts.get("tied", True),
                own_tokenizer=facts.get("own_tokenizer", True),
                files=files,
                precisions=PRECISIONS,
            )
        )
    return f"---\n{card_metadata(facts).to_yaml()}\n---\n\n{text}"


def card_metadata(facts: dict) -> ModelCardData:
    """The front matter of a form's card, which places it below the original in the Hub's model tree.

    Of the Hub's relations (adapter, merge, finetune, quantized), `quantized` is the one for the same model in another
    format. Without it the Hub would assume `finetune` for the native form.
    """
    return ModelCardData(
        license=facts["license"],
        language=facts["languages"] or None,
        library_name=LIBRARIES[facts["form"]],
        pipeline_tag="text-generation",
        base_model=facts["base_model"],
        base_model_relation="quantized",
        datasets=facts["datasets"] or None,
        tags=["axion", facts["family"], *get_family(facts["family"]).tags, "tiny", "cpu"],
    )
