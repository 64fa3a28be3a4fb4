"""The steps from a recipe to a tagged release: preflight, train, evaluate, build, verify, push, tag.

Each step prints one line with what it did and how long that took, and leaves alone what is already as it should be.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from axion.errors import AxionError
from axion.recipe import Recipe, load_recipe
from axion.release import RELEASES, open_release
from axion.training.run import RUN_FILE, Interrupted, differences, latest_run, read_run_file, train
from publish import hub
from publish.build import Ingredients, build_release, is_built, refresh
from publish.facts import read_run
from publish.manifest import files_in
from publish.measure import measure
from publish.verify import verify_release


@dataclass(frozen=True)
class Order:
    """What the user asked for."""

    version: str
    """A recipe's name or a YAML path."""
    repo_id: str
    """USER/NAME on the Hub."""
    overrides: tuple[str, ...] = ()
    """Changes to the recipe, key.path=value."""
    private: bool = False
    """Make a new repository private."""
    dry_run: bool = False
    """Stop before the push; replace no release."""
    skip_train: bool = False
    """Take the newest finished run, else the release folder as it stands."""


class Steps:
    """Prints one line per step: its name, what it did, its seconds."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; it reports what it did by calling what this yields. A step that fails prints nothing."""
        started, done = time.perf_counter(), []
        yield done.append
        self._say(f"{name:<10} {'; '.join(done)} ({time.perf_counter() - started:.1f} s)")


def publish(order: Order, say: Callable[[str], None] = print) -> None:
    """Run all steps; a dry run ends before the push and needs neither network nor token.

    Args:
        order: what to publish, and where.
        say: receives one line per step.

    Raises:
        AxionError: a step failed. What the steps before it made stays, and is not made again.
    """
    steps = Steps(say)
    with steps.step("preflight") as did:
        recipe = preflight(order)
        did(f"{recipe.name} for {order.repo_id}")
    with steps.step("train") as did:
        run = _train(order, recipe, did)
    if run is None:
        folder = RELEASES / recipe.name
        for name in ("evaluate", "build"):
            say(f"{name:<10} skipped: {_shown(folder)} is complete as it stands")
    else:
        folder = _build(order, recipe, run, steps)
    with tempfile.TemporaryDirectory(prefix="axion-publish-") as scratch:
        folder = _addressed(folder, order.repo_id, Path(scratch))
        with steps.step("verify") as did:
            did(verify_release(folder))
        if order.dry_run:
            say("push       skipped: a dry run ends here")
            return
        _push_and_tag(order, folder, steps)


def preflight(order: Order) -> Recipe:
    """Everything that can be checked before hours of work: names, token, recipe.

    Raises:
        AxionError: the first thing that is wrong.
    """
    hub.check_repo_id(order.repo_id)
    recipe = load_recipe(order.version, order.overrides)
    if not order.dry_run:
        hub.check_token()
    return recipe


def _train(order: Order, recipe: Recipe, did: Callable[[str], None]) -> Path | None:
    """The run to release; None where the release folder is to be taken as it stands."""
    if not order.skip_train:
        return _train_or_go_on(recipe, did)
    run = latest_run(recipe.name)
    if run is not None:
        changed = differences(yaml.safe_load(read_run(run)["recipe"]), yaml.safe_load(recipe.to_yaml()))
        changed = [key for key in changed if not key.startswith("data.")]  # where local files lie, says nothing
        note = f", trained with another {', '.join(changed)} than the recipe's" if changed else ""
        did(f"skipped: the newest finished run is {_shown(run)}{note}")
    elif (RELEASES / recipe.name / "release.json").is_file():
        did("skipped: no finished run here")
    else:
        raise AxionError(
            f"--skip-train finds neither a finished run of {recipe.name} under runs/ nor releases/{recipe.name}; "
            "leave it out to train"
        )
    return run


def _train_or_go_on(recipe: Recipe, did: Callable[[str], None]) -> Path:
    """Train, go on with a run that was stopped, or take the one that this very recipe has finished."""
    run = Path("runs") / recipe.name
    started = read_run_file(run) if (run / RUN_FILE).is_file() else None
    if started and started["finished"]:
        if started["recipe"] != recipe.to_yaml():
            raise AxionError(f"{run} was trained with another recipe or data: move it away, or use it by --skip-train")
        did(f"skipped: {run} has finished this recipe")
        return run
    try:
        train(recipe, resume=started is not None)
    except Interrupted:
        raise AxionError(f"training was stopped and {run} is saved: the same command goes on with it") from None
    did(f"{run}, resumed" if started else f"{run}")
    return run


def _build(order: Order, recipe: Recipe, run: Path, steps: Steps) -> Path:
    with steps.step("evaluate") as did:
        measured = measure(run, recipe, did)
    with steps.step("build") as did:
        ingredients = Ingredients(run, measured, order.repo_id)
        folder = RELEASES / recipe.name
        if is_built(folder, ingredients):
            did(f"skipped: {_shown(folder)} is up to date")
            return folder
        if order.dry_run and folder.exists():
            folder = run / "release"  # a dry run replaces no release
        build_release(ingredients, folder)
        files = files_in(folder)
        size = sum((folder / name).stat().st_size for name in files)
        did(f"{_shown(folder)}, {len(files)} files, {size / 1e6:.2f} MB")
    return folder


def _addressed(folder: Path, repo_id: str, scratch: Path) -> Path:
    """The folder itself where its card names this repository, else a copy of it whose card does."""
    if open_release(folder).info.get("repo_id") == repo_id:
        return folder
    copy = scratch / folder.name
    refresh(folder, repo_id, copy)
    return copy


def _push_and_tag(order: Order, folder: Path, steps: Steps) -> None:
    info = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    with steps.step("push") as did:
        commit = hub.push(folder, files_in(folder), order.repo_id, f"Release {info['name']}", order.private)
        did(f"https://huggingface.co/{order.repo_id} at {commit[:8]}")
    with steps.step("tag") as did:
        created = hub.tag(order.repo_id, info["tag"], commit)
        did(info["tag"] if created else f"skipped: {info['tag']} is on this commit already")


def _shown(path: Path) -> str:
    """A path as the user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)
