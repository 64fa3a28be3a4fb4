"""The playground as a Space: staged and tried out here, pushed in one commit, watched until it runs."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

from huggingface_hub import SpaceHardware, SpaceRuntime, SpaceStage, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects

from axion.errors import AxionError
from axion.release import NEEDED, WANTED_FROM_HUB
from publish.hub import client as hub
from publish.manifest import files_in
from publish.release.metadata import check_repo_name
from publish.space.build import BUNDLED, ROOT, ZERO_GPU, PublishedModel, stage
from publish.space.local_run import try_space
from publish.steps import Steps

STAGED = ROOT / "build" / "space"
"""Where a dry run leaves the folder."""
VARIABLES = {"OMP_NUM_THREADS": "1"}
"""A container sees all cores of its machine and may use two: threads that wait for each other there slow torch down."""

WAITS = (2, 3, 5, 8, 13, 20)
"""Seconds between two looks at a Space that is being built; the last one is repeated."""
MAX_WAIT_SECONDS = 20 * 60

COMMIT = "The playground, with"
"""So begin the titles of this project's commits."""


@dataclass(frozen=True)
class SpaceOrder:
    """What the user asked for."""

    repo_id: str
    """USER/NAME of the Space."""
    models: tuple[str, ...] = ()
    """USER/MODEL[@REVISION] of each model to show; without any, the bundled release goes with the Space."""
    private: bool = False
    """Make a new Space private."""
    dry_run: bool = False
    """Stage the folder with the bundled release under build/ and try it out; no network."""
    hardware: str | None = None
    """A name such as cpu-basic or zero-a10g; by default what the Hub gives, or what the Space has."""
    replace_card: bool = False
    """Write our README.md over what somebody made of it on the Hub."""


def publish_space(order: SpaceOrder, steps: Steps) -> str:
    """Stage, try out, push and start the Space; whatever is already as it should be is left alone.

    Returns:
        The Space's URL, or the staged folder of a dry run.

    Raises:
        AxionError: a check failed, the Hub refused or is not to be reached, or the Space does not start.
    """
    hub.check_repo_id(order.repo_id)
    check_hardware(order.hardware)
    if order.dry_run:
        shutil.rmtree(STAGED, ignore_errors=True)
        _stage(STAGED, (), steps)
        _try(STAGED, (), steps)
        steps.skip("push", "a dry run ends here")
        return str(STAGED)
    with steps.step("preflight") as did:
        hub.check_access(order.repo_id, "space")
        models = [find_model(reference) for reference in order.models]
        did(", ".join(f"{model.repo_id} at {model.commit[:8]}" for model in models) or f"the bundled {BUNDLED}")
    with tempfile.TemporaryDirectory(prefix="axion-space-") as scratch:
        folder = Path(scratch) / "space"
        _stage(folder, models, steps)
        if commit := _find_pushed(folder, order, models):
            for name in ("try", "push"):
                steps.skip(name, f"{order.repo_id} has these files at {commit[:8]}")
        else:
            if not order.replace_card:
                check_readme(order.repo_id)
            _try(folder, models, steps)
            with steps.step("push") as did:
                did(push_space(folder, order.repo_id, models, private=order.private, hardware=order.hardware))
    with steps.step("start") as did:
        did(wait_until_running(order.repo_id))
    return url(order.repo_id)


def _stage(folder: Path, models: Sequence[PublishedModel], steps: Steps) -> None:
    with steps.step("stage") as did:
        stage(folder, models)
        did(f"{len(files_in(folder))} files, no secret in them and no path of this machine")


def _try(folder: Path, models: Sequence[PublishedModel], steps: Steps) -> None:
    with steps.step("try") as did:
        did(try_space(folder, [model.reference for model in models]))


def url(space_id: str) -> str:
    """The page of a Space."""
    return f"{constants.ENDPOINT}/spaces/{space_id}"


def check_hardware(name: str | None) -> None:
    """Raises AxionError where the Hub has no such hardware for Spaces."""
    known = [hardware.value for hardware in SpaceHardware]
    if name is not None and name not in known:
        raise AxionError(f"--hardware {name!r} is not known; choose one of {', '.join(known)}")


