"""From a recipe to a release on the Hub.

preflight → train → evaluate → build → card → lint → reload → push → verify → tag → announce. Each step reports what it
did and how long it took, and is skipped if its result exists already. A publication that was interrupted at any point
therefore continues when the same command is run again.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from axion import series
from axion.data.sources import Gsm8k
from axion.data.sources.files import check_file
from axion.errors import AxionError
from axion.export import check_export
from axion.families import get_family
from axion.files import parse_yaml
from axion.recipe import OwnText, Recipe, load_recipe
from axion.release import BUILT, release_folder
from axion.training.resume import changed_since
from axion.training.run import Interrupted, train
from axion.training.runfile import RUN_FILE, latest_run, read_run_file
from publish.check import lint
from publish.hub import announce
from publish.hub import client as hub
from publish.hub.delivery import AlreadyReleased, Checks, PushOptions, ReleaseUpload, deliver
from publish.hub.edits import files_to_overwrite
from publish.hub.verify import verify_download, verify_export, verify_release
from publish.manifest import check_release, files_in, read_manifest, remote_code, require
from publish.release import adapter, exports, heldout, history
from publish.release.build import Ingredients, build_release, code_files, is_built, refresh
from publish.release.card import check_metadata
from publish.release.facts import changed_presentation, presentation, read_run, released_recipe
from publish.release.measure import measure
from publish.scratch import scratch_folder
from publish.space.publish import SpaceRequest, check_space, publish_space
from publish.steps import Steps

BRANCH = re.compile(r"(?!.*(\.\.|//|\.lock$))[A-Za-z0-9](?:[\w./-]*[\w-])?", re.ASCII)
"""Branch names that git accepts, or rather a subset of them."""


LANGUAGE_OF_A_SOURCE = re.compile(r"data\.sources\.\d+\.language")
"""The key of a recipe that `--language` sets besides the card's: documents are counted by it."""


@dataclass(frozen=True)
class PublishRequest:
    """A version to publish, and how."""

    version: str
    """A recipe's name or a YAML path."""
    repo_id: str
    """USER/NAME on the Hub."""
    overrides: tuple[str, ...] = ()
    """Overrides of the recipe, key.path=value."""
    dry_run: bool = False
    """Stop before the push, and replace no existing release. Without training, no network is needed."""
    skip_train: bool = False
    """Use the newest finished run, or else the existing release folder."""
    run: Path | None = None
    """Use this finished run."""
    exports: bool = False
    """Also publish the native and GGUF forms, each in a repository of its own."""
    space: bool = False
    """Also publish the playground, as the Space USER/NAME-playground that shows this release."""
    hardware: str | None = None
    """The Space's hardware, see `publish.space.publish.SpaceRequest`."""
    push: PushOptions = field(default_factory=PushOptions)
    overwrite: frozenset[str] = frozenset()
    """Files whose edits on the Hub are discarded: FILE of `repo_id`, or USER/NAME:FILE."""
    own: OwnText | None = None
    """Text to train on in place of the recipe's data."""
    adapter: bool = False
    """Also publish the LoRA adapter of a fine-tuning run by itself, as USER/NAME-LoRA."""
    history: bool = False
    """Also publish the checkpoints that the run keeps, each as a branch; a run that starts now keeps all of them."""
    static: bool = False
    """Make the Space a page without a server."""

    @property
    def space_id(self) -> str:
        """The name of the Space."""
        return f"{self.repo_id}-playground"

    def push_to(self, repo_id: str) -> PushOptions:
        """How to push to one of the repositories."""
        return replace(self.push, overwrite=files_to_overwrite(self.overwrite, repo_id, self.repo_id))


