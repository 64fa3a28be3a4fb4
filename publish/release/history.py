"""The checkpoints that a run keeps, each as a folder for a branch of the release's repository: `step{N}-tokens{M}M`.

Such a folder is loaded like the release. It has the weights and the logs as they were, and a short card of its own.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import ModelCardData

from axion.errors import AxionError
from axion.families import get_family
from axion.release import open_release
from axion.tokenizer import save_tokenizer
from axion.training import checkpoint
from axion.training.metrics import EVALUATIONS_FILE, METRICS_FILE, copy_until, read_metrics
from publish.manifest import CHECKPOINT, LICENSE, PLAIN_TOKENIZER, check_files, remote_code, write_manifest
from publish.release.build import write_model
from publish.release.card import base_metadata, datasets_of, example_prompt, pin
from publish.release.facts import read_run
from publish.release.templates import environment, naming_missing_values

_COPIED = ("format", "name", "title", "family", "version", "license", "languages", "repo_id", "start", "tokenizer")


@dataclass(frozen=True)
class Kept:
    """A checkpoint of a run, before its last step."""

    folder: Path
    step: int
    tokens: int

    @property
    def branch(self) -> str:
        """The name of its branch on the Hub."""
        return f"step{self.step}-tokens{round(self.tokens / 1e6)}M"


def kept_checkpoints(run: Path) -> list[Kept]:
    """The checkpoints that a finished run keeps, oldest first, without that of its last step, which is the release.

    Raises:
        AxionError: it keeps none, or they hold the adapters alone.
    """
    log = read_run(run)
    per_step = log["tokens"] // log["steps"]
    found = [
        Kept(folder, checkpoint.step_of(folder), per_step * checkpoint.step_of(folder))
        for folder in checkpoint.checkpoints(run)
        if checkpoint.step_of(folder) < log["steps"]
    ]
    if not found:
        raise AxionError(
            f"{run} keeps no checkpoint from before its last step; train with --set training.keep_checkpoints=20, or "
            "omit --history"
        )
    return found


def build_checkpoint(kept: Kept, run: Path, release: Path, target: Path) -> Path:
    """Writes the folder of one checkpoint; the same each time.

    Args:
        kept: the checkpoint.
        run: the run that it belongs to.
        release: the release of that run, with the repository's id in its release.json.
        target: the folder to write into; created if it does not exist.

    Raises:
        AxionError: the checkpoint or the release is broken.
    """
    info, folder = check_files(release), target / kept.branch
    folder.mkdir(parents=True)
    opened = open_release(kept.folder)
    write_model(opened.mtp_model if opened.config.num_nextn_predict_layers else opened.model, opened.tokenizer, folder)
    save_tokenizer(opened.tokenizer, folder)
    for name in sorted({*PLAIN_TOKENIZER, LICENSE, "recipe.yaml", *remote_code(release)} & {*info["files"]}):
        shutil.copyfile(release / name, folder / name)
    for name in (METRICS_FILE, EVALUATIONS_FILE):
        if (run / name).is_file():
            copy_until(run / name, folder / name, kept.step)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files that only their owner can read
    facts = {key: info[key] for key in _COPIED if key in info} | {
        "form": CHECKPOINT,
        "tag": kept.branch,
        "release": info["tag"],
        "datasets": datasets_of(info),
        "openings": info.get("openings", []),
        "chats": info.get("chats", False),
        "step": kept.step,
        "steps": info["training"]["steps"],
        "tokens": kept.tokens,
        "libraries": {name: info["training"]["libraries"][name] for name in ("torch", "transformers")},
        "evaluated": _evaluated(folder),
    }
    (folder / "README.md").write_text(render_card(facts), encoding="utf-8")
    write_manifest(folder, facts)
    return folder


def _evaluated(folder: Path) -> dict[str, float | int] | None:
    """The last evaluation in a metrics.csv: step, val_loss (nats per token), val_bits_per_byte; None without any."""
    metrics = read_metrics(folder / METRICS_FILE)
    rows = np.flatnonzero(np.isfinite(metrics["val_loss"]) & np.isfinite(metrics["val_bits_per_byte"]))
    if not len(rows):
        return None
    losses = {name: float(metrics[name][rows[-1]]) for name in ("val_loss", "val_bits_per_byte")}
    return {"step": int(metrics["step"][rows[-1]])} | losses


def render_card(facts: dict) -> str:
    """The card of a checkpoint as Markdown with YAML front matter.

    Args:
        facts: the content of its `release.json`.

    Raises:
        AxionError: `facts` lacks a value that the card needs.
    """
    with naming_missing_values(facts["tag"]):
        text = (
            environment()
            .get_template("checkpoint.md.j2")
            .render(
                info=facts,
                prompt=example_prompt(facts),
                pins=[pin(name, number) for name, number in facts["libraries"].items()],
            )
        )
    metadata = ModelCardData(
        license=facts["license"],
        language=facts["languages"] or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        datasets=facts["datasets"] or None,
        tags=["axion", facts["family"], *get_family(facts["family"]).tags, "tiny", "cpu", "custom_code"],
        **base_metadata(facts.get("start"), "finetune"),
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"
