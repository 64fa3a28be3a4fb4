"""Build a release folder, with everything that goes into the model's repository, from a finished and evaluated run."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from axion.checksums import remembered_sha256
from axion.errors import AxionError
from axion.files import parse_yaml, read_json
from axion.inference.routing import routing_rows
from axion.model.modeling_axion import AxionForCausalLM
from axion.pretrained_tokenizer import model_ids
from axion.recipe import Recipe, load_recipe
from axion.release import open_release
from axion.series import code_url
from axion.shipped import shipped
from axion.tokenizer import generation_config, save_tokenizer, write_legacy_tokenizer
from axion.training.metrics import EVALUATIONS_FILE, HISTORY_FILE, METRICS_FILE, read_metrics
from axion.training.runfile import RUN_FILE
from publish.manifest import (
    CHAT_TEMPLATE,
    CODE,
    EXPERT_LOAD,
    HELD_OUT,
    LICENSE,
    OPTIONAL_FILES,
    REMOTE_CODE,
    check_files,
    check_names,
    has_own_tokenizer,
    remote_code,
    write_manifest,
)
from publish.release import charts
from publish.release.card import card_files, has_routed_experts, template_files
from publish.release.examples import record_examples, with_todays_examples
from publish.release.facts import collect_facts, released_recipe, roadmap, tested_transformers
from publish.release.fingerprint import code_fingerprint, fingerprint
from publish.release.heldout import write_held_out

KEPT = {CHAT_TEMPLATE, HELD_OUT, EVALUATIONS_FILE, HISTORY_FILE}
"""The optional files that belong to a run, so that a refreshed release keeps them."""
AUTO_MAP = {
    "AutoConfig": "configuration_axion.AxionConfig",
    "AutoModel": "modeling_axion.AxionModel",
    "AutoModelForCausalLM": "modeling_axion.AxionForCausalLM",
    "AutoModelForSequenceClassification": "modeling_axion.AxionForSequenceClassification",
}
TRACE = "trace.json"
PROJECT_LICENSE = "mit"
"""The licence identifier of the file LICENSE."""

_TOKENIZER = Path(__file__).parent / "assets" / "tokenizer.py"


@dataclass(frozen=True)
class Ingredients:
    """What a release is built from."""

    run: Path
    """The folder of a finished run: final/, metrics.csv, run.json."""
    measured: dict
    """See `publish.release.measure.measure`."""
    repo_id: str
    """Where it will be published, for the card."""
    presented: Mapping[str, Any] = field(default_factory=dict)
    """What is presented in another way than the run's recipe says, see `publish.release.facts.presentation`."""

    def inputs(self) -> dict[str, str]:
        """The sha256 of everything that the release depends on, including the code that builds it."""
        recipe = released_recipe(self.run, self.presented)
        described = parse_yaml(recipe)
        family = described["family"]
        logs = [self.run / name for name in (METRICS_FILE, RUN_FILE, HISTORY_FILE)]
        parts = [*filter(Path.is_file, logs), *sorted((self.run / "final").iterdir())]
        return {path.relative_to(self.run).as_posix(): remembered_sha256(path) for path in parts} | {
            "measured": fingerprint({key: value for key, value in self.measured.items() if key != "key"}),
            "recipe": fingerprint(recipe),
            "roadmap": fingerprint(roadmap(family, described["name"])),
            "code": code_fingerprint(__name__, [*code_files(), *template_files(family)]),
        }


def is_built(folder: Path, ingredients: Ingredients) -> bool:
    """Whether `folder` already is, unchanged, what these ingredients would give."""
    try:
        info = check_files(folder)
    except (OSError, AxionError):
        return False
    return (info.get("inputs"), info.get("repo_id")) == (ingredients.inputs(), ingredients.repo_id)


def build_release(ingredients: Ingredients, target: Path) -> None:
    """Build the release in a temporary folder beside `target`, and then move it there.

    Args:
        ingredients: the run, its evaluation and the repository's id.
        target: the release folder; an existing one is replaced.

    Raises:
        AxionError: the run is invalid, or files are missing or unexpected.
    """
    with _replacing(target) as folder:
        _write_files(ingredients, folder)
        check_names(folder)


