"""Which models a visitor may choose, and the facts that the page shows about each."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from axion.errors import AxionError
from axion.inference.routing import routers
from axion.inference.stream import Step, stream
from axion.params import report
from axion.release import RELEASES, Release, list_releases, open_release
from playground.generate.request import Refusal

Stream = Callable[..., Iterator[Step]]
"""`axion.inference.stream.stream`, or something that stands in for it and takes the same arguments."""

_COMMIT = re.compile(r"@([0-9a-f]{8})[0-9a-f]{32}$")
"""A revision that is a whole commit, of which visitors see eight digits."""


@dataclass(frozen=True)
class Facts:
    """What the page says about a model; every number is counted from its config.

    `layers` are those with routed experts, and `first_layer` is the number, from 1, of the first of them. The bytes are
    what the key-value cache takes per token over all layers: latents as the model keeps them, and the keys and values
    that plain multi-head attention of the same width would keep.
    """

    layers: int
    first_layer: int
    experts: int
    experts_per_token: int
    shared_experts: int
    context: int
    total: int
    active: int
    embedding: int
    components: dict[str, int]
    active_components: dict[str, int]
    cache_bytes: int
    plain_cache_bytes: int


def read_facts(release: Release) -> Facts:
    """Count what the page shows about `release`."""
    config, counted = release.config, report(release.name, release.config, release.family)
    rows = routers(release.model)
    layers = len(rows)
    return Facts(
        layers=layers,
        first_layer=min((row.layer for row in rows), default=config.num_hidden_layers + 1),
        experts=config.n_routed_experts if layers else 0,
        experts_per_token=config.num_experts_per_tok if layers else 0,
        shared_experts=config.n_shared_experts if layers else 0,
        context=config.max_position_embeddings,
        total=counted["total"],
        active=counted["active"],
        embedding=counted["embedding"],
        components=counted["components"],
        active_components=counted["active_components"],
        cache_bytes=counted["cache"]["bytes_per_token"],
        plain_cache_bytes=counted["cache"]["plain_bytes_per_token"],
    )


@dataclass(frozen=True)
class OpenModel:
    """A release whose every part was read, and its facts."""

    name: str
    release: Release
    facts: Facts
    stream: Stream = stream
    """Generates with it, step by step."""


class Catalogue:
    """The models open to visitors: those that the operator named, then those under releases/.

    A visitor's choice is looked up here by its displayed name and nowhere else, so no request can make the server read
    another folder or reach the Hub. Models are loaded when first chosen, and once.
    """

    def __init__(self, named: Sequence[str] = (), stream: Stream = stream) -> None:
        """Look up the releases; none is loaded yet.

        Args:
            named: releases to offer first: folders, names under releases/, or Hub ids with their commit.
            stream: generates with every model of this catalogue; tests and benchmarks pass a slower one.

        Raises:
            AxionError: there is nothing to offer, or a name in `named` is neither a folder, nor a release, nor a pinned
                Hub id.
        """
        named = [os.path.expanduser(reference) for reference in named]  # no shell did so in AXION_MODELS
        for reference in named:
            _check_exists(reference)
        self._references = dict(_label([*named, *list_releases()]))
        self._stream = stream
        self._loaded: dict[str, OpenModel] = {}
        self._locks = {name: Lock() for name in self._references}
        if not self._references:
            raise AxionError("no release under releases/; build one with python -m publish, or name one with --models")

    @property
    def names(self) -> list[str]:
        """The displayed names, in the order in which they are offered."""
        return list(self._references)

    def open(self, name: object) -> OpenModel:
        """The model called `name`. Raises AxionError when it is not offered, or when its release is broken."""
        if not isinstance(name, str) or name not in self._references:
            raise Refusal("no_model", known=", ".join(self._references))
        if name not in self._loaded:  # those that are loaded never wait for one that is loading
            with self._locks[name]:
                if name not in self._loaded:
                    self._loaded[name] = _open(name, self._references[name], self._stream)
        return self._loaded[name]

    def describe_others(self) -> list[tuple[str, dict]]:
        """Name and release.json of each model that is open, or in a folder here; the others would be downloads."""
        known = {name: model.release for name, model in self._loaded.items()}
        for name, reference in self._references.items():
            if name not in known and (Path(reference).is_dir() or reference in list_releases()):
                with suppress(AxionError):  # choosing it tells what is wrong with it
                    known[name] = open_release(reference)
        described = []
        for name in filter(known.__contains__, self._references):
            with suppress(AxionError):
                described.append((name, known[name].info))
        return described

    def default(self) -> str:
        """The first model that opens, or the first of all when none does (the page then says what is wrong with it)."""
        for name in self._references:
            try:
                self.open(name)
            except AxionError:
                continue
            return name
        return self.names[0]


def _open(name: str, reference: str, stream: Stream) -> OpenModel:
    """Read all of a release now, so that what is broken in it is told here and not in the middle of a generation."""
    release = open_release(reference)
    release.tokenizer, release.info  # noqa: B018 (each is read when first looked at)
    facts = read_facts(release)
    if release.trace is not None and not _is_trace(release.trace, facts.layers):
        raise AxionError(f"{release.name}: trace.json is broken or another model's; build the release again")
    return OpenModel(name, release, facts, stream)


def _is_trace(trace: dict, layers: int) -> bool:
    try:
        lengths = {len(step[key]) for step in trace["steps"] for key in ("e", "g", "a", "d")}
        complete = all(step.keys() >= {"i", "id", "t", "prompt", "p", "alt"} for step in trace["steps"])
        return (
            complete
            and lengths <= {layers}
            and isinstance(trace["prompt"], str)
            and isinstance(trace["sampling"], dict)
        )
    except (AttributeError, KeyError, TypeError):
        return False


def _check_exists(reference: str) -> None:
    """Tell a slip of the pen at the start; what exists but is broken is told on the page, beside models that work.

    A Hub id must name a commit, so that what visitors see is what the operator has looked at.
    """
    if Path(reference).is_dir() or reference in list_releases():
        return
    if reference.count("/") != 1 or reference.startswith((".", "/", "~")):
        known = ", ".join(list_releases()) or "none yet"
        raise AxionError(f"no release {reference!r}; here: {known}; or give a folder, or a Hub id with its commit")
    if not _COMMIT.search(reference):  # a branch or a tag can be moved to other files while the page is open
        name = reference.partition("@")[0]
        raise AxionError(
            f"{reference} is no folder here, and as a Hub id it is not pinned; "
            f"give the commit that the page shall show: {name}@<40 hex digits>"
        )


def _find_place(reference: str) -> Path | str:
    """The folder, or else the Hub id."""
    for folder in (Path(reference), RELEASES / reference):
        if folder.is_dir():
            return folder.resolve()
    return reference.strip("/")


def _label(references: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair each reference with the name to display: a folder's own name alone, since visitors need no server paths."""
    taken: set[str] = set()
    places: set[Path | str] = set()
    for reference in references:
        if (place := _find_place(reference)) in places:
            continue  # named twice, perhaps once as a folder and once by its name under releases/
        places.add(place)
        stem = place.name if isinstance(place, Path) else _COMMIT.sub(r"@\1", place)
        label, copy = stem, 2
        while label in taken:
            label, copy = f"{stem} ({copy})", copy + 1
        taken.add(label)
        yield label, reference