def publish(request: PublishRequest, steps: Steps) -> dict:
    """Run all steps; a dry run stops before the push and needs no token.

    Args:
        request: what to publish, and where.
        steps: reports each step.

    Returns:
        What `--json` prints: name, repo_id and tag; after a push also commit, revision, url, snippet and exports.

    Raises:
        AxionError: a step failed. The results of the steps before it are kept and reused.
    """
    with steps.step("preflight") as did:
        recipe, tag = preflight(request)
        did(f"{recipe.name} for {request.repo_id}")
    with steps.step("train") as did:
        run = _find_run(request, recipe, tag, did)
    if run is None and request.adapter:
        raise AxionError("--adapter publishes what the run keeps beside the release: name the run with --from RUN")
    if run is None and request.history:
        raise AxionError("--history publishes the checkpoints that the run keeps: name the run with --from RUN")
    checkpoints = history.kept_checkpoints(run) if run and request.history else []
    if run is None:
        folder = release_folder(recipe.name)
        for name in ("evaluate", "build"):
            steps.skip(name, f"{_relative(folder)} is already built")
    else:
        folder = _build(request, recipe, run, steps)
    with scratch_folder("publish") as scratch:
        copy = _copy_release(folder, request, scratch / folder.name)
        checks = Checks({"lint": lint.check_folder, "reload": verify_release}, verify_download)
        if request.dry_run:
            for name, check in checks.before_push.items():
                with steps.step(name) as did:
                    did(check(copy))
            if run and request.adapter:
                _build_adapter(run, copy, request, scratch, steps)
            if run and checkpoints:
                with steps.step("history") as did:
                    for kept in checkpoints:
                        checked = lint.check_folder(history.build_checkpoint(kept, run, copy, scratch / "history"))
                    did(f"{_count(checkpoints)}, {checked}")
            steps.skip("push", "dry run")
            return {"name": recipe.name, "repo_id": request.repo_id, "tag": tag.name}
        upload = ReleaseUpload(copy, request.repo_id, tag.name, f"Release {recipe.name}")
        commit = deliver(upload, request.push_to(upload.repo_id), checks, steps)
        others = _deliver_exports(copy, request, tag.name, scratch, steps) if request.exports else []
        if run and request.adapter:
            built = _build_adapter(run, copy, request, scratch, steps)
            others += _deliver_forms([built], copy, request, tag.name, steps)
        if run and checkpoints:
            _deliver_history(checkpoints, run, copy, request, scratch, steps)
    return _announce(request, recipe, tag.name, commit, steps) | {"exports": others}


@dataclass(frozen=True)
class ReleaseTag:
    """The tag of a version."""

    name: str
    commit: str | None
    """Where it is on the Hub; None if the version is not released yet."""


def preflight(request: PublishRequest) -> tuple[Recipe, ReleaseTag]:
    """Check everything that does not need hours of work: names, recipe, card metadata, token, permissions.

    Raises:
        AxionError: the first problem.
    """
    hub.check_repo_id(request.repo_id)
    recipe = load_recipe(request.version, request.overrides, request.own)
    check_metadata(recipe)
    if request.run and (name := read_run(request.run)["name"]) != recipe.name:
        raise AxionError(f"{_relative(request.run)} is a run of {name}, not of {recipe.name}")
    forms = get_family(recipe.family).exports if request.exports else {}
    if request.exports and not forms:  # then the configuration says why, or the family
        check_export(recipe.build_config(), get_family(recipe.family), "native")
    for form in forms:
        hub.check_repo_id(request.repo_id + exports.SUFFIXES[form], "--exports makes the name")
        check_export(recipe.build_config(), get_family(recipe.family), form)
    if "gguf" in forms and recipe.tokenizer.kind != "bpe":
        _check_gguf_tokenizer(recipe)
    if request.adapter:
        hub.check_repo_id(request.repo_id + adapter.SUFFIX, "--adapter makes the name")
        if recipe.lora is None or recipe.start is None:
            raise AxionError(f"{recipe.name} has no adapter: it was not fine-tuned with --lora; omit --adapter")
        if recipe.start.repo_id is None:
            raise AxionError(
                f"an adapter belongs to a model on the Hub, and {recipe.start.name} has no repository there: "
                "publish it first, fine-tune from USER/NAME, or omit --adapter"
            )
    if request.space:
        hub.check_repo_id(request.space_id, "--space makes the name")
        if request.push.private or not request.push.is_release:
            raise AxionError(
                "--space shows a public release: omit --private, --branch and --pr, or publish without a Space"
            )
    if (branch := request.push.branch) is not None and (branch == "main" or not BRANCH.fullmatch(branch)):
        raise AxionError(
            f"--branch {branch!r} is not allowed; choose a valid name other than main, such as trial or test/2"
        )
    if request.history and recipe.lora:
        raise AxionError(f"the checkpoints of {recipe.name} hold its adapters alone: omit --history")
    if request.history and not request.push.is_release:
        raise AxionError("--history publishes branches beside a release: omit --branch and --pr, or --history")
    tag = f"v{recipe.version}"
    if request.push.branch == tag:
        raise AxionError(f"--branch {tag} is ambiguous, since the tag has that name; choose another, such as trial")
    if request.run is None and not request.skip_train:
        check_local_files(recipe)
    if request.dry_run:
        return recipe, ReleaseTag(tag, None)
    user, push = hub.whoami(), request.push
    access = {"private": push.private, "pull_request": push.pull_request, "user": user}
    exists = hub.check_access(request.repo_id, **access)
    for form in forms:
        hub.check_access(request.repo_id + exports.SUFFIXES[form], **access)
    if request.adapter:
        hub.check_access(request.repo_id + adapter.SUFFIX, **access)
    if request.space:
        check_space(SpaceRequest(request.space_id, hardware=request.hardware, static=request.static), user)
    return recipe, ReleaseTag(tag, hub.tags(request.repo_id).get(tag) if exists and push.is_release else None)