def find_model(reference: str) -> PublishedModel:
    """Look a model up on the Hub, and pin it to the commit that its revision is at now.

    Args:
        reference: USER/MODEL@REVISION: a tag, a branch or a commit; main without one.

    Raises:
        AxionError: it is not there, it is no release of Axion, or the Space could not read it.
    """
    repo_id, _, revision = reference.partition("@")
    if "/" not in repo_id:
        raise AxionError(f"--model {reference!r} names no owner; write USER/{reference}")
    check_repo_name(repo_id, "--model")
    with hub.hub_errors(reference):
        info = hub.patiently(lambda: hub.api().model_info(repo_id, revision=revision or None))
    if info.private or info.gated:
        raise AxionError(
            f"{repo_id} is {'private' if info.private else 'gated'}, so the Space could not read it: "
            "open it to everybody, or leave --model out to send the bundled release with the Space"
        )
    files = sorted(filter_repo_objects([file.rfilename for file in info.siblings], allow_patterns=WANTED_FROM_HUB))
    if missing := sorted(set(NEEDED) - set(files)):
        raise AxionError(f"{reference} is no release of Axion: it has no {missing[0]}; publish it first")
    datasets = (info.card_data or {}).get("datasets") or ()
    return PublishedModel(
        repo_id, info.sha, tuple(files), (datasets,) if isinstance(datasets, str) else tuple(datasets)
    )


# --- On the Hub -------------------------------------------------------------------------------------------------------


def push_space(
    folder: Path,
    space_id: str,
    models: Sequence[PublishedModel] = (),
    *,
    private: bool = False,
    hardware: str | None = None,
) -> str:
    """Make the Space where there is none, set its variables, and send the folder in one commit.

    Everything is looked at before it is changed, so that a second call with the same folder changes nothing.

    Returns:
        In a few words what was done.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    api = hub.api()
    asked = {} if hardware is None else {"space_hardware": hardware}
    with hub.hub_errors(space_id), _paid_plans(hardware):
        hub.patiently(
            lambda: api.create_repo(
                space_id, repo_type="space", space_sdk="gradio", private=private or None, exist_ok=True, **asked
            )
        )
        if hardware is not None and not _has_hardware(space_id, hardware):
            hub.patiently(lambda: api.request_space_hardware(space_id, hardware))
        # Before the commit, since that starts the build, and what runs in the end must have seen them.
        changed = _find_other_variables(space_id, models)
        for key, value in changed.items():
            if value:
                hub.patiently(lambda key=key, value=value: api.add_space_variable(space_id, key, value))
            else:  # the Hub takes no empty value
                hub.patiently(lambda key=key: api.delete_space_variable(space_id, key))
        before = hub.head(space_id, repo_type="space")
        commit = hub.push(
            folder,
            space_id,
            f"{COMMIT} {', '.join(model.repo_id for model in models) or BUNDLED}",
            repo_type="space",
            parent=before,
            remove=_find_stale(folder, space_id),
        )
    told = [*(f"{key} set" for key in changed), f"{space_id} at {commit[:8]}"]
    return ", ".join(["one commit", *told] if commit != before else told)


def _find_pushed(folder: Path, order: SpaceOrder, models: Sequence[PublishedModel]) -> str | None:
    """The Space's head where everything is as ordered already."""
    space_id = order.repo_id
    head = hub.head(space_id, repo_type="space")
    if head is None or not hub.holds(folder, space_id, head, "space", without=_find_stale(folder, space_id)):
        return None
    with hub.hub_errors(space_id):
        as_ordered = order.hardware is None or _has_hardware(space_id, order.hardware)
        return head if as_ordered and not _find_other_variables(space_id, models) else None


def _has_hardware(space_id: str, hardware: str) -> bool:
    runtime = hub.patiently(lambda: hub.api().get_space_runtime(space_id))
    return hardware in (runtime.requested_hardware, runtime.hardware)


def _find_other_variables(space_id: str, models: Sequence[PublishedModel]) -> dict[str, str]:
    """The variables that the Space must be given; an empty value is for one that must go. Each change restarts it."""
    wanted = VARIABLES | {"AXION_MODELS": " ".join(model.reference for model in models)}
    there = hub.patiently(lambda: hub.api().get_space_variables(space_id))
    return {key: value for key, value in wanted.items() if (there[key].value if key in there else "") != value}


