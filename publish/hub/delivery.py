"""Upload a release to the Hub: merge its card with others' edits, push one commit, verify it, then tag it.

Every step first looks at what is on the Hub already. Delivery can therefore be killed at any point and started again:
the result is one commit and one tag, and only a commit that was downloaded and verified is ever tagged.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import metadata_load
from huggingface_hub.utils import yaml_dump

from axion.errors import AxionError
from axion.files import sha256
from publish.hub import client as hub
from publish.hub.merge import merge_card
from publish.manifest import read_manifest, write_manifest
from publish.markdown import split_sections
from publish.steps import Steps

CARD_FILES = {"README.md", "release.json"}
"""Files that may change after a release: the card, and the manifest with its checksum."""
MERGED_FRONT_MATTER = "front_matter"
"""Key of release.json: the card's front matter before it was merged with others' edits."""
COMMITS_SEARCHED = 100
"""How many commits to search for the card that was last pushed from here."""


@dataclass(frozen=True)
class ReleaseUpload:
    """A release and where it goes."""

    folder: Path
    """A temporary copy of the release; its card may be merged with the published one."""
    repo_id: str
    tag: str
    message: str
    """The commit's title."""


@dataclass(frozen=True)
class PushOptions:
    """How to push a release."""

    private: bool = False
    """Make a new repository private."""
    branch: str | None = None
    """Push to this branch instead of main. It is created from main if it does not exist, and not tagged."""
    pull_request: bool = False
    """Open a pull request with the commit instead, which is not tagged."""
    replace_card: bool = False
    """Overwrite others' edits of the card."""

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
    """Merge the card, check, push, verify and tag; steps whose result is on the Hub already are skipped.

    Returns:
        The commit that has the folder's files.

    Raises:
        AxionError: a check failed, the Hub refused or cannot be reached, someone's edit of the card conflicts with the
            new one, or the tag is on another release.
    """
    repo_id, branch = upload.repo_id, options.branch or "main"
    parent = hub.head(repo_id, branch) or hub.head(repo_id)
    obsolete = set()
    if parent:
        with tempfile.TemporaryDirectory(prefix="axion-card-") as scratch, steps.step("card") as did:
            published = _read_published(repo_id, parent, Path(scratch))
            did(_merge_card(upload, options, published))
            obsolete = published.obsolete_files(upload.folder)
    tagged = _find_release(upload) if options.is_release else None
    if parent and tagged and hub.contains(upload.folder, repo_id, parent, absent=obsolete):
        for name in (*checks.before_push, "push", "verify", "tag"):
            steps.skip(name, f"{upload.tag} at {tagged[:8]} is this release, and was verified before it was tagged")
        return parent

    for name, check in checks.before_push.items():
        with steps.step(name) as did:
            did(check(upload.folder))
    commit = _push(upload, options, parent, obsolete, steps)
    with tempfile.TemporaryDirectory(prefix="axion-fresh-cache-") as cache, steps.step("verify") as did:
        if not hub.contains(upload.folder, repo_id, commit, absent=obsolete):
            raise AxionError(f"{repo_id} at {commit[:8]} differs from what was pushed: run the same command again")
        folder = hub.download(repo_id, commit, Path(cache))
        did(checks.after_push(Download(repo_id, commit, Path(cache), folder)))
    if not options.is_release:
        steps.skip("tag", f"{'pull requests' if options.pull_request else f'branch {branch}'} are not tagged")
    elif tagged:
        steps.skip("tag", f"{upload.tag} stays on {tagged[:8]}; this commit differs from it only in the card")
    else:
        with steps.step("tag") as did:
            hub.tag(repo_id, upload.tag, commit)
            did(f"{upload.tag} on {commit[:8]}")
    return commit


def _find_release(upload: ReleaseUpload) -> str | None:
    """The commit that has the upload's tag; it must be the same release, except for its card."""
    commit = hub.tags(upload.repo_id).get(upload.tag)
    if commit and not hub.contains(upload.folder, upload.repo_id, commit, ignore=CARD_FILES):
        raise AxionError(
            f"{upload.repo_id} has already released {upload.tag} (commit {commit[:8]}) with other files, and release "
            "tags are never moved: give the recipe a new version, or delete the tag on the Hub"
        )
    return commit


def _push(upload: ReleaseUpload, options: PushOptions, parent: str | None, obsolete: set[str], steps: Steps) -> str:
    with steps.step("push") as did:
        hub.create_repo(upload.repo_id, options.private, options.branch)
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


# --- Others' edits of the card ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Published:
    """What is on the Hub."""

    card: str | None
    base: str | None
    """The card as it was last written here, before any merge; None if unknown."""
    files: set[str]
    manifest: dict

    def obsolete_files(self, folder: Path) -> set[str]:
        """Files of an earlier release that this one does not have."""
        return {name for name in self.manifest.get("files", {}) if name in self.files and not (folder / name).exists()}


def _read_published(repo_id: str, commit: str, scratch: Path) -> _Published:
    files = hub.files_at(repo_id, commit)
    if "README.md" not in files:
        return _Published(None, None, files, {})
    folder = hub.download(repo_id, commit, scratch, sorted(CARD_FILES))
    try:
        manifest = read_manifest(folder)
    except AxionError:  # not published by this project, or broken by an edit
        manifest = {}
    return _Published(_read_card(folder), _find_base(repo_id, commit, manifest, scratch), files, manifest)


def _find_base(repo_id: str, commit: str, manifest: dict, scratch: Path) -> str | None:
    """The card as it was last written here, before any merge.

    It is the newest card in the history with the checksum that the manifest lists. If that one was merged, its sections
    are still ours, and the manifest has the front matter as it was before.
    """
    digest = manifest.get("files", {}).get("README.md")
    for earlier in hub.commit_history(repo_id, commit)[:COMMITS_SEARCHED] if digest else ():
        folder = hub.download(repo_id, earlier, scratch, ["README.md"])
        if (folder / "README.md").is_file() and sha256(folder / "README.md") == digest:
            if MERGED_FRONT_MATTER not in manifest:
                return _read_card(folder)
            sections = split_sections(_read_card(folder).replace("\r\n", "\n")).sections.values()
            return "\n\n".join([f"---\n{yaml_dump(manifest[MERGED_FRONT_MATTER], sort_keys=False)}---", *sections])
    return None


def _merge_card(upload: ReleaseUpload, options: PushOptions, published: _Published) -> str:
    """Merge others' edits into the card of the folder; returns a short summary."""
    card = upload.folder / "README.md"
    if published.card is None:
        return "new"
    if options.replace_card:
        return "replaces the published one"
    merged = merge_card(_read_card(upload.folder), published.card, published.base)
    if not merged.kept:
        return "no edits on the Hub"
    info = read_manifest(upload.folder) | {MERGED_FRONT_MATTER: metadata_load(card)}
    with card.open("w", encoding="utf-8", newline="") as file:
        file.write(merged.text)
    write_manifest(upload.folder, info)
    return f"kept edits made on the Hub: {', '.join(merged.kept)}"


def _read_card(folder: Path) -> str:
    """A folder's card, with line ends unchanged."""
    return (folder / "README.md").read_bytes().decode("utf-8")
