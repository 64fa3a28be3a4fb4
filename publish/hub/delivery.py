"""Upload a release to the Hub: merge it with others' edits, push one commit, verify it, then tag it.

Every step first looks at what is on the Hub already. Delivery can therefore be killed at any point and started again:
the result is one commit and one tag, and only a commit that was downloaded and verified is ever tagged.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from axion.errors import AxionError
from axion.files import sha256
from publish.hub import client as hub
from publish.hub.edits import CARD_FILES, RESULTS, Edits, Published, overwrite_options, reconcile
from publish.manifest import LICENSE
from publish.scratch import scratch_folder
from publish.steps import Steps


@dataclass(frozen=True)
class ReleaseUpload:
    """A release and where it goes."""

    folder: Path
    """A temporary copy of the release, into which others' edits on the Hub are merged."""
    repo_id: str
    tag: str
    message: str
    """The commit's title."""


@dataclass(frozen=True)
class PushOptions:
    """How to push a release."""

    private: bool = False
    """Make a new repository private. An existing one that is public is refused."""
    branch: str | None = None
    """Push to this branch instead of main. It is created from main if it does not exist, and not tagged."""
    pull_request: bool = False
    """Open a pull request with the commit instead, which is not tagged."""
    overwrite: frozenset[str] = frozenset()
    """Files of the release whose edits on the Hub are discarded."""

    @property
    def is_release(self) -> bool:
        """Whether the commit goes to main and is tagged."""
        return self.branch is None and not self.pull_request


@dataclass(frozen=True)
class Download:
    """A commit of a repository in a cache of its own, with all checksums verified."""

    repo_id: str
    commit: str
    cache: Path
    folder: Path
    """The snapshot in the cache."""


@dataclass(frozen=True)
class Checks:
    """What to check. Each check returns a short summary, or raises AxionError."""

    before_push: Mapping[str, Callable[[Path], str]]
    """Step name → check of the folder."""
    after_push: Callable[[Download], str]
    """Check of the downloaded commit, before it is tagged."""


def deliver(upload: ReleaseUpload, options: PushOptions, checks: Checks, steps: Steps) -> str:
    """Merge, check, push, verify and tag; steps whose result is on the Hub already are skipped.

    Returns:
        The commit that has the folder's files.

    Raises:
        AxionError: a check failed, the Hub refused or cannot be reached, someone's edits conflict with the release, or
            the tag is on another release.
    """
    repo_id, branch = upload.repo_id, options.branch or "main"
    parent = hub.head(repo_id, branch) or hub.head(repo_id)
    tagged = _find_release(upload) if parent and options.is_release else None
    edits = Edits()
    if parent:
        with scratch_folder("edits") as scratch, steps.step("merge") as did:
            edits = reconcile(upload.folder, Published(repo_id, parent, scratch), options.overwrite)
            did(edits.summary)
    if parent and tagged:
        different = hub.differences(upload.folder, repo_id, parent, absent=edits.obsolete)
        if different <= edits.untouched:
            for name in (*checks.before_push, "push", "verify", "tag"):
                steps.skip(name, f"{upload.tag} at {tagged[:8]} is this release, and was verified before it was tagged")
            return parent
    if edits.conflicts:
        names = ", ".join(sorted(edits.conflicts))
        raise AxionError(
            f"others have changed files of the release on the Hub, in {repo_id}: {names}; "
            f"undo that there, or discard it with {overwrite_options(repo_id, edits.conflicts)}"
        )
    for name, check in checks.before_push.items():
        with steps.step(name) as did:
            did(check(upload.folder))
    commit = _push(upload, options, parent, edits.obsolete, steps)
    with scratch_folder("cache") as cache, steps.step("verify") as did:
        if hub.differences(upload.folder, repo_id, commit, absent=edits.obsolete):
            raise AxionError(f"{repo_id} at {commit[:8]} differs from what was pushed: run the same command again")
        folder = hub.download(repo_id, commit, cache)
        did(checks.after_push(Download(repo_id, commit, cache, folder)))
    if not options.is_release:
        steps.skip("tag", f"{'pull requests' if options.pull_request else f'branch {branch}'} are not tagged")
    elif tagged:
        steps.skip(
            "tag", f"{upload.tag} stays on {tagged[:8]}; this commit only differs in its card, licence or results"
        )
    else:
        with steps.step("tag") as did:
            hub.tag(repo_id, upload.tag, commit)
            did(f"{upload.tag} on {commit[:8]}")
    return commit


class AlreadyReleased(AxionError):
    """A version is tagged on the Hub with other files than those that are to be published."""

    def __init__(self, upload: ReleaseUpload, commit: str, different: set[str]):
        names = sorted(different)
        more = f" and {len(names) - 3} more" if names[3:] else ""
        super().__init__(
            f"{upload.repo_id} has already released {upload.tag} (commit {commit[:8]}) with other files "
            f"({', '.join(names[:3])}{more}), and release tags are never moved: give the recipe a new version, or "
            "delete the tag on the Hub"
        )
        self.tag, self.different = upload.tag, different


def _find_release(upload: ReleaseUpload) -> str | None:
    """The commit that has the upload's tag.

    It must be the same release, except for its card, its licence and the results that others' edits replace.
    """
    if (commit := hub.tags(upload.repo_id).get(upload.tag)) is None:
        return None
    different = hub.differences(upload.folder, upload.repo_id, commit) - {*CARD_FILES, LICENSE}
    if any(name.startswith(RESULTS) for name in different):  # tagged with others' version of them, see `reconcile`
        with scratch_folder("tag") as scratch:
            kept = Published(upload.repo_id, commit, scratch).kept
        different -= {name for name in different & kept.keys() if sha256(upload.folder / name) == kept[name]}
    if different:
        raise AlreadyReleased(upload, commit, different)
    return commit


def _push(
    upload: ReleaseUpload, options: PushOptions, parent: str | None, obsolete: Collection[str], steps: Steps
) -> str:
    with steps.step("push") as did:
        if parent is None or not options.pull_request:  # anyone who can read a repository may open a pull request
            hub.create_repo(upload.repo_id, options.private, options.branch)
        parent = parent or hub.empty_head(upload.repo_id, options.branch or "main")
        commit = hub.push(
            upload.folder,
            upload.repo_id,
            upload.message,
            revision=options.branch or "main",
            parent=parent,
            remove=obsolete,
            as_pull_request=options.pull_request,
        )
        if commit == parent:
            did(f"skipped: {upload.repo_id} has these files at {commit[:8]}")
        else:
            did(f"one commit, {upload.repo_id} at {commit[:8]}")
    return commit