def check_readme(space_id: str) -> None:
    """Check that nobody has edited the Space's README.md on the Hub since it was last pushed from here.

    Raises:
        AxionError: somebody has.
    """
    api = hub.api()
    with hub.hub_errors(space_id):
        if (head := hub.head(space_id, repo_type="space")) is None:
            return
        commits = hub.patiently(lambda: api.list_repo_commits(space_id, repo_type="space", revision=head))
        ours = next((commit.commit_id for commit in commits if commit.title.startswith(COMMIT)), head)
        now, then = (
            hub.patiently(lambda at=at: api.get_paths_info(space_id, ["README.md"], revision=at, repo_type="space"))
            for at in (head, ours)
        )
    if [file.blob_id for file in now] != [file.blob_id for file in then]:
        raise AxionError(
            f"the README.md of {space_id} was edited on the Hub: take the edit out there, "
            "or write over it with --replace-card"
        )


@contextmanager
def _paid_plans(hardware: str | None) -> Iterator[None]:
    """Tell in a Space's own terms why the Hub wants money for it."""
    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code != 402:
            raise
        if hardware == ZERO_GPU:
            raise AxionError(
                "a free account has two Spaces on ZeroGPU, and has them: delete one, or see https://huggingface.co/pricing"
            ) from None
        raise AxionError(
            f"the Hub runs Gradio Spaces on {hardware or SpaceHardware.CPU_BASIC.value} for paid plans only; "
            f"a free account has two on ZeroGPU: add --hardware {ZERO_GPU}"
        ) from None


def _find_stale(folder: Path, space_id: str) -> set[str]:
    """Files of an earlier push in the project's own folders; what else somebody keeps in the Space stays."""
    there = hub.patiently(lambda: hub.api().list_repo_files(space_id, repo_type="space"))
    ours = {"axion", "playground", "releases"}
    return {name for name in there if name.partition("/")[0] in ours and not (folder / name).exists()}


def wait_until_running(space_id: str) -> str:
    """Look at a Space again and again until it runs the commit at its head.

    Returns:
        In a few words what it does.

    Raises:
        AxionError: it failed to build or to start, somebody has stopped it, or it takes too long.
    """
    head = hub.head(space_id, repo_type="space")
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    for wait in chain(WAITS, repeat(WAITS[-1])):
        with hub.hub_errors(space_id):
            runtime = hub.patiently(lambda: hub.api().get_space_runtime(space_id))
        if problem := _find_failure(space_id, runtime):
            raise AxionError(problem)
        # Right after a push the Hub may still tell of what ran before; the commit, where it is told, says which it is.
        if runtime.stage in ("RUNNING", "SLEEPING") and runtime.raw.get("sha", head) == head:
            asleep = ", asleep until somebody visits it" if runtime.stage == "SLEEPING" else ""
            return f"{url(space_id)} runs on {runtime.hardware or 'its hardware'}{asleep}"
        if time.monotonic() + wait > deadline:
            break
        time.sleep(wait)
    raise AxionError(
        f"{space_id} is still {runtime.stage} after {MAX_WAIT_SECONDS // 60} minutes: "
        f"watch it at {url(space_id)}?logs=build"
    )


def _find_failure(space_id: str, runtime: SpaceRuntime) -> str | None:
    """Why a Space will not run, in one line; None while it may."""
    why = " ".join(str(runtime.raw.get("errorMessage") or "").split())[:200]
    why = f" ({why})" if why else ""
    match runtime.stage:
        case SpaceStage.BUILD_ERROR:
            return f"{space_id} could not be built{why}: its log is at {url(space_id)}?logs=build"
        case SpaceStage.RUNTIME_ERROR:
            return f"{space_id} was built and does not start{why}: its log is at {url(space_id)}?logs=container"
        case SpaceStage.CONFIG_ERROR:
            return f"{space_id} is configured wrongly{why}: see {url(space_id)}/blob/main/README.md"
        case SpaceStage.PAUSED | SpaceStage.STOPPED:
            return f"{space_id} is {runtime.stage}: start it again at {url(space_id)}/settings"
        case SpaceStage.DELETING:
            return f"{space_id} is being deleted: use another name"
    return None
