"""Publish the playground as a Space: build it, run it locally, push one commit, and wait until it runs."""

import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceHardware, SpaceRuntime, SpaceStage, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects

from axion.errors import AxionError
from axion.release import NEEDED, WANTED_FROM_HUB
from publish.hub import client as hub
from publish.hub.edits import overwrite_options
from publish.hub.errors import hub_errors, retry
from publish.manifest import files_in
from publish.release.metadata import check_repo_name
from publish.scratch import scratch_folder
from publish.space.build import BUNDLED, ZERO_GPU, PublishedModel, build_space
from publish.space.local_run import run_locally
from publish.space.page import FILES as PAGE_FILES
from publish.space.page import build_static_space, check_page, sdk_of
from publish.steps import Steps

DRY_RUN_FOLDER = Path("build") / "space"
VARIABLES = {"OMP_NUM_THREADS": "1"}
"""A container sees all cores of its machine but may use two, so torch would start too many threads."""

POLL_INTERVALS = (2, 3, 5, 8, 13, 20)
"""Seconds between polls of a Space that is being built; the last one is repeated."""
MAX_WAIT_SECONDS = 20 * 60

COMMIT_PREFIX = "The playground, with"
"""Titles of this project's commits start with this."""


@dataclass(frozen=True)
class SpaceRequest:
    """A Space to publish."""

    repo_id: str
    """USER/NAME of the Space."""
    models: tuple[str, ...] = ()
    """USER/MODEL[@REVISION] of each model to show; if empty, the bundled release is copied into the Space."""
    private: bool = False
    """Make a new Space private."""
    dry_run: bool = False
    """Build the Space with the bundled release under build/ and run it locally, without a network."""
    hardware: str | None = None
    """A name such as cpu-basic or zero-a10g; by default the Hub's default, or the Space's current hardware."""
    overwrite: frozenset[str] = frozenset()
    """Files whose edits on the Hub are discarded."""
    static: bool = False
    """Publish the page without a server, which needs no hardware."""
    linked: bool = False
    """Leave the weights of the models in their repositories, from where the static page reads them."""

    @property
    def sdk(self) -> str:
        """The Hub's name for what serves the Space."""
        return "static" if self.static else "gradio"


def publish_space(request: SpaceRequest, steps: Steps) -> str:
    """Build, run locally, push and start the Space; steps whose result is on the Hub already are skipped.

    Returns:
        The Space's URL, or the folder of a dry run.

    Raises:
        AxionError: a check failed, the Hub refused or cannot be reached, or the Space does not start.
    """
    hub.check_repo_id(request.repo_id)
    _check_options(request)
    if request.dry_run:
        shutil.rmtree(DRY_RUN_FOLDER, ignore_errors=True)
        _build(DRY_RUN_FOLDER, (), request, steps)
        _run(DRY_RUN_FOLDER, (), steps)
        steps.skip("push", "dry run")
        return str(DRY_RUN_FOLDER)
    with steps.step("preflight") as did:
        check_space(request, hub.whoami())
        models = [find_model(reference) for reference in request.models]
        did(", ".join(f"{model.repo_id} at {model.commit[:8]}" for model in models) or f"the bundled {BUNDLED}")
    with scratch_folder("space") as scratch:
        folder = scratch / "space"
        _build(folder, models, request, steps)
        if commit := _find_pushed(folder, request, models):
            for name in ("test", "push"):
                steps.skip(name, f"{request.repo_id} has these files at {commit[:8]}")
        else:
            checked = check_edits(folder, request.repo_id, request.overwrite)
            _run(folder, models, steps)
            with steps.step("push") as did:
                private, hardware = request.private, request.hardware
                did(push_space(folder, request.repo_id, models, parent=checked, private=private, hardware=hardware))
    with steps.step("start") as did:
        did(wait_until_running(request.repo_id, request.sdk))
    return url(request.repo_id)


def _check_options(request: SpaceRequest) -> None:
    """Raises AxionError if the request's options do not go together."""
    check_hardware(request.hardware)
    if request.static and request.hardware:
        raise AxionError("a static Space runs in its visitors' browsers: omit --hardware or --static")
    if request.linked and not (request.static and request.models):
        raise AxionError("--link-weights is for the models of a static Space: add --static and --model, or omit it")