def _check_gguf_tokenizer(recipe: Recipe) -> None:
    """Raises AxionError if llama.cpp would not read the tokenizer of another that a recipe names."""
    from axion.export.gguf import check_tokenizer

    tokenizer = recipe.tokenizer.make(())
    try:
        check_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str()))
    except AxionError as error:
        raise AxionError(f"{error}; omit --exports, or train a tokenizer on the text") from None


def check_local_files(recipe: Recipe) -> None:
    """Check that the recipe's local data files exist, and read those that would only be read after training.

    Raises:
        AxionError: a file is missing, or a line of it is broken.
    """
    for source in recipe.data.sources:
        for path in [*source.local_paths(), *source.test_paths()]:
            check_file(path)
        if isinstance(source, Gsm8k) and source.test_files:
            for _ in source.problems("test"):
                pass


# --- Train and build --------------------------------------------------------------------------------------------------


def _find_run(request: PublishRequest, recipe: Recipe, tag: ReleaseTag, did: Callable[[str], None]) -> Path | None:
    """The run to release; None to use the existing release folder."""
    if request.run is None and not request.skip_train:
        return _train_or_resume(request, recipe, tag, did)
    run = request.run or latest_run(recipe.name)
    if run is not None:
        read_run(run)  # it has to be finished
        changed = _changed(run, recipe)
        note = f", whose recipe differed in {', '.join(changed)}" if changed else ""
        chosen = "the run is" if request.run else "the newest finished run is"
        did(f"skipped: {chosen} {_relative(run)}{note}")
    elif (release_folder(recipe.name) / "release.json").is_file():
        did("skipped: no finished run, using the existing release")
    else:
        raise AxionError(
            f"--skip-train finds neither a finished run of {recipe.name} under runs/ nor releases/{recipe.name}; "
            "omit it to train"
        )
    return run


def _train_or_resume(request: PublishRequest, recipe: Recipe, tag: ReleaseTag, did: Callable[[str], None]) -> Path:
    """Train, resume an interrupted run, or use a run that finished with the same recipe."""
    run = Path("runs") / recipe.name
    started = read_run_file(run) if (run / RUN_FILE).is_file() else None
    if started and started.get("finished"):
        if changed := _changed(run, recipe):
            raise AxionError(
                f"{run} was trained with another recipe ({', '.join(changed)}): move it away, or use --skip-train"
            )
        did(f"skipped: {run} is finished")
        return run
    if tag.commit:
        raise AxionError(
            f"{request.repo_id} has already released {tag.name}, and training again would give another model: "
            "give the recipe a new version, or publish the existing run with --skip-train"
        )
    if recipe.start:
        raise AxionError(
            f"{recipe.name} is made by `python -m axion finetune`; publish a finished run of it with --from RUN"
        )
    if request.history:
        kept = {"keep_checkpoints": max(recipe.training.keep_checkpoints, recipe.training.checkpoints + 1)}
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=kept)})
    try:
        train(recipe, resume=started is not None)
    except Interrupted:
        raise AxionError("training was interrupted; what is done is kept: run the same command again") from None
    did(f"{run}, resumed" if started else f"{run}")
    return run


