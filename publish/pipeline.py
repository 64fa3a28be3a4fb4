"""From a recipe to a release on the Hub.

preflight → train → evaluate → build → card → lint → reload → push → verify → tag → announce. Each step prints one line
with what it did and how long that took, and leaves alone what is already as it should be: a publication that was
stopped at any point goes on when the same command is given again.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import yaml

from axion import series
from axion.errors import AxionError
from axion.export import check_export
from axion.families import get_family
from axion.recipe import Recipe, load_recipe
from axion.release import RELEASES
from axion.training.run import RUN_FILE, Interrupted, differences, latest_run, read_run_file, train
from publish.check import lint
from publish.hub import announce
from publish.hub import client as hub
from publish.hub.delivery import Checks, Parcel, Terms, deliver
from publish.hub.verify import verify_download, verify_export, verify_release
from publish.manifest import check_files, files_in, read_manifest
from publish.release import exports
from publish.release.build import Ingredients, build_release, is_built, refresh
from publish.release.card import check_metadata
from publish.release.facts import read_run
from publish.release.measure import measure
from publish.space.publish import SpaceOrder, publish_space
from publish.steps import Steps

BRANCH = re.compile(r"(?!.*(\.\.|//|\.lock$))[A-Za-z0-9](?:[\w./-]*[\w-])?", re.ASCII)
"""What git takes for a branch's name, and a little less."""


@dataclass(frozen=True)
class Order:
    """What the user asked for."""

    version: str
    """A recipe's name or a YAML path."""
    repo_id: str
    """USER/NAME on the Hub."""
    overrides: tuple[str, ...] = ()
    """Changes to the recipe, key.path=value."""
    dry_run: bool = False
    """Stop before the push; replace no release. Where nothing is to be trained, no network is needed."""
    skip_train: bool = False
    """Take the newest finished run, else the release folder as it stands."""
    run: Path | None = None
    """Take this finished run."""
    exports: bool = False
    """Publish the native and the GGUF form too, each in a repository of its own."""
    space: bool = False
    """Publish the playground too, as the Space USER/NAME-playground that shows this release."""
    terms: Terms = field(default_factory=Terms)
    """How it is delivered."""


def publish(order: Order, steps: Steps) -> dict:
    """Run all steps; a dry run ends before the push and needs no token.

    Args:
        order: what to publish, and where.
        steps: is told each step.

    Returns:
        What `--json` prints: name, repo_id, tag, and where it was pushed commit, revision and url.

    Raises:
        AxionError: a step failed. What the steps before it made stays, and is not made again.
    """
    with steps.step("preflight") as did:
        recipe, released = preflight(order)
        did(f"{recipe.name} for {order.repo_id}")
    with steps.step("train") as did:
        run = _find_run(order, recipe, released, did)
    if run is None:
        folder = RELEASES / recipe.name
        for name in ("evaluate", "build"):
            steps.skip(name, f"{_shown(folder)} is complete as it stands")
    else:
        folder = _build(order, recipe, run, steps)
    with tempfile.TemporaryDirectory(prefix="axion-publish-") as scratch:
        staged = _stage(folder, order, Path(scratch) / folder.name)
        checks = Checks({"lint": lint.check_folder, "reload": verify_release}, verify_download)
        if order.dry_run:
            for name, check in checks.staged.items():
                with steps.step(name) as did:
                    did(check(staged))
            steps.skip("push", "a dry run ends here")
            return {"name": recipe.name, "repo_id": order.repo_id, "tag": released.tag}
        parcel = Parcel(staged, order.repo_id, released.tag, f"Release {recipe.name}")
        commit = deliver(parcel, order.terms, checks, steps)
        others = _deliver_exports(staged, order, released.tag, Path(scratch), steps) if order.exports else []
    return _announce(order, recipe, released.tag, commit, steps) | {"exports": others}


@dataclass(frozen=True)
class Released:
    """The tag that a version gets, and where it is on the Hub already."""

    tag: str
    commit: str | None


def preflight(order: Order) -> tuple[Recipe, Released]:
    """Everything that can be checked before hours of work: names, recipe, the card's metadata, token, rights.

    Raises:
        AxionError: the first thing that is wrong.
    """
    hub.check_repo_id(order.repo_id)
    recipe = load_recipe(order.version, order.overrides)
    check_metadata(recipe)
    if order.run and (name := read_run(order.run)["name"]) != recipe.name:
        raise AxionError(f"{_shown(order.run)} is a run of {name}, not of {recipe.name}")
    if order.exports:
        family = get_family(recipe.family)
        for form in family.exports:
            check_export(recipe.build_config(), family, form)
    if order.space and (order.terms.private or not order.terms.tags):
        raise AxionError("--space shows a public release: leave --private, --branch and --pr out, or publish it alone")
    if (branch := order.terms.branch) is not None and (branch == "main" or not BRANCH.fullmatch(branch)):
        raise AxionError(f"--branch {branch!r} is no name for a trial; write another than main, such as trial or try/2")
    tag = f"v{recipe.version}"
    if order.terms.branch == tag:
        raise AxionError(f"--branch {tag} would stand beside the tag of that name; write another, such as trial")
    if order.dry_run:
        return recipe, Released(tag, None)
    hub.check_access(order.repo_id)
    return recipe, Released(tag, hub.tags(order.repo_id).get(tag) if order.terms.tags else None)


# --- Train and build --------------------------------------------------------------------------------------------------


