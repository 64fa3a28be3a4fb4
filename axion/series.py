"""The series: the versions of each family, released and planned, in order.

`configs/series/FAMILY.yaml` lists a family's versions, smallest first. A version is released where there is a release
folder of its name, here or among those that come with Axion, and planned until then. Its recipe describes it and gives
its size; one without a recipe is described by the list itself.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from axion.errors import AxionError, one_line
from axion.files import read_yaml
from axion.params import count_parameters
from axion.recipe import CONFIGS, known_versions, load_recipe
from axion.release import list_releases
from axion.settings import Positive, Section

SERIES = CONFIGS / "series"


@dataclass(frozen=True)
class Member:
    """One version of a series."""

    name: str
    """The name of its recipe and of its release."""
    version: str
    title: str
    repo_name: str
    """Its repository's name on the Hub, without the user's."""
    released: bool
    """Whether there is a release of it; without one it is planned."""
    parameters: int
    """Counted where it has a recipe, nominal without one."""
    active: int | None
    """Parameters that one token passes through; None for a version without a recipe."""

    @property
    def is_counted(self) -> bool:
        """Whether it has a recipe, so that its size is exact."""
        return self.active is not None


class _Planned(Section):
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+-v[0-9.]+$")]
    title: str
    repo_name: str
    nominal_parameters: Positive


class _Series(Section):
    title: str
    code: str | None = None
    """The address of the code that trains the series, for the cards; None where it is not public."""
    versions: list[str | _Planned]
    """Versions with a recipe by its name, and those without."""


def series(family: str) -> list[Member]:
    """The versions of a family, smallest first.

    Raises:
        AxionError: no such series, its file is broken, or a version that it names has no recipe.
    """
    recipes, releases = known_versions(), list_releases()
    return [
        _without_recipe(entry)
        if isinstance(entry, _Planned) and entry.name not in recipes
        else _with_recipe(entry if isinstance(entry, str) else entry.name, releases)
        for entry in _read(family).versions
    ]


def has_member(family: str, name: str) -> bool:
    """Whether a family's series lists a version of this name. Raises what `series` raises."""
    return name in {member.name for member in series(family)}


def collection_title(family: str) -> str:
    """The title of a family's collection on the Hub. Raises what `series` raises."""
    return _read(family).title


def code_url(family: str) -> str | None:
    """The address of the code that trains a family, if it is public. Raises what `series` raises."""
    return _read(family).code


def predecessor(name: str) -> Member | None:
    """The newest released version before this one in its series; None for the first and for names in no series."""
    for family in families():
        earlier = None
        for member in series(family):
            if member.name == name:
                return earlier
            earlier = member if member.released else earlier
    return None


def walk() -> Iterator[Member]:
    """The versions of all families that have a recipe, each family's smallest first."""
    return (member for family in families() for member in series(family) if member.is_counted)


def families() -> list[str]:
    """The families that have a series."""
    return sorted(path.stem for path in SERIES.glob("*.yaml"))


def _read(family: str) -> _Series:
    path = SERIES / f"{family}.yaml"
    try:
        return _Series.model_validate(read_yaml(path))
    except FileNotFoundError:
        raise AxionError(f"no series {family!r}; known: {', '.join(families())}") from None
    except ValueError as error:
        raise AxionError(f"{path} is broken: {one_line(error)}") from None


def _with_recipe(name: str, releases: Collection[str]) -> Member:
    recipe = load_recipe(name)
    counts = count_parameters(recipe.build_config())
    described = (recipe.name, recipe.version, recipe.title, recipe.repo_name)
    return Member(*described, recipe.name in releases, counts.total, counts.active)


def _without_recipe(entry: _Planned) -> Member:
    version = entry.name.rpartition("-v")[2]
    return Member(entry.name, version, entry.title, entry.repo_name, False, entry.nominal_parameters, None)
