"""Others' edits of a published release: which are kept, and which are refused because they conflict with the release.

The files on the Hub are compared with those that were last released, whose sha256 `release.json` lists there. Files
that others have added stay. The card is merged, see `publish.hub.merge`. Edited evaluation results, to which the Hub
adds signatures, are kept as long as the release has no new ones. Every other file of a release is verified as it was
built, so an edit of it prevents the push.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub.utils import yaml_dump
from huggingface_hub.utils.sha import git_hash

from axion.errors import AxionError
from axion.files import sha256
from publish.hub import client as hub
from publish.hub.merge import merge_card
from publish.manifest import MANIFEST, are_checksums, files_in, is_as_written, read_manifest, write_manifest
from publish.markdown import MarkerError, split_front_matter, split_sections

CARD = "README.md"
CARD_FILES = {CARD, MANIFEST}
"""Files that may change after a release: the card, and the manifest with its checksum."""
RESULTS = ".eval_results/"
"""The folder of evaluation results, which the Hub and others annotate."""
MERGED_FRONT_MATTER = "front_matter"
"""Key of release.json: the card's front matter before it was merged with others' edits."""
KEPT = "kept"
"""Key of release.json: name → sha256 of our own version of each file that others have edited and that was kept."""
COMMITS_SEARCHED = 100
"""How many commits to search for the card that was last pushed from here."""


@dataclass(frozen=True)
class Edits:
    """What others have edited, and what to do about it."""

    summary: str = "new"
    obsolete: frozenset[str] = frozenset()
    """Files of an earlier release that this one does not have, to be deleted."""
    conflicts: frozenset[str] = frozenset()
    """Edited files of the release, which a push would revert."""
    untouched: frozenset[str] = frozenset()
    """The conflicts in files that this release does not change. If there is nothing else to push, these edits stay."""


class Published:
    """A release as it is on the Hub, at one commit. Files are downloaded when they are needed."""

    def __init__(self, repo_id: str, commit: str, scratch: Path):
        self.repo_id, self.commit = repo_id, commit
        self._scratch = scratch
        self.files = hub.files_at(repo_id, commit)

    def fetch(self, name: str) -> Path | None:
        """A local copy of a file; None if there is no such file."""
        if name not in self.files:
            return None
        return self._card_files / name if name in CARD_FILES else self._download(self.commit, [name]) / name

    def digest(self, name: str, local: Path) -> str | None:
        """The sha256 of a file, downloaded only if it differs from the local one; None if there is no such file."""
        if (file := self.files.get(name)) is None:
            return None
        if file.lfs is not None:
            return file.lfs.sha256
        if local.is_file() and git_hash(local.read_bytes()) == file.blob_id:
            return sha256(local)
        copy = self.fetch(name)
        return sha256(copy) if copy else None

    @cached_property
    def manifest(self) -> dict:
        """The content of release.json; empty if this project has not written it, or an edit has broken it."""
        try:
            info = read_manifest(self._card_files) if MANIFEST in self.files else {}
        except AxionError:
            return {}
        return info if are_checksums(info.get(KEPT, {})) else {}

    @property
    def kept(self) -> dict[str, str]:
        """The sha256 of our own version of each file that others have edited and that was kept."""
        return self.manifest.get(KEPT, {})

    @cached_property
    def released(self) -> dict[str, str]:
        """The files as they were last released from here: name → sha256. An edited release.json is not included."""
        if not self.manifest:
            return {}
        own = self.manifest["files"] | self.kept
        return own | ({MANIFEST: sha256(self._card_files / MANIFEST)} if is_as_written(self.manifest) else {})

    @cached_property
    def base_card(self) -> str | None:
        """The card as it was last written here, before any merge; None if unknown.

        It is the newest card in the history with the checksum that the manifest lists. If that one was merged, its
        sections are still ours, and the manifest has the front matter as it was before.
        """
        digest = self.manifest.get("files", {}).get(CARD)
        for commit in hub.commit_history(self.repo_id, self.commit)[:COMMITS_SEARCHED] if digest else ():
            path = self._download(commit, [CARD]) / CARD
            if not path.is_file() or sha256(path) != digest:
                continue
            card = read_card(path)
            if MERGED_FRONT_MATTER not in self.manifest:
                return card
            try:
                sections = split_sections(card.replace("\r\n", "\n")).sections.values()
            except MarkerError:  # not written here
                return None
            front_matter = yaml_dump(self.manifest[MERGED_FRONT_MATTER], sort_keys=False)
            return "\n\n".join([f"---\n{front_matter}---", *sections])
        return None

    @cached_property
    def _card_files(self) -> Path:
        return self._download(self.commit, sorted(CARD_FILES & self.files.keys()))

    def _download(self, commit: str, names: list[str]) -> Path:
        return hub.download(self.repo_id, commit, self._scratch, names)


def reconcile(folder: Path, published: Published, overwrite: Collection[str] = ()) -> Edits:
    """Merge the card, keep edited evaluation results, and find the edits of all other files of the release.

    Args:
        folder: the new release. Its card and results are replaced by merged ones.
        published: what is on the Hub.
        overwrite: files whose edits are discarded.

    Raises:
        AxionError: someone's edit of the card conflicts with the new one.
    """
    edited, untouched, obsolete = set(), set(), set()
    for name in {*published.released, *files_in(folder)} - {CARD}:
        ours = sha256(folder / name) if (folder / name).is_file() else None
        theirs, was = published.digest(name, folder / name), published.released.get(name)
        if theirs not in (ours, was) and name not in overwrite:
            edited.add(name)
            untouched |= {name} if ours == was else set()
        elif theirs is not None and ours is None:
            obsolete.add(name)
    results = {name for name in untouched if name.startswith(RESULTS)}
    kept = _merge_card(folder, published) if CARD not in overwrite else []
    _keep(folder, published, results)
    kept += sorted(untouched)
    summary = f"kept edits made on the Hub: {', '.join(kept)}" if kept else "no edits on the Hub"
    return Edits(summary, frozenset(obsolete), frozenset(edited - results), frozenset(untouched - results))


def _merge_card(folder: Path, published: Published) -> list[str]:
    """Merge others' edits into the card of a folder; returns what of them was kept."""
    if (theirs := published.fetch(CARD)) is None:
        return []
    card = folder / CARD
    try:
        merged = merge_card(read_card(card), read_card(theirs), published.base_card)
    except AxionError as error:
        advice = overwrite_options(published.repo_id, [CARD])
        raise AxionError(f"{error}; undo the edit there, or replace the whole card with {advice}") from None
    if merged.kept:
        info = read_manifest(folder) | {MERGED_FRONT_MATTER: split_front_matter(read_card(card))[1]}
        with card.open("w", encoding="utf-8", newline="") as file:
            file.write(merged.text)
        write_manifest(folder, info)
    return merged.kept


