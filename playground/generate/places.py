"""Where others find a release that the page shows, and the command that trains it again."""

from dataclasses import dataclass

from axion.release import BUILT, RELEASES, Release


@dataclass(frozen=True)
class Place:
    """Where a program finds a release."""

    name: str
    """The argument of `from_pretrained`."""
    revision: str = ""
    """The commit of a model on the Hub."""
    known: bool = True
    """False for a folder of the operator's, whose path visitors must not see: `name` is its own name alone."""


def find_place(release: Release) -> Place:
    """Where others find this release."""
    if release.folder.resolve().parent in (RELEASES, BUILT.resolve()):
        return Place(f"{RELEASES.name}/{release.folder.resolve().name}")
    if "/" in release.name:
        repo_id, _, revision = release.name.partition("@")
        return Place(repo_id, revision)
    return Place(release.name, known=False)


def command_again(release: Release) -> str:
    """The command that trains the release again from its own recipe, and compares; "" where it has no recipe."""
    if release.recipe_file is None:
        return ""
    place = find_place(release)
    own = place.name.removeprefix(f"{RELEASES.name}/")
    return f"python -m axion reproduce {own}" + (f"@{place.revision}" if place.revision else "")
