"""The models that a visitor may choose, and the facts that the page shows about each."""

import logging
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from axion.checksums import remembered_sha256
from axion.errors import AxionError
from axion.inference import chat
from axion.inference.routing import RoutingRow, routing_rows
from axion.inference.stream import Step, stream
from axion.params import report
from axion.release import Release, folder_name, list_releases, open_release, release_folder
from playground.generate.refusal import Refusal
from playground.locales import DEFAULT, Language

Stream = Callable[..., Generator[Step, None, None]]
"""`axion.inference.stream.stream`, or something that stands in for it and takes the same arguments."""

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"@([0-9a-f]{8})[0-9a-f]{32}$")
"""Matches a full commit hash as the revision; visitors see its first eight digits."""


@dataclass(frozen=True)
class Facts:
    """What the page says about a model; every number is counted from its config.

    `layers` counts the rows of a trace: one for each time that a layer with routed experts runs, which `rows` names;
    `first_layer` is the number of the first such layer, from 1. The bytes are the size of the KV cache per token, over
    all layers and loops: of what the model caches, and of the keys and values that plain multi-head attention with the
    same heads would cache.
    """

    all_layers: int
    shared_layers: int
    """How many of all layers are looped."""
    loops: int
    """How often the looped layers run."""
    attention: str
    """mla or gqa, as in the config."""
    heads: int
    key_value_heads: int
    rows: tuple[RoutingRow, ...]
    layers: int
    mixture_layers: int
    """How many of all layers have routed experts."""
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
    multi_token_prediction: int
    """Parameters of multi-token prediction, which are in none of the other counts."""
    cache_bytes: int
    plain_cache_bytes: int
    is_looped: bool
    """Whether some layers run several times, as often as a request asks."""


def read_facts(release: Release) -> Facts:
    """Count what the page shows about `release`."""
    config, counted = release.config, report(release.name, release.config)
    rows = tuple(routing_rows(config))
    layers = len(rows)
    return Facts(
        all_layers=config.num_hidden_layers,
        shared_layers=config.num_shared_layers,
        loops=config.num_loops,
        attention=config.attention,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        rows=rows,
        layers=layers,
        mixture_layers=len(config.mixture_layers),
        first_layer=config.mixture_layers.start + 1,
        experts=config.n_routed_experts if layers else 0,
        experts_per_token=config.num_experts_per_tok if layers else 0,
        shared_experts=config.n_shared_experts if layers else 0,
        context=config.max_position_embeddings,
        total=counted["total"],
        active=counted["active"],
        embedding=counted["embedding"],
        components=counted["components"],
        active_components=counted["active_components"],
        multi_token_prediction=counted["multi_token_prediction"],
        cache_bytes=counted["cache"]["bytes_per_token"],
        plain_cache_bytes=counted["cache"]["plain_bytes_per_token"],
        is_looped=config.num_shared_layers > 0,
    )


DECISIVE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class OpenModel:
    """A release that was read completely, and its facts."""

    name: str
    release: Release
    facts: Facts
    stream: Stream = stream
    """Generates with it, step by step."""

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when its config, tokenizer or weights do, but not with its card."""
        folder = self.release.folder
        files = [folder / name for name in DECISIVE if (folder / name).is_file()]
        lines = "".join(f"{path.name} {remembered_sha256(path)}\n" for path in [*files, *sorted(folder.glob(WEIGHTS))])
        return sha256(lines.encode()).hexdigest()[:12]


def can_chat(release: Release) -> bool:
    """Whether the release was taught to chat."""
    return chat.can_chat(release.tokenizer)


def recorded_example(release: Release, language: Language = DEFAULT) -> Mapping[str, Any] | None:
    """The recorded generation in this language, of older releases their only one; None where there is none.

    Returns:
        {"prompt", "sampling", "steps"}, see `axion.inference.stream.make_trace`.
    """
    if (trace := release.trace) is None:
        return None
    return next((each for each in (trace, *trace.get("others", ())) if each.get("language") == language), trace)


class Catalogue:
    """The models that are open to visitors: those that the operator named, then those under releases/.

    A visitor's choice is looked up here by its displayed name and nowhere else, so no request can make the server read
    another folder or reach the Hub. A model is loaded once, when it is first chosen.
    """

    def __init__(
        self, named: Sequence[str] = (), stream: Stream = stream, weights: str = "fp32", with_local: bool = True
    ) -> None:
        """Look up the releases; none is loaded yet.

        Args:
            named: releases to offer first: folders, names under releases/, or Hub ids with their commit.
            stream: generates with every model of this catalogue; tests and benchmarks pass a slower one.
            weights: of every model; see `Release.with_weights`.
            with_local: also offer the releases under releases/.

        Raises:
            AxionError: there is nothing to offer, or a name in `named` is neither a folder, nor a release, nor a pinned
                Hub id.
        """
        named = [os.path.expanduser(reference) for reference in named]  # no shell did so in AXION_MODELS
        for reference in named:
            _check_exists(reference)
        self._references = dict(_label([*named, *(list_releases() if with_local else [])]))
        self._stream, self._weights = stream, weights
        self._loaded: dict[str, OpenModel] = {}
        self._locks = {name: Lock() for name in self._references}
        if not self._references:
            raise AxionError("no release under releases/; build one with python -m publish, or name one with --models")

    @property
    def names(self) -> list[str]:
        """The displayed names, in the order in which they are offered."""
        return list(self._references)

    def reference(self, name: str) -> str:
        """The folder, name or Hub id of the model called `name`, as it was given."""
        return self._references[self.check_name(name)]

    def check_name(self, name: object) -> str:
        """The name itself. Raises Refusal when no model of that name is offered."""
        if not isinstance(name, str) or name not in self._references:
            raise Refusal("no_model", known=", ".join(self._references))
        return name

    def open(self, name: object) -> OpenModel:
        """The model called `name`. Raises AxionError when it is not offered, or when its release is broken."""
        name = self.check_name(name)
        if name not in self._loaded:  # a loaded model never waits for one that is loading
            with self._locks[name]:
                if name not in self._loaded:
                    self._loaded[name] = _open(name, self._references[name], self._stream, self._weights)
        return self._loaded[name]

    def open_for_program(self, name: object) -> OpenModel:
        """As `open`, but what is wrong with a release goes to the log, since it is the operator's business."""
        name = self.check_name(name)
        with _errors_to_log(name):
            return self.open(name)

    def facts_for_program(self, name: object) -> tuple[Facts, bool] | None:
        """The model's facts, and whether it can chat, without loading its weights.

        Raises:
            AxionError: as `open_for_program`, where the config or the tokenizer is broken.

        Returns:
            None where the release would have to be downloaded.
        """
        name = self.check_name(name)
        with _errors_to_log(name):
            release = self._find_release(name)
            return release and (read_facts(release), can_chat(release))

    def describe_others(self) -> list[tuple[str, dict]]:
        """Name and release.json of each model that is loaded or in a local folder; the others would be downloads."""
        described = []
        for name in self._references:
            with suppress(AxionError):  # a visitor who chooses it sees what is wrong with it
                if release := self._find_release(name):
                    described.append((name, release.info))
        return described

    def _find_release(self, name: str) -> Release | None:
        """The release, its weights perhaps not loaded; None where it would have to be downloaded."""
        if name in self._loaded:
            return self._loaded[name].release
        reference = self._references[name]
        return open_release(reference) if Path(reference).is_dir() or reference in list_releases() else None

    def default(self) -> str:
        """The first model that opens; the first of all when none does, and then the page says what is wrong with it."""
        for name in self._references:
            try:
                self.open(name)
            except AxionError:
                continue
            return name
        return self.names[0]


