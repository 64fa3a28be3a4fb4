"""A release compared with others: the released and planned versions of its series, and their quality."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from axion.errors import AxionError
from axion.evaluation.results import MalformedResults, measured
from axion.series import Member, families, series

TASK = "validation"


@dataclass(frozen=True)
class Measured:
    """A release's size and its bits per byte."""

    name: str
    parameters: int
    bits_per_byte: float
    documents: int
    family: str


def read_roadmap(info: dict) -> list[Member]:
    """The series of the release with this release.json, smallest first; [] if it belongs to none.

    Without the project's recipes, as on a Space, the roadmap is the one stored in the release when it was built.

    Raises:
        AxionError: the release's roadmap is malformed, or the series' file is broken.
    """
    family = info.get("family")
    try:
        known = family in families() and _read_series(family)
        members = list(known or [_read_member(entry) for entry in info.get("roadmap") or ()])
        return members if info.get("name") in {member.name for member in members} else []
    except (KeyError, TypeError, ValueError) as error:
        raise AxionError(f"release.json is broken: its roadmap lacks {error}; build the release again") from None


@cache
def _read_series(family: str) -> tuple[Member, ...]:
    return tuple(series(family))


def _read_member(entry: dict) -> Member:
    return Member(
        name=str(entry["name"]),
        version=str(entry["version"]),
        title=str(entry["title"]),
        repo_name=str(entry.get("repo_name", "")),  # which releases do not state
        released=bool(entry["released"]),
        parameters=int(entry["parameters"]),
        active=None if entry["active"] is None else int(entry["active"]),
    )


def compare_sizes(name: str, info: dict, others: Iterable[tuple[str, dict]]) -> list[Measured]:
    """The releases that were measured on the same documents as this one, including itself, smallest first.

    Args:
        others: names and release.json files. Those without measurements, or measured on other documents, are left out.
    """
    if (own := _read_validation(info)) is None:
        return []
    comparable = {name: info} | {
        other: theirs
        for other, theirs in others
        if other != name and (found := _read_validation(theirs)) is not None and _documents(found) == _documents(own)
    }
    points = [_measured(label, theirs) for label, theirs in comparable.items()]
    return sorted((point for point in points if point), key=lambda point: (point.parameters, point.name))


def _read_validation(info: dict) -> dict | None:
    try:
        return measured(info.get("results", {}), TASK)
    except MalformedResults:
        return None


def _documents(result: dict) -> tuple:
    return result.get("data"), result.get("documents"), result.get("bytes")


def _measured(name: str, info: dict) -> Measured | None:
    try:
        result = measured(info["results"], TASK) or {}
        size, quality = int(info["parameters"]["total"]), float(result["bits_per_byte"])
        return (
            Measured(name, size, quality, int(result["documents"]), str(info.get("family")))
            if size > 0 and quality > 0
            else None
        )
    except (MalformedResults, KeyError, TypeError, ValueError):
        return None  # a visitor who chooses that release sees what is wrong with it
