"""Measure a finished run, once: the figures are kept beside it and hold as long as weights, data and measure do."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from axion.data.recipe import DataRecipe
from axion.data.sources import Gsm8k
from axion.evaluation import tasks as evaluation
from axion.evaluation.results import skipped_tasks
from axion.files import identify, read_json, sha256, write_json
from axion.inference.routing import expert_favourites
from axion.recipe import Recipe
from axion.release import Release
from publish.release.facts import read_run
from publish.release.fingerprint import code_fingerprint, fingerprint

KEPT = "evaluation.json"


def measure(run: Path, recipe: Recipe, did: Callable[[str], None]) -> dict:
    """Evaluate a run, all but what stands in its folder's `evaluation.json` and still holds.

    What could not be measured then is tried again; what was measured stays, to the digit, the speed among it.

    The data is what the run was trained with, split as then; the recipe at hand only says where local copies are.

    Args:
        run: the folder of a finished run.
        recipe: whose `data.files` and `data.test_files` are local copies of the data.
        did: is told in a few words what happened.

    Returns:
        "results": task → figures or why it was skipped (see `axion.evaluation.tasks.evaluate`);
        "favourites": each expert's favourite tokens, see `axion.inference.routing.expert_favourites`;
        "date": the day, ISO 8601, UTC; "files" and "test_files": the local data files, by name and sha256;
        "key": what all this depends on.

    Raises:
        AxionError: a data file is missing or broken.
    """
    trained = Recipe.model_validate(yaml.safe_load(read_run(run)["recipe"]))
    data = trained.data.with_local_copies(recipe.data)
    kept = _read_kept(run, key := _key(run, data))
    if kept and not skipped_tasks(kept["results"]):
        did("skipped: measured before")
        return kept
    release = Release(trained.name, run / "final")
    used = {"files": _identify(data.local_paths()), "test_files": _identify(data.test_paths())}
    results = evaluation.evaluate(release, data, progress=True, known=_known(kept))
    skipped = skipped_tasks(results)
    note = f", not measured: {', '.join(skipped)}" if skipped else ""
    if kept and skipped.keys() == skipped_tasks(kept["results"]).keys():
        did(f"skipped: measured before{note}")
        return kept
    if "gsm8k_validation" in skipped:
        data = data.without(Gsm8k)  # not at hand, so don't ask again
    documents = [ids for part in evaluation.load_documents(release, data).values() for ids in part]
    favourites = expert_favourites(release.model, release.tokenizer, documents)
    today = datetime.now(UTC).date().isoformat()
    content = {"key": key, "date": today, **used, "results": results, "favourites": favourites}
    write_json(run / KEPT, content)
    did(f"{len(results) - len(skipped)} tasks{note}")
    return content


def _known(kept: dict) -> dict[str, dict]:
    """The results that need no second look."""
    known = {task: result for task, result in kept.get("results", {}).items() if "skipped" not in result}
    if "gsm8k_validation" not in known:  # the load is measured over it too, once it is at hand
        known.pop("expert_load", None)
    return known


def _read_kept(run: Path, key: dict[str, str]) -> dict:
    """What was measured before and still holds; {} where there is nothing."""
    try:
        content = read_json(run / KEPT)
    except (OSError, ValueError):
        return {}
    return content if content.get("key") == key else {}


def _key(run: Path, data: DataRecipe) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "weights": sha256(run / "final" / "model.safetensors"),
        "data": fingerprint([data.settings(), _identify(data.local_paths()), _identify(data.test_paths())]),
        "measure": code_fingerprint("axion.evaluation.tasks"),
    }


def _identify(files: Sequence[str]) -> list[dict[str, str]]:
    """Local files by name and sha256, never by path. A missing one is reported by its source."""
    return identify(file for file in files if Path(file).is_file())