def _build(folder: Path, models: Sequence[PublishedModel], request: SpaceRequest, steps: Steps) -> None:
    with steps.step("build") as did:
        if request.static:
            build_static_space(folder, models, request.linked)
        else:
            build_space(folder, models)
        did(f"{len(files_in(folder))} files, without secrets or local paths")


def _run(folder: Path, models: Sequence[PublishedModel], steps: Steps) -> None:
    with steps.step("test") as did:
        is_static = sdk_of(folder) == "static"
        did(check_page(folder) if is_static else run_locally(folder, [model.reference for model in models]))


def url(space_id: str) -> str:
    """The URL of a Space."""
    return f"{constants.ENDPOINT}/spaces/{space_id}"


def check_hardware(name: str | None) -> None:
    """Raises AxionError if the Hub has no such hardware for Spaces."""
    known = [hardware.value for hardware in SpaceHardware]
    if name is not None and name not in known:
        raise AxionError(f"--hardware {name!r} is unknown; choose one of {', '.join(known)}")


def check_space(request: SpaceRequest, user: Mapping[str, Any]) -> None:
    """Check that the Space can be pushed to, or created and run.

    Args:
        request: the Space.
        user: what `publish.hub.client.whoami` returns.

    Raises:
        AxionError: it can not; the message says what to do.
    """
    _check_options(request)
    exists = hub.check_access(request.repo_id, "space", private=request.private, user=user)
    is_free = request.repo_id.partition("/")[0] == user["name"] and not user.get("isPro", True)
    if not exists and is_free and not request.static and request.hardware in (None, SpaceHardware.CPU_BASIC.value):
        raise AxionError(_paid_plan(request.hardware))


def find_model(reference: str) -> PublishedModel:
    """Look up a model on the Hub, and pin it to the commit that its revision points to now.

    Args:
        reference: USER/MODEL@REVISION: a tag, a branch or a commit; main without one.

    Raises:
        AxionError: it does not exist, is not an Axion release, or the Space could not read it.
    """
    repo_id, _, revision = reference.partition("@")
    if "/" not in repo_id:
        raise AxionError(f"--model {reference!r} has no owner; write USER/{reference}")
    check_repo_name(repo_id, "--model")
    with hub_errors(reference):
        info = retry(lambda: hub.api().model_info(repo_id, revision=revision or None))
    if info.private or info.gated:
        raise AxionError(
            f"{repo_id} is {'private' if info.private else 'gated'}, so the Space could not read it: "
            "make it public, or omit --model to include the bundled release"
        )
    files = sorted(
        filter_repo_objects([file.rfilename for file in info.siblings or ()], allow_patterns=WANTED_FROM_HUB)
    )
    if missing := sorted(set(NEEDED) - set(files)):
        raise AxionError(f"{reference} is not an Axion release: it has no {missing[0]}; publish it first")
    datasets = (info.card_data or {}).get("datasets")
    listed = [datasets] if isinstance(datasets, str) else datasets if isinstance(datasets, list) else []
    assert info.sha is not None
    return PublishedModel(repo_id, info.sha, tuple(files), tuple(name for name in listed if hub.is_repo_id(name)))


# --- On the Hub -------------------------------------------------------------------------------------------------------


