"""Bring a staged folder to the Hub: its card merged with readers' edits, pushed in one commit, verified, then tagged.

Every step looks first at what is there already, so that a delivery that was killed at any point ends in the same place
when it is started again: one commit, one tag, and the tag only on what was downloaded and verified.
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
from publish.hub.merge import merge_card, split_sections
from publish.manifest import read_manifest, write_manifest
from publish.steps import Steps

CARD_FILES = {"README.md", "release.json"}
"""What may change after a release: the card, and the manifest that names its checksum."""
MERGED_FRONT_MATTER = "front_matter"
"""Key of a manifest: the card's front matter as it was before it was merged with the readers'."""
COMMITS_SEARCHED = 100
"""So far back is the card searched that was last pushed from here."""


@dataclass(frozen=True)
class Parcel:
    """What is delivered."""

    folder: Path
    """A staged copy of a release, whose card may be merged with the Hub's."""
    repo_id: str
    tag: str
    message: str
    """The commit's first line."""


@dataclass(frozen=True)
class Terms:
    """How it is delivered."""

    private: bool = False
    """Make a new repository private."""
    branch: str | None = None
    """Push to this branch, made from main where it is missing; nothing is tagged there."""
    pull_request: bool = False
    """Propose the commit in a pull request; nothing is tagged there."""
    replace_card: bool = False
    """Write our card over whatever readers made of it."""

    @property
    def tags(self) -> bool:
        """Whether this delivery is a release, which gets its tag."""
        return self.branch is None and not self.pull_request


@dataclass(frozen=True)
class Download:
    """A commit of a repository in a cache of its own, every checksum right."""

    repo_id: str
    commit: str
    cache: Path
    folder: Path


@dataclass(frozen=True)
class Checks:
    """What must hold; each returns in a few words what was checked, or raises AxionError."""

    staged: Mapping[str, Callable[[Path], str]]
    """Step → check of the folder, before it is pushed."""
    downloaded: Callable[[Download], str]
    """Check of what was pushed, before it is tagged."""


def deliver(parcel: Parcel, terms: Terms, checks: Checks, steps: Steps) -> str:
    """Merge the card, check, push, verify, tag; what is there already is left alone.

    Returns:
        The commit that has the folder's files.

    Raises:
        AxionError: a check failed, the Hub refused or is not to be reached, a reader's edit stands against ours, or the
            tag is on another release.
    """
    repo_id, branch = parcel.repo_id, terms.branch or "main"
    parent = hub.head(repo_id, branch) or hub.head(repo_id)
    stale = set()
    if parent:
        with tempfile.TemporaryDirectory(prefix="axion-card-") as scratch, steps.step("card") as did:
            published = _read_published(repo_id, parent, Path(scratch))
            did(_merge_card(parcel, terms, published))
            stale = published.stale(parcel.folder)
    tagged = _released(parcel) if terms.tags else None
    if tagged and hub.holds(parcel.folder, repo_id, parent, without=stale):
        for name in (*checks.staged, "push", "verify", "tag"):
            steps.skip(name, f"{parcel.tag} at {tagged[:8]} is this release, and was verified before it was tagged")
        return parent

    for name, check in checks.staged.items():
        with steps.step(name) as did:
            did(check(parcel.folder))
    commit = _push(parcel, terms, parent, stale, steps)
    with tempfile.TemporaryDirectory(prefix="axion-fresh-cache-") as cache, steps.step("verify") as did:
        if not hub.holds(parcel.folder, repo_id, commit, without=stale):
            raise AxionError(f"{repo_id} at {commit[:8]} is not what was sent: run the same command again")
        folder = hub.download(repo_id, commit, Path(cache))
        did(checks.downloaded(Download(repo_id, commit, Path(cache), folder)))
    if not terms.tags:
        steps.skip("tag", f"{'a pull request' if terms.pull_request else f'branch {branch}'} is no release")
    elif tagged:
        steps.skip("tag", f"{parcel.tag} stays on {tagged[:8]}, from which this commit differs in its card alone")
    else:
        with steps.step("tag") as did:
            hub.tag(repo_id, parcel.tag, commit)
            did(f"{parcel.tag} on {commit[:8]}")
    return commit


