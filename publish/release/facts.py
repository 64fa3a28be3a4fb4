"""The content of `release.json`, from which the card is rendered, collected from a run and its evaluation."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from axion.data.recipe import DataRecipe
from axion.data.sources import Chat
from axion.errors import AxionError, one_line
from axion.files import parse_yaml
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import AxionShape
from axion.params import report
from axion.recipe import OF_THE_CARD, Recipe, build_recipe
from axion.series import code_url, series
from axion.training.metrics import METRICS_FILE, Metrics, read_metrics
from axion.training.runfile import read_run_file

FORMAT = 1
OLDEST_TRANSFORMERS, NEWEST_TRANSFORMERS = "5.4", "5.24"
"""The versions between which releases were tested, see `tests/publish/hub/test_release_loads.py`."""
CURVE_ROWS = 10


def tested_transformers() -> dict[str, str]:
    """What the card says of transformers: the oldest and the newest version that a release was tested with."""
    return {"oldest_transformers": OLDEST_TRANSFORMERS, "newest_transformers": NEWEST_TRANSFORMERS}


_OF_A_RUN = ("steps", "tokens", "seconds", "date", "machine", "python", "libraries", "git_commit")


def read_run(run: Path) -> dict:
    """The content of a finished run's `run.json`.

    Raises:
        AxionError: there is none, the run is not finished, its recipe is broken, or it lacks a value that a release
            needs.
    """
    content = read_run_file(run)
    if not content.get("finished"):
        raise AxionError(f"{run} is not finished; continue with `python -m axion train … --resume`")
    if missing := [key for key in ("recipe", "data", *_OF_A_RUN) if key not in content]:
        raise AxionError(
            f"{run}/run.json lacks {missing[0]!r}, which a release needs; train again with this version of Axion"
        )
    try:
        Recipe.model_validate(parse_yaml(content["recipe"]))
    except ValueError as error:
        raise AxionError(f"the recipe in {run}/run.json cannot be read: {one_line(error)}") from None
    return content


def presentation(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says of how a release is presented: keys that may differ from those of the run.

    Languages that it leaves out, as `--text` without `--language` does, are those of the run.
    """
    content = recipe.model_dump(mode="json", include={*OF_THE_CARD})
    return {key: value for key, value in content.items() if key != "languages" or value}


def released_recipe(run: Path, presented: Mapping[str, Any]) -> str:
    """The recipe of a finished run as its release carries it, as YAML.

    Args:
        run: the folder of the run.
        presented: see `presentation`.
    """
    text = read_run(run)["recipe"]
    changed = changed_presentation(run, presented)
    return build_recipe(parse_yaml(text) | changed, [], f"{run}/run.json").to_yaml() if changed else text


def changed_presentation(run: Path, presented: Mapping[str, Any]) -> dict[str, Any]:
    """What `presented` says in another way than the recipe of a finished run."""
    content = parse_yaml(read_run(run)["recipe"])
    return {key: value for key, value in presented.items() if content.get(key) != value}


def collect_facts(
    run: Path, config: AxionConfig, measured: dict, repo_id: str, presented: Mapping[str, Any] | None = None
) -> dict:
    """The content of `release.json`, without the sha256 of the files.

    Args:
        run: the folder of a finished run.
        config: the model's configuration.
        measured: see `publish.release.measure.measure`.
        repo_id: USER/NAME on the Hub.
        presented: see `presentation`; as the run's own recipe by default.
    """
    log = read_run(run)
    recipe = parse_yaml(released_recipe(run, presented or {}))
    data = DataRecipe.model_validate(recipe["data"])
    hub = data.hub_source()
    metrics = read_metrics(run / METRICS_FILE)
    return {
        "format": FORMAT,
        **{key: recipe[key] for key in ("name", "title", "family", "version", "license", "languages", "seed")},
        "tag": f"v{recipe['version']}",
        "repo_id": repo_id,
        "exports": [],
        "dataset": hub and hub.hub_id,
        "datasets": data.hub_ids,
        "dataset_config": hub and hub.hub_config,
        "dataset_revision": hub and hub.revision,
        "val_fraction": data.val_fraction,
        **tested_transformers(),
        "architecture": {name: getattr(config, name) for name in AxionShape.__annotations__},
        "parameters": report(recipe["name"], config),
        "data": log["data"],
        "tokenizer": recipe["tokenizer"] if recipe["tokenizer"].get("kind", "bpe") != "bpe" else None,
        "openings": log.get("openings", []),
        "chats": data.has_chats,
        "start": recipe.get("start"),
        "lora": recipe.get("lora"),
        "training": {
            **{key: log[key] for key in _OF_A_RUN},
            "optimizer": log.get("optimizer", recipe["training"]["optimizer"]),
            **{key: log[key] for key in ("backend", "environment") if key in log},
            "recipe": recipe["training"],
            "command": _command(recipe, data),
            "curve": sample_curve(metrics),
        },
        "measured": {key: measured[key] for key in ("date", "files", "test_files")},
        "results": measured["results"],
        "samples": measured["samples"],
        "has_local_text": data.has_local_text,
        "code": code_url(recipe["family"]),
        "space": None,
        "roadmap": roadmap(recipe["family"], recipe["name"]),
    }


def _command(recipe: dict, data: DataRecipe) -> str:
    """The command that repeats a run."""
    if (start := recipe.get("start")) is None:
        return "python -m axion train recipe.yaml"
    sources = [source for source in data.sources if isinstance(source, Chat)]
    base = start["repo_id"] and f"{start['repo_id']}@{start['revision'] or 'main'}"
    if not sources:
        return f"python -m axion train recipe.yaml --from {base or start['name']}"
    options = [
        *(f"--data {shlex.quote(file.name)}" for source in sources for file in source.local_files or ()),
        *(f"--data {source.hub_id}@{source.revision}" for source in sources if source.hub_id),
        *(["--lora", f"--rank {recipe['lora']['rank']}"] if recipe.get("lora") else []),
        *(f"--{name} {recipe['training'][key]}" for name, key in FINETUNE_OPTIONS.items()),
        f"--seed {recipe['seed']} --name {recipe['name']}",
    ]
    return " ".join(["python -m axion finetune", base or start["name"], *options])


FINETUNE_OPTIONS = {
    "epochs": "epochs",
    "lr": "learning_rate",
    "batch-size": "batch_size",
    "grad-accum": "grad_accum",
    "max-length": "window",
}
"""Option of `axion finetune` → the key of the recipe's training section that it sets."""


def roadmap(family: str, name: str) -> list[dict]:
    """The versions of a family, see `axion.series.Member`; the one of this name counts as released."""
    return [asdict(member) | {"released": member.released or member.name == name} for member in series(family)]


def sample_curve(metrics: Metrics, count: int = CURVE_ROWS) -> list[dict[str, float]]:
    """At most `count` evenly spaced rows that have a validation loss, including the last one."""
    rows = np.flatnonzero(np.isfinite(metrics["val_loss"]))
    last = len(rows) - 1
    chosen = range(len(rows)) if len(rows) <= count else sorted({round(last * i / (count - 1)) for i in range(count)})
    counts, losses = ("step", "tokens"), ("train_loss", "val_loss", "val_bits_per_byte")
    return [
        {name: int(metrics[name][row]) for name in counts} | {name: float(metrics[name][row]) for name in losses}
        for row in rows[list(chosen)]
    ]