def push_space(
    folder: Path,
    space_id: str,
    models: Sequence[PublishedModel] = (),
    *,
    parent: str | None,
    private: bool = False,
    hardware: str | None = None,
) -> str:
    """Create the Space if it does not exist, set its variables, and push the folder in one commit.

    Idempotent: a second call with the same folder changes nothing.

    Args:
        folder: all files in it are pushed.
        space_id: USER/NAME of the Space.
        models: the models to show, on the Hub.
        parent: the commit that must still be the head, from `check_edits`; None if the Space must be new.
        private: make a new Space private.
        hardware: see `SpaceRequest`.

    Returns:
        A summary of what was done.

    Raises:
        AxionError: the Hub refused or cannot be reached, or the Space has changed.
    """
    api = hub.api()
    space_hardware = None if hardware is None else SpaceHardware(hardware)
    sdk = sdk_of(folder)
    with hub_errors(space_id), _paid_plans(hardware):
        retry(
            lambda: api.create_repo(
                space_id,
                repo_type="space",
                space_sdk=sdk,
                private=private or None,
                exist_ok=True,
                space_hardware=space_hardware,
            )
        )
        if private:
            hub.check_private(space_id, "space")
        parent = parent or hub.empty_head(space_id, repo_type="space")
        if space_hardware is not None and not _has_hardware(space_id, space_hardware):
            retry(lambda: api.request_space_hardware(space_id, space_hardware))
        # Before the commit, which starts the build, so that the Space starts with these variables.
        changed = _find_other_variables(space_id, models) if sdk == "gradio" else {}
        for key, value in changed.items():
            if value:
                retry(lambda key=key, value=value: api.add_space_variable(space_id, key, value))
            else:  # the Hub allows no empty values
                retry(lambda key=key: api.delete_space_variable(space_id, key))
        commit = hub.push(
            folder,
            space_id,
            f"{COMMIT_PREFIX} {', '.join(model.repo_id for model in models) or BUNDLED}",
            repo_type="space",
            parent=parent,
            remove=_find_obsolete(folder, space_id, parent),
        )
    done = [*(f"{key} set" for key in changed), f"{space_id} at {commit[:8]}"]
    return ", ".join(["one commit", *done] if commit != parent else done)


def _find_pushed(folder: Path, request: SpaceRequest, models: Sequence[PublishedModel]) -> str | None:
    """The Space's head if files, hardware and variables are as requested already; else None."""
    space_id = request.repo_id
    head = hub.head(space_id, repo_type="space")
    if head is None:
        return None
    with hub_errors(space_id):
        obsolete = _find_obsolete(folder, space_id, head)
    if hub.differences(folder, space_id, head, "space", absent=obsolete):
        return None
    with hub_errors(space_id):
        as_requested = request.hardware is None or _has_hardware(space_id, request.hardware)
        other = {} if request.static else _find_other_variables(space_id, models)
        return head if as_requested and not other else None


def _has_hardware(space_id: str, hardware: str) -> bool:
    runtime = retry(lambda: hub.api().get_space_runtime(space_id))
    return hardware in (runtime.requested_hardware, runtime.hardware)


def _find_other_variables(space_id: str, models: Sequence[PublishedModel]) -> dict[str, str]:
    """The variables to change; an empty value removes one. Each change restarts the Space."""
    wanted = VARIABLES | {"AXION_MODELS": " ".join(model.reference for model in models)}
    current = retry(lambda: hub.api().get_space_variables(space_id))
    return {key: value for key, value in wanted.items() if (current[key].value if key in current else "") != value}


def check_edits(folder: Path, space_id: str, overwrite: Collection[str] = ()) -> str | None:
    """Check that a push would not revert others' edits of the Space.

    Files that differ between the Space's head and this project's last commit were edited. Where this project has not
    pushed yet, every file counts that was not there from the beginning.

    Args:
        folder: what is to be pushed.
        space_id: USER/NAME of the Space.
        overwrite: files whose edits are discarded.

    Returns:
        The Space's head, which was checked; None if there is no Space.

    Raises:
        AxionError: a file was edited that the push would change or delete.
    """
    if (head := hub.head(space_id, repo_type="space")) is None:
        return None
    with hub_errors(space_id):
        commits = retry(lambda: hub.api().list_repo_commits(space_id, repo_type="space", revision=head))
        obsolete = _find_obsolete(folder, space_id, head)
    base = next((commit for commit in commits if commit.title.startswith(COMMIT_PREFIX)), commits[-1])
    now, then = (hub.files_at(space_id, commit, "space") for commit in (head, base.commit_id))
    changed = {name for name in now if name not in then or now[name].blob_id != then[name].blob_id}
    changed |= then.keys() - now.keys()
    pushed = hub.differences(folder, space_id, head, "space") | obsolete
    if conflicts := sorted(changed & pushed - set(overwrite)):
        raise AxionError(
            f"others have changed files of the Space {space_id} on the Hub: {', '.join(conflicts)}; undo that there, "
            f"or discard it with {overwrite_options(space_id, conflicts)}"
        )
    return head