def _keep(folder: Path, published: Published, names: Collection[str]) -> None:
    """Replace files of a folder by others' versions, and record our own in release.json."""
    if not names:
        return
    ours = {name: sha256(folder / name) for name in names}
    for name in names:
        if copy := published.fetch(name):
            shutil.copyfile(copy, folder / name)
        else:
            (folder / name).unlink()
    write_manifest(folder, read_manifest(folder) | {KEPT: ours})


def read_card(path: Path) -> str:
    """A card, with line ends unchanged. Raises AxionError if it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise AxionError("the card on the Hub is not UTF-8 text") from None


def files_to_overwrite(values: Collection[str], repo_id: str, main_repo_id: str) -> frozenset[str]:
    """The files of one repository whose edits are discarded.

    Args:
        values: of `--overwrite`, USER/NAME:FILE, or FILE for a file of `main_repo_id`.
        repo_id: the repository.
        main_repo_id: that of `--repo-id`. A command may push to others too, where the same name is another file.
    """
    named = (value.partition(":") if ":" in value else (main_repo_id, ":", value) for value in values)
    return frozenset(file for repo, _, file in named if repo == repo_id)


def overwrite_options(repo_id: str, files: Collection[str]) -> str:
    """The options that discard the edits of some files."""
    return " ".join(f"--overwrite {repo_id}:{name}" for name in sorted(files))