def _changed(run: Path, recipe: Recipe) -> list[str]:
    """The keys in which a recipe would train another model than the run's."""
    return [key for key in changed_since(run, recipe) if not LANGUAGE_OF_A_SOURCE.fullmatch(key)]


def _build(request: PublishRequest, recipe: Recipe, run: Path, steps: Steps) -> Path:
    with steps.step("evaluate") as did:
        measured = measure(run, recipe, did)
    with steps.step("build") as did:
        presented = presentation(recipe)
        if changed := changed_presentation(run, presented):
            did(f"{', '.join(changed)} as the recipe says now")
        ingredients = Ingredients(run, measured, request.repo_id, presented)
        folder = BUILT.absolute() / recipe.name
        if is_built(folder, ingredients):
            did(f"skipped: {_relative(folder)} is up to date")
            return folder
        if request.dry_run and folder.exists():
            folder = run / "release"  # a dry run replaces no existing release
        build_release(ingredients, folder)
        files = files_in(folder)
        size = sum((folder / name).stat().st_size for name in files)
        did(f"{_relative(folder)}, {len(files)} files, {size / 1e6:.2f} MB")
        released = Recipe.model_validate(parse_yaml(released_recipe(run, presented)))
        did(heldout.describe(released, measured.get("held_out", [])))
    return folder


def _copy_release(folder: Path, request: PublishRequest, target: Path) -> Path:
    """Copy a release; the card of the copy names this repository and the other published forms."""
    info = check_release(folder)
    forms = tuple(get_family(info["family"]).exports) if request.exports else _published_forms(request, info["tag"])
    space = _published_space(request)
    if (info["repo_id"], tuple(info.get("exports", ())), info.get("space")) == (request.repo_id, forms, space):
        return shutil.copytree(folder, target)
    refresh(folder, request.repo_id, target, forms, space)
    return target


def _published_forms(request: PublishRequest, tag: str) -> tuple[str, ...]:
    """The other forms of this release that are on the Hub already."""
    if request.dry_run:
        return ()
    names = {form: request.repo_id + suffix for form, suffix in exports.SUFFIXES.items()}
    return tuple(
        form for form, name in names.items() if hub.is_repo_id(name) and tag in hub.tags(name, must_exist=False)
    )


def _published_space(request: PublishRequest) -> str | None:
    """The Space that the card links to: the one that is published next, or that is on the Hub already."""
    if request.space:
        return request.space_id
    if request.dry_run or not hub.is_repo_id(request.space_id):
        return None
    return request.space_id if hub.head(request.space_id, repo_type="space") else None


# --- After the release ------------------------------------------------------------------------------------------------


def _deliver_history(
    checkpoints: list[history.Kept], run: Path, release: Path, request: PublishRequest, scratch: Path, steps: Steps
) -> None:
    """Publish each checkpoint as a branch of the release's repository; branches that are there already are skipped."""
    there = []
    for kept in checkpoints:
        folder = history.build_checkpoint(kept, run, release, scratch / "history")
        commit = hub.head(request.repo_id, kept.branch)
        if commit and not hub.differences(folder, request.repo_id, commit):
            there.append(kept)
            continue
        with steps.step("history") as did:
            upload = ReleaseUpload(folder, request.repo_id, kept.branch, f"Checkpoint after step {kept.step:,}")
            options = replace(request.push_to(request.repo_id), branch=kept.branch)
            checks = Checks({"lint": lint.check_folder}, verify_download)
            commit = deliver(upload, options, checks, Steps(lambda line: None))
            did(f"{kept.branch} at {commit[:8]}, verified")
    if there:
        steps.skip("history", f"{_count(there)}, {there[0].branch} to {there[-1].branch}, on the Hub already")


def _count(checkpoints: list[history.Kept]) -> str:
    return "1 checkpoint" if len(checkpoints) == 1 else f"{len(checkpoints)} checkpoints"


def _deliver_exports(release: Path, request: PublishRequest, tag: str, scratch: Path, steps: Steps) -> list[str]:
    """Publish a release's other forms under the same tag, each in a repository of its own; returns their ids."""
    with steps.step("export") as did:
        built = exports.build_exports(release, request.repo_id, scratch / "exports")
        did(", ".join(form.repo_id for form in built))
    return _deliver_forms(built, release, request, tag, steps)