@contextmanager
def _paid_plans(hardware: str | None) -> Iterator[None]:
    """Turn the Hub's payment errors into advice for Spaces."""
    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code != 402:
            raise
        if hardware == ZERO_GPU:
            raise AxionError(
                "free accounts are limited to two Spaces on ZeroGPU: delete one, or see https://huggingface.co/pricing"
            ) from None
        raise AxionError(_paid_plan(hardware)) from None


def _paid_plan(hardware: str | None) -> str:
    return (
        f"Gradio Spaces on {hardware or SpaceHardware.CPU_BASIC.value} need a paid plan; "
        f"a page without a server is free: add --static; so is ZeroGPU for two Spaces: add --hardware {ZERO_GPU}"
    )


def _find_obsolete(folder: Path, space_id: str, commit: str) -> set[str]:
    """Files of an earlier push in the project's own folders; all other files of the Space are kept.

    A Space that becomes static loses what Gradio's had at its top.
    """
    present = retry(lambda: hub.api().list_repo_files(space_id, repo_type="space", revision=commit))
    ours = {"axion", "playground", "releases", "models"}
    ours |= {"app.py", "requirements.txt"} if sdk_of(folder) == "static" else set(PAGE_FILES)
    return {name for name in present if name.partition("/")[0] in ours and not (folder / name).exists()}


def wait_until_running(space_id: str, sdk: str = "gradio") -> str:
    """Poll a Space until it runs the commit at its head.

    Args:
        space_id: USER/NAME of the Space.
        sdk: what serves it, gradio or static.

    Returns:
        A summary of its state.

    Raises:
        AxionError: it failed to build or to start, was stopped, or takes too long.
    """
    head = hub.head(space_id, repo_type="space")
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    for wait in chain(POLL_INTERVALS, repeat(POLL_INTERVALS[-1])):
        with hub_errors(space_id):
            runtime = retry(lambda: hub.api().get_space_runtime(space_id))
        if problem := _find_failure(space_id, runtime):
            raise AxionError(problem)
        # Right after a push the Hub may still report the previous run; if it reports a commit, compare it.
        if runtime.stage in ("RUNNING", "SLEEPING") and runtime.raw.get("sha", head) == head:
            asleep = ", asleep until the next visit" if runtime.stage == "SLEEPING" else ""
            where = "in its visitors' browsers" if sdk == "static" else f"on {runtime.hardware or 'its hardware'}"
            return f"{url(space_id)} runs {where}{asleep}"
        if time.monotonic() + wait > deadline:
            break
        time.sleep(wait)
    raise AxionError(
        f"{space_id} is still {runtime.stage} after {MAX_WAIT_SECONDS // 60} minutes: "
        f"watch it at {url(space_id)}?logs=build"
    )


def _find_failure(space_id: str, runtime: SpaceRuntime) -> str | None:
    """Why a Space will not run; None while it may."""
    reason = " ".join(str(runtime.raw.get("errorMessage") or "").split())[:200]
    reason = f" ({reason})" if reason else ""
    match runtime.stage:
        case SpaceStage.BUILD_ERROR:
            return f"{space_id} failed to build{reason}: its log is at {url(space_id)}?logs=build"
        case SpaceStage.RUNTIME_ERROR:
            return f"{space_id} failed to start{reason}: its log is at {url(space_id)}?logs=container"
        case SpaceStage.CONFIG_ERROR:
            return f"{space_id} has an invalid configuration{reason}: see {url(space_id)}/blob/main/README.md"
        case SpaceStage.PAUSED | SpaceStage.STOPPED:
            return f"{space_id} is {runtime.stage}: start it again at {url(space_id)}/settings"
        case SpaceStage.DELETING:
            return f"{space_id} is being deleted: use another name"
    return None
