"""A LoRA adapter by itself, in a repository of its own, `NAME-LoRA`: peft puts it on the release that was adapted."""

import shutil
from importlib.metadata import version
from pathlib import Path

import torch
from huggingface_hub import ModelCardData

from axion.checksums import remembered_sha256
from axion.errors import AxionError
from axion.families import get_family
from axion.release import WEIGHTS, Release, open_release
from axion.training.runfile import ADAPTER
from publish.manifest import check_files, write_manifest
from publish.release.card import base_metadata, datasets_of, has_routed_experts, pin
from publish.release.exports import Export
from publish.release.templates import environment, naming_missing_values

SUFFIX = "-LoRA"
TOLERANCE = 1e-4
"""Largest difference of two logits, relative to the largest one: merged weights are rounded."""

_COPIED = ("format", "name", "title", "family", "version", "tag", "license", "languages", "start", "lora")


def build_adapter(run: Path, release: Path, repo_id: str, target: Path) -> Export:
    """Write the folder of a run's adapter: peft's files, the tokenizer, card and `release.json`.

    Args:
        run: the folder of a finished run with LoRA.
        release: the release of that run, in which the adapter is merged.
        repo_id: USER/NAME of the release on the Hub.
        target: the folder to write into; created if it does not exist.

    Raises:
        AxionError: the run has no adapter, or the adapter and the release do not belong together.
    """
    info, folder = check_files(release), target / f"{repo_id.rpartition('/')[2]}{SUFFIX}"
    if not (run / ADAPTER / "adapter_config.json").is_file():
        raise AxionError(f"{run} has no adapter; fine-tune with --lora to get one")
    start = info["start"]
    check_adapter(run / ADAPTER, open_release(release), open_base(start))
    shutil.copytree(run / ADAPTER, folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read
    facts = {key: info[key] for key in _COPIED} | {
        "form": "adapter",
        "datasets": datasets_of(info),
        "repo_id": repo_id + SUFFIX,
        "merged": repo_id,
        "mixture": has_routed_experts(info),
        "libraries": {name: info["training"]["libraries"][name] for name in ("torch", "transformers")}
        | {"peft": version("peft")},
        "bytes": (folder / "adapter_model.safetensors").stat().st_size,
    }
    (folder / "README.md").write_text(render_card(facts), encoding="utf-8")
    write_manifest(folder, facts)
    return Export(folder, facts["repo_id"])


def open_base(start: dict) -> Release:
    """The release that a run started from: the local one of its name, or else the Hub's.

    Args:
        start: `recipe.start` as JSON.

    Raises:
        AxionError: neither is there, or its weights are others.
    """
    at = f"{start['repo_id']}@{start['revision']}" if start["revision"] else start["repo_id"]
    for reference in dict.fromkeys((start["name"], at)):
        try:
            base = open_release(reference)
        except AxionError:
            continue
        if remembered_sha256(base.folder / WEIGHTS) == start["sha256"]:
            return base
    raise AxionError(f"the adapter belongs to {at}, which is neither here nor on the Hub with these weights")


@torch.inference_mode()
def check_adapter(adapter: Path, merged: Release, base: Release) -> None:
    """Check that the adapter on its base computes what the merged release does.

    Raises:
        AxionError: it does not.
    """
    from peft import PeftModel

    length = min(64, merged.config.max_position_embeddings)
    ids_1S = torch.arange(length).unsqueeze(0) % merged.config.vocab_size
    expected = merged.model(ids_1S).logits
    adapted = PeftModel.from_pretrained(base.model, adapter).eval()
    try:
        found = adapted(ids_1S).logits
    finally:
        adapted.unload()  # the base is again as it was
    if (found - expected).abs().max() > TOLERANCE * expected.abs().max():
        raise AxionError(f"{adapter} on {base.name} does not compute what {merged.name} does; fine-tune again")


def render_card(facts: dict) -> str:
    """The card of an adapter as Markdown with YAML front matter.

    Args:
        facts: the content of its `release.json`.

    Raises:
        AxionError: `facts` lacks a value that the card needs.
    """
    with naming_missing_values(facts["repo_id"]):
        text = (
            environment()
            .get_template("adapter.md.j2")
            .render(
                info=facts,
                mixture=facts["mixture"],
                pins=[pin(name, number) for name, number in facts["libraries"].items()],
            )
        )
    return f"---\n{card_metadata(facts).to_yaml()}\n---\n\n{text}"


def card_metadata(facts: dict) -> ModelCardData:
    """The front matter of an adapter's card, which places it below its base in the Hub's model tree."""
    return ModelCardData(
        license=facts["license"],
        language=facts["languages"] or None,
        library_name="peft",
        pipeline_tag="text-generation",
        datasets=facts["datasets"] or None,
        tags=["axion", facts["family"], *get_family(facts["family"]).tags, "lora", "tiny", "cpu"],
        **base_metadata(facts["start"], "adapter"),
    )