@contextmanager
def _errors_to_log(name: str) -> Iterator[None]:
    """Log an AxionError, and raise another one in its place that says nothing of the server."""
    try:
        yield
    except AxionError as error:
        log.error("%s cannot be opened: %s", name, error)
        raise AxionError(f"the model {name} cannot be opened; the server's log says more") from None


def _open(name: str, reference: str, stream: Stream, weights: str) -> OpenModel:
    """Read the whole release now, so that a broken part is reported here and not in the middle of a generation."""
    release = open_release(reference).with_weights(weights)
    release.tokenizer, release.info  # noqa: B018 (both are lazily loaded)
    facts = read_facts(release)
    if release.trace is not None and not _is_trace(release.trace, facts.rows):
        raise AxionError(f"{release.name}: trace.json is broken or belongs to another model; build the release again")
    return OpenModel(name, release, facts, stream)


def _is_trace(trace: dict, rows: Sequence[RoutingRow]) -> bool:
    try:
        examples = [trace, *trace.get("others", ())]
        steps = [step for example in examples for step in example["steps"]]
        lengths = {len(step[key]) for step in steps for key in ("e", "g", "a", "d")}
        recorded = [RoutingRow(*row) for row in trace.get("rows", rows)]  # older traces do not list them
        complete = all(step.keys() >= {"i", "id", "t", "prompt", "p", "alt"} for step in steps)
        return (
            complete
            and lengths <= {len(recorded)}
            and {row.layer for row in recorded} == {row.layer for row in rows}
            and all(isinstance(example["prompt"], str) for example in examples)
            and all(isinstance(example["sampling"], dict) for example in examples)
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _check_exists(reference: str) -> None:
    """Report a misspelt reference at the start; a release that exists but is broken is reported on the page.

    A Hub id must name a commit, so that visitors see what the operator has reviewed.
    """
    if Path(reference).is_dir() or reference in list_releases():
        return
    if reference.count("/") != 1 or reference.startswith((".", "/", "~")):
        known = ", ".join(list_releases()) or "none yet"
        raise AxionError(f"no release {reference!r}; here: {known}; or give a folder, or a Hub id with its commit")
    if not _COMMIT.search(reference):  # a branch or a tag can move while the page is open
        name = reference.partition("@")[0]
        raise AxionError(
            f"{reference} is not a local folder, and as a Hub id it is not pinned; "
            f"name the commit to show: {name}@<40 hex digits>"
        )


def _find_place(reference: str) -> Path | str:
    """The folder, or else the Hub id."""
    for folder in (Path(reference), release_folder(reference)):
        if folder.is_dir():
            return folder.resolve()
    return reference.strip("/")


def _label(references: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pair each reference with the name to display: of a folder its own name, since visitors need no server paths."""
    taken: set[str] = set()
    places: set[Path | str] = set()
    for reference in references:
        if (place := _find_place(reference)) in places:
            continue  # named twice, for example as a folder and by its name under releases/
        places.add(place)
        stem = folder_name(place) if isinstance(place, Path) else _COMMIT.sub(r"@\1", place)
        label, copy = stem, 2
        while label in taken:
            label, copy = f"{stem} ({copy})", copy + 1
        taken.add(label)
        yield label, reference