def _released(parcel: Parcel) -> str | None:
    """The commit that carries the parcel's tag; it must be this very release, its card aside."""
    commit = hub.tags(parcel.repo_id).get(parcel.tag)
    if commit and not hub.holds(parcel.folder, parcel.repo_id, commit, but=CARD_FILES):
        raise AxionError(
            f"{parcel.repo_id} has released {parcel.tag} already (commit {commit[:8]}) with other files, and a "
            "released tag does not move: give the recipe a new version, or delete the tag on the Hub"
        )
    return commit


def _push(parcel: Parcel, terms: Terms, parent: str | None, stale: set[str], steps: Steps) -> str:
    with steps.step("push") as did:
        hub.make_repo(parcel.repo_id, terms.private, terms.branch)
        commit = hub.push(
            parcel.folder,
            parcel.repo_id,
            parcel.message,
            revision=terms.branch or "main",
            parent=parent,
            remove=stale,
            as_pull_request=terms.pull_request,
        )
        if commit == parent:
            did(f"skipped: {parcel.repo_id} has these files at {commit[:8]}")
        else:
            did(f"one commit, {parcel.repo_id} at {commit[:8]}")
    return commit


# --- The card as readers left it --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Published:
    """What stands on the Hub: the card, what we last made of it, and the manifest."""

    card: str | None
    base: str | None
    files: set[str]
    manifest: dict

    def stale(self, folder: Path) -> set[str]:
        """Files of an earlier release that this one does not have."""
        return {name for name in self.manifest.get("files", {}) if name in self.files and not (folder / name).exists()}


def _read_published(repo_id: str, commit: str, scratch: Path) -> _Published:
    files = hub.files_at(repo_id, commit)
    if "README.md" not in files:
        return _Published(None, None, files, {})
    folder = hub.download(repo_id, commit, scratch, sorted(CARD_FILES))
    try:
        manifest = read_manifest(folder)
    except AxionError:  # a repository that was not made here
        manifest = {}
    return _Published(_read(folder), _last_card_of_ours(repo_id, commit, manifest, scratch), files, manifest)


def _last_card_of_ours(repo_id: str, commit: str, manifest: dict, scratch: Path) -> str | None:
    """The card as it was last written here, before it was merged with anything.

    That is the newest card in the history whose checksum the manifest has. Where it was merged then, its sections are
    ours still, and the manifest has the front matter as we wrote it.
    """
    digest = manifest.get("files", {}).get("README.md")
    for earlier in hub.commits(repo_id, commit)[:COMMITS_SEARCHED] if digest else ():
        folder = hub.download(repo_id, earlier, scratch, ["README.md"])
        if (folder / "README.md").is_file() and sha256(folder / "README.md") == digest:
            if MERGED_FRONT_MATTER not in manifest:
                return _read(folder)
            sections = split_sections(_read(folder).replace("\r\n", "\n")).sections.values()
            return "\n\n".join([f"---\n{yaml_dump(manifest[MERGED_FRONT_MATTER], sort_keys=False)}---", *sections])
    return None


def _merge_card(parcel: Parcel, terms: Terms, published: _Published) -> str:
    """Give the staged folder a card that has ours and the readers'; says in a few words what was kept."""
    card = parcel.folder / "README.md"
    if published.card is None or terms.replace_card:
        return "ours, in place of what was there" if published.card else "ours: there was none"
    merged = merge_card(_read(parcel.folder), published.card, published.base)
    if not merged.kept:
        return "nobody has edited it"
    info = read_manifest(parcel.folder) | {MERGED_FRONT_MATTER: metadata_load(card)}
    with card.open("w", encoding="utf-8", newline="") as file:  # a staged copy: nobody else reads it
        file.write(merged.text)
    write_manifest(parcel.folder, info)
    return f"kept of its readers: {', '.join(merged.kept)}"


def _read(folder: Path) -> str:
    """A folder's card with its line ends as they are."""
    return (folder / "README.md").read_bytes().decode("utf-8")
