"""Build a release folder: everything that the model's repository will hold, from a finished run and its evaluation."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from transformers import GenerationConfig, PreTrainedTokenizerFast

import axion
from axion.errors import AxionError
from axion.families import get_family
from axion.files import sha256
from axion.inference.sampling import Sampling
from axion.inference.stream import make_trace
from axion.model.modeling_axion import AxionForCausalLM
from axion.release import open_release
from axion.tokenizer import save_tokenizer, write_legacy_tokenizer
from axion.training.metrics import METRICS_FILE, read_metrics
from publish.manifest import OPTIONAL_FILES, REMOTE_CODE, check_files, check_names, write_manifest
from publish.release import charts
from publish.release.card import TEMPLATES, card_files
from publish.release.facts import collect_facts, read_run, roadmap
from publish.release.fingerprint import code_fingerprint, fingerprint

AUTO_MAP = {
    "AutoConfig": "configuration_axion.AxionConfig",
    "AutoModel": "modeling_axion.AxionModel",
    "AutoModelForCausalLM": "modeling_axion.AxionForCausalLM",
}
TRACE_PROMPT = "# Pergunta:\nQuanto é 47 + 38?\n--\n# Resposta:\n"
TRACE_SAMPLING = Sampling()  # what page and command line start with

_CODE = Path(axion.__file__).parent / "model"
_PUBLISH = Path(__file__).parent


@dataclass(frozen=True)
class Ingredients:
    """What a release is made of."""

    run: Path
    """A finished run: final/, metrics.csv, run.json."""
    measured: dict
    """See `publish.release.measure.measure`."""
    repo_id: str
    """Where it will be published; the card names it."""

    def inputs(self) -> dict[str, str]:
        """The sha256 of everything that the release depends on, the code that builds it included."""
        family = yaml.safe_load(read_run(self.run)["recipe"])["family"]
        parts = [self.run / "metrics.csv", self.run / "run.json", *sorted((self.run / "final").iterdir())]
        return {path.relative_to(self.run).as_posix(): sha256(path) for path in parts} | {
            "measured": fingerprint({key: value for key, value in self.measured.items() if key != "key"}),
            "roadmap": fingerprint(roadmap(family)),
            "code": code_fingerprint(__name__, [*code_files(), TEMPLATES / get_family(family).card_template]),
        }


def is_built(folder: Path, ingredients: Ingredients) -> bool:
    """Whether `folder` already holds, unchanged, what these ingredients would give."""
    try:
        info = check_files(folder)
    except (OSError, AxionError):
        return False
    return (info.get("inputs"), info.get("repo_id")) == (ingredients.inputs(), ingredients.repo_id)


def build_release(ingredients: Ingredients, target: Path) -> None:
    """Build the release in a temporary folder beside `target` and put it there in one move.

    Args:
        ingredients: the run, what was measured of it and the repository's id.
        target: the release folder; one that is already there is replaced.

    Raises:
        AxionError: the run is broken, or what was built is not the allow-list of files.
    """
    with _replacing(target) as folder:
        _write_files(ingredients, folder)
        check_names(folder)


def refresh(folder: Path, repo_id: str, target: Path, exports: Sequence[str] = ()) -> None:
    """Copy a release with the card, the roadmap and the code of today, for a repository of any name.

    Weights and figures stay what they were, so no run is needed.

    Args:
        folder: the release.
        repo_id: USER/NAME, which the card names.
        target: where the copy goes; it may be `folder` itself.
        exports: the other forms that are published beside it, "native" and "gguf"; the card names their repositories.

    Raises:
        AxionError: the folder is not what its own release.json says.
    """
    with _replacing(target) as copy:
        info = check_files(folder)  # a damaged file must not get a new, valid sha256
        for name in set(info["files"]) - set(OPTIONAL_FILES):  # these come with the card, where they still hold
            (copy / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, copy / name)
        _copy_code(copy)
        today = {"repo_id": repo_id, "exports": list(exports), "roadmap": roadmap(info["family"])}
        _write_card(copy, info | today)
        check_names(copy)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` that takes its place when all went well, and is gone when not.

    A process that is killed between the two moves leaves the old folder in the workshop; the next one puts it back.
    """
    workshop = target.parent / f".{target.name}.building"
    new, old = workshop / "new", workshop / "old"

    def put_back() -> None:
        if old.exists() and not target.exists():
            os.replace(old, target)

    put_back()
    shutil.rmtree(workshop, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        for path in new.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors lets nobody else read what it writes
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    finally:
        put_back()
        shutil.rmtree(workshop, ignore_errors=True)


def code_files() -> list[Path]:
    """The files of this project that are copied into a release to the letter."""
    return [_CODE / name for name in REMOTE_CODE] + [_PUBLISH / "assets/tokenizer.py"]


def _copy_code(folder: Path) -> None:
    for source in code_files():
        shutil.copyfile(source, folder / source.name)


def _write_files(ingredients: Ingredients, folder: Path) -> None:
    run = ingredients.run
    release = open_release(run / "final")
    _write_model(release.model, release.tokenizer, folder)
    save_tokenizer(release.tokenizer, folder)
    write_legacy_tokenizer(release.tokenizer, folder)
    _copy_code(folder)
    shutil.copyfile(run / "metrics.csv", folder / "metrics.csv")
    (folder / "recipe.yaml").write_text(read_run(run)["recipe"], encoding="utf-8")

    info = collect_facts(run, release.config, ingredients.measured, ingredients.repo_id)
    title, metrics = info["title"], read_metrics(run / METRICS_FILE)
    charts.draw_training_curve(metrics, f"{title}: training", folder / "training.png")
    load = info["results"]["expert_load"]["together"]["layers"]
    first_layer = release.config.mixture_layers.start + 1
    charts.draw_expert_load(load, f"{title}: load of each expert", folder / "expert-load.png", first_layer)
    trace = make_trace(info["name"], release.model, release.tokenizer, TRACE_PROMPT, TRACE_SAMPLING)
    trace["favourites"] = ingredients.measured["favourites"]
    (folder / "trace.json").write_text(json.dumps(trace, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_card(folder, info | {"inputs": ingredients.inputs()})


def _write_model(model: AxionForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors; tied weights are stored once."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, token_id in ids.items():
        if token_id is None or getattr(model.config, name) != token_id:
            raise AxionError(f"{name} is {getattr(model.config, name)} in the model and {token_id} in the tokenizer")
    if ids["pad_token_id"] == ids["eos_token_id"]:
        raise AxionError("pad_token_id and eos_token_id are the same token; texts would never end, or be empty")
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.config.auto_map = AUTO_MAP
    model.config.use_cache = True  # training turns it off
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)


def _write_card(folder: Path, info: dict) -> None:
    """Write what people and the Hub read of `info`, and then release.json, which has its sha256 in it."""
    for name, text in card_files(info).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    write_manifest(folder, info)
