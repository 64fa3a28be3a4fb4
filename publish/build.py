"""Build a release folder: everything that the model's repository will hold, from a finished run and its evaluation."""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerFast

import axion
from axion.errors import AxionError
from axion.generation import Sampling, make_trace
from axion.modeling_axion import AxionForCausalLM
from axion.release import open_release
from axion.tokenizer import save_tokenizer, write_legacy_tokenizer
from publish import charts
from publish.card import TEMPLATES, render_card
from publish.facts import collect_facts, read_run
from publish.manifest import REMOTE_CODE, check_files, check_names, files_in, sha256

AUTO_MAP = {
    "AutoConfig": "configuration_axion.AxionConfig",
    "AutoModel": "modeling_axion.AxionModel",
    "AutoModelForCausalLM": "modeling_axion.AxionForCausalLM",
}
TRACE_PROMPT = "# Pergunta:\nQuanto é 47 + 38?\n--\n# Resposta:\n"
TRACE_SAMPLING = Sampling()  # what page and command line start with

_LOCAL_PATH = re.compile(r"(?<![\w.])(?:/(?:home|Users|root|tmp|work|workspace|mnt|content)/|[A-Za-z]:\\)[\w.-]")
_CODE = Path(axion.__file__).parent
_PUBLISH = Path(__file__).parent


@dataclass(frozen=True)
class Ingredients:
    """What a release is made of."""

    run: Path
    """A finished run: final/, metrics.csv, run.json."""
    measured: dict
    """`results` and `favourites`, see `publish.measure.measure`."""
    repo_id: str
    """Where it will be published; the card names it."""

    def fingerprint(self) -> dict[str, str]:
        """The sha256 of everything that the release depends on, the code that builds it included."""
        parts = ("metrics.csv", "run.json", "final/model.safetensors", "final/tokenizer.json")
        prints = {f"run/{name}": sha256(self.run / name) for name in parts}
        prints["measured"] = hashlib.sha256(json.dumps(self.measured, sort_keys=True).encode()).hexdigest()
        return prints | {"code": code_fingerprint()}


def is_built(folder: Path, ingredients: Ingredients) -> bool:
    """Whether `folder` already holds, unchanged, what these ingredients would give."""
    try:
        info = check_files(folder)
    except (OSError, AxionError):
        return False
    return (info.get("inputs"), info.get("repo_id")) == (ingredients.fingerprint(), ingredients.repo_id)


def build_release(ingredients: Ingredients, target: Path) -> None:
    """Build the release in a temporary folder beside `target` and put it there in one move.

    Args:
        ingredients: the run, what was measured of it and the repository's id.
        target: the release folder; one that is already there is replaced.

    Raises:
        AxionError: the run is broken, or what was built may not be published (see `check_contents`).
    """
    workshop = target.parent / ".building"
    shutil.rmtree(workshop, ignore_errors=True)  # what a killed build has left
    new, old = workshop / "new", workshop / "old"
    new.mkdir(parents=True)
    try:
        _write_files(ingredients, new)
        check_contents(new)
        for path in new.iterdir():
            path.chmod(0o644)  # safetensors lets nobody else read what it writes
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    except BaseException:
        if old.exists():
            os.replace(old, target)
        raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def refresh(folder: Path, repo_id: str, target: Path) -> None:
    """Copy a release with the card and the code of today, for a repository of any name.

    Weights and figures stay what they were, so no run is needed. `target` may be `folder` itself.

    Raises:
        AxionError: the folder is not what its own release.json says.
    """
    info = check_files(folder)  # a damaged file must not get a new, valid sha256
    if target != folder:
        target.mkdir(parents=True)
        for name in info["files"]:
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    _copy_code(target)
    _write_card(target, info | {"repo_id": repo_id})
    check_contents(target)


def code_fingerprint() -> str:
    """One sha256 of all code and templates that measure a model and build its release."""
    code = [*_CODE.rglob("*.py"), *_PUBLISH.rglob("*.py"), *TEMPLATES.glob("*.md.j2")]
    names_and_sums = sorted((path.relative_to(_CODE.parent).as_posix(), sha256(path)) for path in code)
    return hashlib.sha256(json.dumps(names_and_sums).encode()).hexdigest()


def code_files() -> list[Path]:
    """The files of this project that are copied into a release to the letter."""
    return [_CODE / name for name in REMOTE_CODE] + [_PUBLISH / "assets/tokenizer.py"]


def _copy_code(folder: Path) -> None:
    for source in code_files():
        shutil.copyfile(source, folder / source.name)


def check_contents(folder: Path) -> None:
    """Check that a folder holds the allow-list exactly, and that no text in it names a path of this machine.

    Raises:
        AxionError: it does not; the message names the file.
    """
    check_names(folder)
    for name in files_in(folder):
        if Path(name).suffix in {".png", ".safetensors"}:
            continue
        if path := _LOCAL_PATH.search((folder / name).read_text(encoding="utf-8")):
            raise AxionError(f"{name} names a path of this machine ({path[0]}…), which has no meaning for its readers")


def _write_files(ingredients: Ingredients, folder: Path) -> None:
    run = ingredients.run
    release = open_release(run / "final")
    _write_model(release.model, release.tokenizer, folder)
    save_tokenizer(release.tokenizer, folder)
    write_legacy_tokenizer(release.tokenizer, folder)
    _copy_code(folder)
    shutil.copyfile(run / "metrics.csv", folder / "metrics.csv")
    (folder / "recipe.yaml").write_text(read_run(run)["recipe"], encoding="utf-8")

    info = collect_facts(run, release.config, ingredients.measured["results"], ingredients.repo_id)
    title, metrics = info["title"], charts.read_metrics(run / "metrics.csv")
    charts.draw_training_curve(metrics, f"{title}: training", folder / "training.png")
    load = info["results"]["expert_load"]["together"]["layers"]
    charts.draw_expert_load(load, f"{title}: load of each expert", folder / "expert-load.png")
    trace = make_trace(info["name"], release.model, release.tokenizer, TRACE_PROMPT, TRACE_SAMPLING)
    trace["favourites"] = ingredients.measured["favourites"]
    _write_json(folder / "trace.json", trace, indent=None)
    _write_card(folder, info | {"inputs": ingredients.fingerprint()})


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
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)


def _write_card(folder: Path, info: dict) -> None:
    """Write README.md and then release.json, which has the card's sha256 in it."""
    info = {key: value for key, value in info.items() if key != "files"}
    (folder / "README.md").write_text(render_card(info), encoding="utf-8")
    files = {name: sha256(folder / name) for name in files_in(folder) if name != "release.json"}
    _write_json(folder / "release.json", info | {"files": files}, indent=2)


def _write_json(path: Path, content: dict, indent: int | None) -> None:
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