def _build_adapter(run: Path, release: Path, request: PublishRequest, scratch: Path, steps: Steps) -> exports.Export:
    with steps.step("adapter") as did:
        built = adapter.build_adapter(run, release, request.repo_id, scratch / "adapter")
        did(f"{built.repo_id}, computes what the release does, {lint.check_folder(built.folder)}")
    return built


def _deliver_forms(
    built: list[exports.Export], release: Path, request: PublishRequest, tag: str, steps: Steps
) -> list[str]:
    """Publish other forms of a release under its tag; returns their ids."""
    checks = Checks({}, partial(verify_export, release=release))
    for form in built:
        upload = ReleaseUpload(form.folder, form.repo_id, tag, f"Release {form.folder.name}")
        deliver(upload, request.push_to(upload.repo_id), checks, steps)
    return [form.repo_id for form in built]


def _announce(request: PublishRequest, recipe: Recipe, tag: str, commit: str, steps: Steps) -> dict:
    """Update the collection, the preceding version and the Space; returns the summary of `publish`."""
    revision, url = (tag if request.push.is_release else commit), f"{hub.api().endpoint}/{request.repo_id}"
    summary = {"name": recipe.name, "repo_id": request.repo_id, "tag": tag, "commit": commit, "revision": revision}
    if request.push.is_release:
        with steps.step("announce") as did:
            owner = request.repo_id.partition("/")[0]
            if series.has_member(recipe.family, recipe.name):
                did(announce.add_to_collection(request.repo_id, series.collection_title(recipe.family)))
            else:
                did(f"in no collection, because {recipe.name} is not a version of the series")
            old = series.predecessor(recipe.name)
            if old and (linked := announce.link_to_new_version(f"{owner}/{old.repo_name}", request.repo_id)):
                did(linked)
    if request.space:
        models, overwrite = (f"{request.repo_id}@{revision}",), request.push_to(request.space_id).overwrite
        space = SpaceRequest(
            request.space_id, models, hardware=request.hardware, overwrite=overwrite, static=request.static
        )
        try:
            summary["space"] = publish_space(space, steps)
        except AxionError as error:
            raise AxionError(f"{request.repo_id} is released as {tag}, but its Space is not: {error}") from None
    if request.push.branch:
        url += f"/tree/{request.push.branch}"
    elif request.push.pull_request:
        url += "/discussions"
    return summary | {"url": url, "snippet": announce.snippet(request.repo_id, revision)}


def _relative(path: Path) -> str:
    """A path as relative to the working directory, if it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


# --- The whole series -------------------------------------------------------------------------------------------------


def publish_all(request_for: Callable[[str, str], PublishRequest], user: str | None, steps: Steps) -> list[dict]:
    """Publish every version of every series that was trained, each in its repository; existing results are reused.

    A planned version, which has neither a finished run nor a release folder, is left out.

    Args:
        request_for: gives the request for a version and a repository id.
        user: owner of the repositories; by default the token's user, or in a dry run the owner that the card names.
        steps: reports each step.

    Returns:
        The summaries, see `publish`.

    Raises:
        AxionError: a step failed. Earlier versions are published.
    """
    summaries = []
    for member in series.walk():
        folder = release_folder(member.name)
        exists = latest_run(member.name) is not None or (folder / "release.json").is_file()
        if not exists:
            steps.skip(member.name, "planned: no finished run and no release")
            continue
        owner = user or _owner(folder, request_for(member.name, "").dry_run)
        request = replace(request_for(member.name, f"{owner}/{member.repo_name}"), skip_train=True)
        if request.exports and not get_family(load_recipe(member.name).family).exports:
            request = replace(request, exports=False)
        try:
            summaries.append(publish(request, steps))
        except AlreadyReleased as error:
            if not error.different <= _code_files(folder):
                raise
            steps.skip(member.name, f"{error.tag} was released with an earlier version of the code")
    return summaries


def _code_files(folder: Path) -> set[str]:
    """The files of a release that depend on this version's code alone, not on the run."""
    return {path.name for path in code_files()} | remote_code(folder) | {"config.json"}


def _owner(folder: Path, dry_run: bool) -> str:
    """The token's user, or in a dry run, which has no network, the owner that the release's card names."""
    if not dry_run:
        return hub.whoami()["name"]
    info = read_manifest(folder)
    require(info, "repo_id")
    return info["repo_id"].partition("/")[0]