def _find_run(order: Order, recipe: Recipe, released: Released, did: Callable[[str], None]) -> Path | None:
    """The run to release; None where the release folder is to be taken as it stands."""
    if order.run is None and not order.skip_train:
        return _train_or_go_on(order, recipe, released, did)
    run = order.run or latest_run(recipe.name)
    if run is not None:
        changed = differences(yaml.safe_load(read_run(run)["recipe"]), yaml.safe_load(recipe.to_yaml()))
        changed = [key for key in changed if not key.startswith("data.")]  # where local files lie, says nothing
        note = f", trained with another {', '.join(changed)} than the recipe's" if changed else ""
        chosen = "the run is" if order.run else "the newest finished run is"
        did(f"skipped: {chosen} {_shown(run)}{note}")
    elif (RELEASES / recipe.name / "release.json").is_file():
        did("skipped: no finished run here")
    else:
        raise AxionError(
            f"--skip-train finds neither a finished run of {recipe.name} under runs/ nor releases/{recipe.name}; "
            "leave it out to train"
        )
    return run


def _train_or_go_on(order: Order, recipe: Recipe, released: Released, did: Callable[[str], None]) -> Path:
    """Train, go on with a run that was stopped, or take the one that this very recipe has finished."""
    run = Path("runs") / recipe.name
    started = read_run_file(run) if (run / RUN_FILE).is_file() else None
    if started and started["finished"]:
        if started["recipe"] != recipe.to_yaml():
            raise AxionError(f"{run} was trained with another recipe or data: move it away, or use it by --skip-train")
        did(f"skipped: {run} has finished this recipe")
        return run
    if released.commit:
        raise AxionError(
            f"{order.repo_id} has released {released.tag} already, and a new training would give another model: "
            "give the recipe a new version, or publish what is there by --skip-train"
        )
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


def _stage(folder: Path, order: Order, target: Path) -> Path:
    """A copy of a release whose card names this repository, and the forms of it that are published beside it."""
    info = check_files(folder)
    forms = tuple(get_family(info["family"]).exports) if order.exports else _published_forms(order, info["tag"])
    if (info["repo_id"], tuple(info.get("exports", ()))) == (order.repo_id, forms):
        return shutil.copytree(folder, target)
    refresh(folder, order.repo_id, target, forms)
    return target


def _published_forms(order: Order, tag: str) -> tuple[str, ...]:
    """The other forms of this release that are on the Hub already: the card goes on to name them."""
    if order.dry_run:
        return ()
    return tuple(form for form, suffix in exports.SUFFIXES.items() if tag in hub.tags(order.repo_id + suffix))


# --- After the release ------------------------------------------------------------------------------------------------


def _deliver_exports(release: Path, order: Order, tag: str, scratch: Path, steps: Steps) -> list[str]:
    """Publish a release's other forms under the same tag, each in a repository of its own; returns their names."""
    with steps.step("export") as did:
        staged = exports.stage_exports(release, order.repo_id, scratch / "exports")
        did(", ".join(form.repo_id for form in staged))
    checks = Checks({}, partial(verify_export, release=release))
    for form in staged:
        deliver(Parcel(form.folder, form.repo_id, tag, f"Release {form.folder.name}"), order.terms, checks, steps)
    return [form.repo_id for form in staged]


def _announce(order: Order, recipe: Recipe, tag: str, commit: str, steps: Steps) -> dict:
    """Collection, predecessor, Space; and how to load what was published."""
    revision, url = (tag if order.terms.tags else commit), f"{hub.api().endpoint}/{order.repo_id}"
    summary = {"name": recipe.name, "repo_id": order.repo_id, "tag": tag, "commit": commit, "revision": revision}
    if order.terms.tags:
        with steps.step("announce") as did:
            owner = order.repo_id.partition("/")[0]
            did(announce.add_to_collection(order.repo_id, series.collection_title(recipe.family)))
            old = series.predecessor(recipe.name)
            if old and (pointed := announce.point_to_new_version(f"{owner}/{old.repo_name}", order.repo_id)):
                did(pointed)
    if order.space:
        shown = (f"{order.repo_id}@{revision}",)
        summary["space"] = publish_space(SpaceOrder(f"{order.repo_id}-playground", shown), steps)
    if order.terms.branch:
        url += f"/tree/{order.terms.branch}"
    elif order.terms.pull_request:
        url += "/discussions"
    return summary | {"url": url, "snippet": announce.snippet(order.repo_id, revision)}


def _shown(path: Path) -> str:
    """A path as the user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


# --- The whole series -------------------------------------------------------------------------------------------------


def publish_all(order_for: Callable[[str, str], Order], user: str | None, steps: Steps) -> list[dict]:
    """Publish every released version of every series, each in its repository; what is made already is not made again.

    A version that has neither a finished run nor a release folder is trained, except in a dry run, which says so.

    Args:
        order_for: makes the order for a version and a repository.
        user: whose repositories they are; by default the token's own, and in a dry run the release folder's.
        steps: is told each step.

    Returns:
        The summaries, see `publish`.

    Raises:
        AxionError: a step failed. Versions before it are published.
    """
    summaries = []
    for member in series.walk():
        folder = RELEASES / member.name
        order = order_for(member.name, "")
        made = latest_run(member.name) is not None or (folder / "release.json").is_file()
        if not made and order.dry_run:
            steps.skip(
                member.name, "neither a finished run nor a release is here; without --dry-run it would be trained"
            )
            continue
        owner = user or _owner(folder, order.dry_run)
        order = replace(order_for(member.name, f"{owner}/{member.repo_name}"), skip_train=made)
        summaries.append(publish(order, steps))
    return summaries


def _owner(folder: Path, dry_run: bool) -> str:
    """The token's user; without a network the one whom the release's card names."""
    return read_manifest(folder)["repo_id"].partition("/")[0] if dry_run else hub.whoami()["name"]
