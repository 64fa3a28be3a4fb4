"""Supervised fine-tuning: from a release and conversations to the recipe of a run that starts from that release."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from axion.architecture import used_fields
from axion.checksums import remembered_sha256
from axion.data.sources import Chat, named_sources
from axion.errors import AxionError
from axion.recipe import LoraRecipe, Recipe, build_recipe, read_recipe
from axion.release import WEIGHTS, Release
from axion.tokenizer import SPECIAL_TOKENS

LEARNING_RATE = {"full": 6e-3, "lora": 5e-3}
"""Peak rates of AdamW where none is given: of the weights themselves, and of adapters. Muon's is twice as high, as in
training from scratch."""

LONGEST_WINDOW = 1024
"""Longer windows only on request: attention over short conversations would waste most of them."""


@dataclass(frozen=True)
class Settings:
    """What may be chosen of a fine-tuning run; None stands for a default that depends on the release."""

    name: str | None = None
    """The run's name; that of the release with -chat by default."""
    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 8
    """Windows per optimizer step; each has as many conversations as fit."""
    grad_accum: int = 1
    max_length: int | None = None
    """Tokens of a window, and of the longest conversation that is read whole."""
    seed: int = 1
    lora: LoraRecipe | None = None


def finetuning_recipe(
    release: Release, data: Sequence[str], settings: Settings, overrides: Sequence[str] = ()
) -> Recipe:
    """The recipe that teaches a release to chat. It is trained by `axion.training.run.train` with `start=release`.

    Args:
        release: what to start from.
        data: local JSONL files, or data sets on the Hub as USER/NAME with an optional @revision; see
            `axion.data.sources.chat.Chat` for the records.
        settings: see there.
        overrides: key.path=value, as in `axion.recipe.load_recipe`.

    Raises:
        AxionError: the release's tokenizer has no tokens of a chat; there is no such file.
    """
    check_tokenizer(release)
    made = _describe(release)
    name = settings.name or _slug(f"{release.name.partition('@')[0].rpartition('/')[2]}-chat")
    context = release.config.max_position_embeddings
    if settings.max_length and settings.max_length > context:
        raise AxionError(f"--max-length is {settings.max_length}; the context of {release.name} is {context} tokens")
    content = {
        "name": name,
        "title": settings.name or f"{made.get('title', release.name)} Chat",
        "family": release.family.name,
        "version": str(made.get("version", "0.1")),
        "repo_name": settings.name or f"{made.get('repo_name', name.removesuffix('-chat'))}-Chat",
        "license": made.get("license", "mit"),
        "languages": made.get("languages", ["en"]),
        "seed": settings.seed,
        "architecture": used_fields(release.config),
        "tokenizer": {
            "kind": "start",
            "vocab_size": release.config.vocab_size,
            "sha256": remembered_sha256(release.folder / "tokenizer.json"),
        },
        "data": {**_split_of(made), "sources": named_sources(Chat, data)},
        "training": _training(settings, min(settings.max_length or LONGEST_WINDOW, context)),
        "start": start_of(release),
        "lora": settings.lora and settings.lora.model_dump(),
    }
    return build_recipe(content, overrides, name)


def _training(settings: Settings, window: int) -> dict[str, Any]:
    """The training section: the whole model with Muon, adapters with AdamW."""
    usual = LEARNING_RATE["lora" if settings.lora else "full"]
    rate = usual if settings.learning_rate is None else settings.learning_rate
    section = {
        "window": window,
        "whole_documents": True,
        "document_mask": True,
        "batch_size": settings.batch_size,
        "grad_accum": settings.grad_accum,
        "epochs": settings.epochs,
        "optimizer": "adamw" if settings.lora else "muon",
        "learning_rate": rate,
        "muon_learning_rate": 2 * rate,
        "router_learning_rate": rate,
        "schedule": "cosine",
        "warmup_steps": 20,
        "checkpoints": 5,
    }
    # an adapter has no routing biases, so they stay as they are
    return section | ({"bias_update_speed": 0.0} if settings.lora else {})


def check_tokenizer(release: Release) -> None:
    """Raises AxionError where a conversation cannot be written in a release's tokens."""
    known = release.tokenizer.get_vocab()
    for token in SPECIAL_TOKENS:
        if known.get(token) != SPECIAL_TOKENS.index(token):
            raise AxionError(
                f"{release.name} cannot be taught to chat: its tokenizer has no token {token}; "
                "start from a release with a tokenizer that Axion has trained"
            )


def start_of(release: Release) -> dict[str, Any]:
    """How a recipe names the release that it starts from."""
    name = release.name.partition("@")[0]
    is_downloaded = release.folder.parent.name == "snapshots" and name.count("/") == 1
    return {
        "name": name,
        "sha256": remembered_sha256(release.folder / WEIGHTS),
        "repo_id": name if is_downloaded else release.info.get("repo_id"),
        "revision": release.folder.name if is_downloaded else release.info.get("tag"),
    }


def _describe(release: Release) -> dict[str, Any]:
    """What recipe.yaml and release.json say of a release."""
    recipe = read_recipe(release.recipe_file) if release.recipe_file else {}
    keys = ("title", "version", "license", "languages")
    return recipe | {key: release.info[key] for key in keys if key in release.info}


def _split_of(made: dict[str, Any]) -> dict[str, Any]:
    """The settings by which sums are held out: the same as in the training of the release, so that tests stay tests."""
    data = made.get("data")
    return {key: data[key] for key in ("holdout_fraction",) if key in data} if isinstance(data, dict) else {}


def _slug(name: str) -> str:
    """A name for a recipe."""
    return re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.") or "chat"
