"""The series: the versions of each family, released and planned, in order.

`configs/series/FAMILY.yaml` lists a family's versions, smallest first. A version with a recipe is released and is
described by its recipe; a planned version is described by the list itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from axion.errors import AxionError, one_line
from axion.families import get_family
from axion.files import read_yaml
from axion.params import count_parameters
from axion.recipe import CONFIGS, known_versions, load_recipe
from axion.settings import Positive, Section

SERIES = CONFIGS / "series"


@dataclass(frozen=True)
class Member:
    """One version of a series."""

    name: str
    """The name of its recipe."""
    version: str
    title: str
    repo_name: str
    """Its repository's name on the Hub, without the user's."""
    released: bool
    """Whether it has a recipe; without one it is planned."""
    parameters: int
    """Counted for a released version, nominal for a planned one."""
    active: int | None
    """Parameters that one token passes through; None for a planned version."""


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
    """Released versions by name, and planned ones."""


def series(family: str) -> list[Member]:
    """The versions of a family, smallest first.

    Raises:
        AxionError: no such series, its file is broken, or a version that it calls released has no recipe.
    """
    recipes = known_versions()
    return [
        _planned(entry) if isinstance(entry, _Planned) and entry.name not in recipes else _released(entry)
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
    """The released versions of all families, each family's smallest first."""
    return (member for family in families() for member in series(family) if member.released)


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


def _released(entry: str | _Planned) -> Member:
    recipe = load_recipe(entry if isinstance(entry, str) else entry.name)
    counts = count_parameters(recipe.build_config(), get_family(recipe.family))
    return Member(recipe.name, recipe.version, recipe.title, recipe.repo_name, True, counts.total, counts.active)


def _planned(entry: _Planned) -> Member:
    version = entry.name.rpartition("-v")[2]
    return Member(entry.name, version, entry.title, entry.repo_name, False, entry.nominal_parameters, None)