def refresh(
    folder: Path,
    repo_id: str,
    target: Path,
    exports: Sequence[str] = (),
    space: str | None = None,
    measured: Mapping[str, object] | None = None,
    held_out: Sequence[dict[str, str]] = (),
    favourites: Sequence[dict] = (),
) -> None:
    """Copy a release, with card, roadmap and code as this version of Axion writes them.

    Weights and measured results are copied, so no run is needed.

    Args:
        folder: the release.
        repo_id: USER/NAME, for the card.
        target: where the copy goes; may be `folder` itself.
        exports: the other published forms, "native" and "gguf", which the card links to.
        space: the Space that shows the release, which the card links to.
        measured: results to add, see `publish.release.measure.measure_missing`.
        held_out: held-out documents to add, see `publish.release.measure.missing_held_out`.
        favourites: in place of those that the release records, see `publish.release.measure.missing_favourites`.

    Raises:
        AxionError: the folder does not match its release.json.
    """
    with _replacing(target) as copy:
        info = check_files(folder)  # a damaged file must not get a new, valid sha256
        written_below = {*OPTIONAL_FILES, *remote_code(folder)} - KEPT
        for name in set(info["files"]) - written_below:
            (copy / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, copy / name)
        _copy_code(copy)
        _set_auto_map(copy / "config.json")
        _copy_license(copy, info["license"])
        if (copy / TRACE).is_file():
            trace = with_todays_examples(read_json(copy / TRACE), open_release(folder), info["name"])
            _write_trace(copy, trace | ({"favourites": list(favourites)} if favourites else {}))
        today = {
            "repo_id": repo_id,
            "exports": list(exports),
            "space": space,
            "code": code_url(info["family"]),
            "roadmap": roadmap(info["family"], info["name"]),
            **tested_transformers(),
        }
        if count := write_held_out(load_recipe(copy / "recipe.yaml"), held_out, copy):
            today["held_out"] = count
        _write_card(copy, info | today | dict(measured or {}))
        check_names(copy)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` that replaces it on success and is removed on failure.

    If the process is killed between the two moves, the next call restores the old folder.
    """
    temporary = target.parent / f".{target.name}.building"
    new, old = temporary / "new", temporary / "old"

    def restore() -> None:
        if old.exists() and not target.exists():
            os.replace(old, target)

    restore()
    shutil.rmtree(temporary, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in new.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes files that only their owner can read
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    finally:
        restore()
        shutil.rmtree(temporary, ignore_errors=True)


def code_files(own_tokenizer: bool = True) -> list[Path]:
    """The files of this project that are copied into a release; a tokenizer of others needs none."""
    return [*(CODE / name for name in REMOTE_CODE), *([_TOKENIZER] if own_tokenizer else [])]


def _copy_code(folder: Path) -> None:
    for source in code_files(has_own_tokenizer(folder)):
        shutil.copyfile(source, folder / source.name)


def _copy_license(folder: Path, license: str) -> None:
    """Add the text of the licence, where it is this project's."""
    if license == PROJECT_LICENSE:
        shutil.copyfile(shipped(LICENSE), folder / LICENSE)


def _set_auto_map(path: Path) -> None:
    """Point an older release's config.json to the code as it is now."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("auto_map") != AUTO_MAP:
        path.write_text(json.dumps(config | {"auto_map": AUTO_MAP}, indent=2) + "\n", encoding="utf-8")


def _write_files(ingredients: Ingredients, folder: Path) -> None:
    run = ingredients.run
    release = open_release(run / "final")
    has_mtp = release.config.num_nextn_predict_layers > 0
    write_model(release.mtp_model if has_mtp else release.model, release.tokenizer, folder)
    save_tokenizer(release.tokenizer, folder)
    if has_own_tokenizer(folder):
        write_legacy_tokenizer(release.tokenizer, folder)
    _copy_code(folder)
    for name in (METRICS_FILE, EVALUATIONS_FILE, HISTORY_FILE):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    recipe = released_recipe(run, ingredients.presented)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")

    info = collect_facts(run, release.config, ingredients.measured, ingredients.repo_id, ingredients.presented)
    texts = ingredients.measured.get("held_out", [])
    info["evaluations"] = (folder / EVALUATIONS_FILE).is_file()
    info["history"] = (folder / HISTORY_FILE).is_file()
    info["held_out"] = write_held_out(Recipe.model_validate(parse_yaml(recipe)), texts, folder)
    title, metrics = info["title"], read_metrics(run / METRICS_FILE)
    charts.draw_training_curve(metrics, f"{title}: training", folder / "training.png")
    trace = record_examples(release, info["name"])
    if has_routed_experts(info):
        load = info["results"]["expert_load"]["together"]["layers"]
        rows = routing_rows(release.config)
        charts.draw_expert_load(load, rows, f"{title}: load of each expert", folder / EXPERT_LOAD)
        trace["favourites"] = ingredients.measured["favourites"]
    _write_trace(folder, trace)
    _copy_license(folder, info["license"])
    _write_card(folder, info | {"inputs": ingredients.inputs()})


def _write_trace(folder: Path, trace: Mapping[str, Any]) -> None:
    (folder / TRACE).write_text(json.dumps(trace, ensure_ascii=False) + "\n", encoding="utf-8")


def write_model(model: AxionForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors, with tied weights stored once."""
    for name, token_id in model_ids(tokenizer).items():
        if getattr(model.config, name) != token_id or getattr(tokenizer, name) is None:
            raise AxionError(f"{name} is {getattr(model.config, name)} in the model and {token_id} in the tokenizer")
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.config.auto_map = AUTO_MAP
    model.config.use_cache = True  # training disables it
    model.generation_config = generation_config(model.config, tokenizer)
    model.save_pretrained(folder)


def _write_card(folder: Path, info: dict) -> None:
    """Write the card and evaluation results, then release.json, which lists their sha256."""
    for name, text in card_files(info).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    write_manifest(folder, info)
