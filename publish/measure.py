"""Measure a finished run, once: the figures are kept beside it and hold as long as weights, data and measure do."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import yaml

from axion import evaluation
from axion.recipe import DataRecipe, Recipe
from axion.release import Release
from axion.routing import expert_favourites
from publish.build import code_fingerprint
from publish.facts import read_run
from publish.manifest import sha256
from publish.results import measured, skipped_tasks


def measure(run: Path, recipe: Recipe, did: Callable[[str], None]) -> dict:
    """Evaluate a run, or read `evaluation.json` in its folder where that is complete and still holds.

    The data is what the run was trained with, split as then; the recipe at hand only says where local copies are.

    Args:
        run: the folder of a finished run.
        recipe: whose `data.files` and `data.test_files` are local copies of the data.
        did: is told in a few words what happened.

    Returns:
        {"results": task → figures or why it was skipped (see `axion.evaluation.evaluate`), "favourites": each expert's
        favourite tokens where its load is measured (see `axion.routing.expert_favourites`)}

    Raises:
        AxionError: a data file is missing or broken.
    """
    local = {"files": recipe.data.files, "test_files": recipe.data.test_files}
    trained = Recipe.model_validate(yaml.safe_load(read_run(run)["recipe"]))
    data = DataRecipe.model_validate(trained.data.model_dump() | local)
    kept, key = run / "evaluation.json", _key(run, data)
    if kept.is_file():
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content["key"] == key and not skipped_tasks(content["results"]):
            did("skipped: measured before")
            return content
    release = Release(trained.name, run / "final")
    results = evaluation.evaluate(release, data, progress=True)
    if not measured(results, "gsm8k_validation"):
        data = data.model_copy(update={"hub_id": None, "files": None})  # not at hand: no use in asking again
    documents = [ids for part in evaluation.load_documents(release, data).values() for ids in part]
    favourites = expert_favourites(release.model, release.tokenizer, documents)
    content = {"key": key, "results": results, "favourites": favourites}
    staging = kept.with_suffix(".tmp")
    staging.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(staging, kept)
    skipped = skipped_tasks(results)
    did(f"{len(results) - len(skipped)} tasks" + (f", not measured: {', '.join(skipped)}" if skipped else ""))
    return content


def _key(run: Path, data: DataRecipe) -> dict[str, str]:
    """What the figures depend on."""
    recipe = data.model_dump(mode="json", exclude={"files", "test_files"})
    files = [sha256(Path(file)) for file in (*(data.files or ()), *(data.test_files or ())) if Path(file).is_file()]
    return {
        "weights": sha256(run / "final" / "model.safetensors"),
        "data": hashlib.sha256(json.dumps([recipe, files], sort_keys=True).encode()).hexdigest(),
        "measure": code_fingerprint(),
    }
