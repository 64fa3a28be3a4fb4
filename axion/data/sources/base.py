"""What every source of documents is: the settings of one entry of a recipe's `data.sources`, and the documents.

A kind of source is one file in this folder with one subclass of `Source`, listed in `axion.data.sources.SOURCES`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import PrivateAttr

from axion.checksums import identify, remembered_sha256
from axion.data.format import ANSWER, ANSWER_HEADING, CHOICE, QUESTION, REASONING_HEADING, Problem
from axion.data.sources.files import (
    FEWEST_RECORDS,
    RECORDS,
    SAMPLE_BYTES,
    SAMPLE_RECORDS,
    Record,
    check_file,
    count_records,
    decompressed_bytes,
    files_passed_over,
    list_files,
    read_records,
    suffix_of,
)
from axion.data.sources.hub import Cursor, hub_bytes, hub_rows, read_hub, resolve_revision, stream_hub
from axion.data.split import Side, Split
from axion.errors import AxionError
from axion.settings import Paths, Section

_HUB_ID = re.compile(r"(?P<hub_id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)


class Span(NamedTuple):
    """A piece of a document."""

    text: str
    special: bool = False
    """Whether `text` is one special token, such as `<|end|>`. Elsewhere what looks like one is plain text."""
    has_loss: bool = True
    """Whether a model is trained to write this span; if not, its labels are masked."""


@dataclass(frozen=True)
class Document:
    """One text of a source, and the side of the split that it belongs to."""

    spans: tuple[Span, ...]
    source: str
    """The kind of its source."""
    side: Side
    language: str | None = None
    row: int = 0
    """The row of a streamed data set that it comes from; 0 elsewhere."""

    @cached_property
    def text(self) -> str:
        """The whole text, without `<bos>` and `<eos>`."""
        return "".join(span.text for span in self.spans)

    @property
    def is_masked(self) -> bool:
        """Whether some span carries no loss. Then `<bos>` carries none, and `<eos>` none behind a special token."""
        return not all(span.has_loss for span in self.spans)

    @property
    def num_bytes(self) -> int:
        """Bytes of UTF-8 that carry loss, special tokens not counted: what bits per byte are measured over."""
        return sum(len(span.text.encode()) for span in self.spans if span.has_loss and not span.special)


class LocalFile(Section):
    """A local data file as a release records it: by name and content, never by path."""

    name: str
    sha256: str


class Source(Section):
    """The settings of one source. Subclasses set `kind`, the class variables, and yield documents."""

    kind: str

    version: ClassVar[int]
    """Part of the data's fingerprint. Increase it when the same settings give other documents than before."""
    label: ClassVar[str]
    """What documents of this kind are, for a table on the model card."""
    form: ClassVar[Literal["problem", "text", "chat"]]
    """problem: documents of `axion.data.format`; text: any text; chat: conversations."""
    later: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Settings that a kind has got since it was released, with the value that changes nothing. Where they have it they
    are not recorded, so that the data of earlier recipes stays the same."""
    is_real: ClassVar[bool]
    """Whether people wrote the texts. Their loss is then the headline, and all of them teach the tokenizer."""

    @property
    def data_name(self) -> str:
        """The name of these documents in tables of results: a data set, files, or a kind."""
        return self.kind.replace("_", " ")

    @property
    def description(self) -> str:
        """What the documents are, for a table on the model card."""
        return self.label

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """All documents in their order, each with its side of `split`; the same for the same arguments.

        Raises:
            AxionError: the source cannot be read, or holds something that is not a document.
        """
        raise NotImplementedError

    def pinned(self) -> Self:
        """This source with the revision of its Hub data set filled in."""
        return self

    @property
    def is_streamed(self) -> bool:
        """Whether a data set on the Hub is read from the network as it is needed, instead of downloaded first."""
        return False

    def num_bytes(self) -> int | None:
        """About how much text there is, where that is known before it is read. Raises AxionError as `documents`."""
        return None

    def text_bytes(self, split: Split, seed: int) -> int | None:
        """About how many bytes of text that carries loss the documents have, where their number is known."""
        return None

    def local_paths(self) -> list[str]:
        """The local files that the documents come from."""
        return []

    def test_paths(self) -> list[str]:
        """The local files that only an evaluation reads."""
        return []

    def settings(self) -> dict[str, Any]:
        """The settings without local paths, as JSON."""
        content = self.model_dump(mode="json", exclude={"files", "test_files"})
        return {key: value for key, value in content.items() if key not in self.later or value != self.later[key]}

    def released(self) -> dict[str, Any]:
        """The settings as a release records them, as JSON. Raises AxionError where a local file is missing."""
        return self.settings()

    def identity(self) -> dict[str, Any]:
        """All that the documents depend on, as JSON. Raises AxionError where a local file is missing."""
        return {**self.released(), "version": self.version}


Part = Literal["train", "test"]
"""A split of a data set as published. Documents for training and for validation both come from the train split."""


class FileSource(Source):
    """A source that reads local files, or else a data set on the Hub."""

    hub_copies: ClassVar[Mapping[str, Mapping[Part, str]]] = MappingProxyType({})
    """Data set → split → SHA-256 of a local file that holds exactly this split."""
    suffixes: ClassVar[tuple[str, ...]] = RECORDS
    """Of the files that are read where `files` names a folder."""

    hub_id: str | None = None
    """Data set on the Hub."""
    hub_config: str | None = None
    revision: str | None = None
    """Commit, branch or tag of the Hub data set; the first fetch records the commit here, and later ones use it."""
    files: Paths | None = None
    """Local files or folders instead of the Hub's train split; one path or a list."""
    local_files: list[LocalFile] | None = None
    """Filled in by a release: the name and SHA-256 of each of `files`."""
    _cursor: Cursor | None = PrivateAttr(None)
    _key: str | None = PrivateAttr(None)

    @property
    def is_from_hub(self) -> bool:
        """Whether the documents are those of the data set `hub_id`: read from it, or from a known copy."""
        if self.files:
            return self._are_copy(self.local_paths(), "train")
        sums = [file.sha256 for file in self.local_files or ()]
        return self.hub_id is not None and (not sums or sums == [self._copy("train")])

    @property
    def data_name(self) -> str:
        if self.is_from_hub:
            return str(self.hub_id)
        names = self.local_paths() or [file.name for file in self.local_files or ()]
        return names_of(names) if names else super().data_name

    def at(self, cursor: Cursor) -> Self:
        """This source, whose documents are those behind the cursor's start, if it is streamed."""
        source = self.model_copy()
        source._cursor = cursor
        return source

    def at_key(self, key: str) -> Self:
        """This source, which `--set data.sources.KEY` names: by its number where several have its kind."""
        source = self.model_copy()
        source._key = key
        return source

    def _are_copy(self, files: list[str], part: Part) -> bool:
        """Whether local files are the known copy of a split of `hub_id`. They are read only where one is known."""
        known = self._copy(part)
        return known is not None and [remembered_sha256(check_file(file)) for file in files] == [known]

    def _copy(self, part: Part) -> str | None:
        return self.hub_copies.get(self.hub_id or "", {}).get(part)

    def num_bytes(self) -> int | None:
        """The size of the local files as they are, or of the data set on the Hub, unless that is streamed."""
        if self.files:
            return sum(check_file(path).stat().st_size for path in self.local_paths())
        if not self.is_from_hub or self.is_streamed:
            return None
        with self._advising("files"):
            return hub_bytes(str(self.hub_id), self.hub_config, "train", self.revision)

    def text_bytes(self, split: Split, seed: int) -> int | None:
        """Judged by the first records of every file, or of the data set on the Hub. Other fields don't count.

        Raises:
            AxionError: as `documents`.
        """
        if self.num_bytes() is None:
            return None
        if not self.files:
            return self._text_of_records(self._count_on_hub(), SAMPLE_RECORDS, split, seed)
        paths, total = self.local_paths(), 0
        sample = max(SAMPLE_RECORDS // len(paths), FEWEST_RECORDS)
        for path in paths:
            if suffix_of(path) in RECORDS:
                source = self.model_copy(update={"files": [path]})
                total += source._text_of_records(count_records(path, sample), sample, split, seed)
            else:
                total += decompressed_bytes(path)
        return total

    def _text_of_records(self, count: int, sample: int, split: Split, seed: int) -> int:
        """The text of so many records, judged by the first ones."""
        records = size = 0
        with suppress(AxionError):  # the preparation says what is wrong with the file
            for document in islice(self.documents(split, seed), sample):
                records, size = records + 1, size + document.num_bytes
                if size >= SAMPLE_BYTES:
                    break
        return count * size // max(records, 1)

    def _count_on_hub(self) -> int:
        with self._advising("files"):
            return hub_rows(str(self.hub_id), self.hub_config, "train", self.revision)

    def local_paths(self) -> list[str]:
        """The local files that the documents come from. Raises AxionError for a folder that has none."""
        return list_files(self.files or [], self.suffixes)

    def files_passed_over(self) -> dict[str, list[str]]:
        """Folder of `files` → the names of those in it that are not read because of their suffix."""
        return files_passed_over(self.files or [], self.suffixes)

    def other_files(self) -> str | None:
        """A sentence that says so where `files` are not those that `local_files` recorded, whatever their names."""
        recorded = [file.sha256 for file in self.local_files or ()]
        if not self.files or not recorded:
            return None
        if recorded == [file["sha256"] for file in identify(map(check_file, self.local_paths()))]:
            return None
        return (
            f"{names_of(self.local_paths())} is not what the model was trained on: that was "
            f"{names_of([file.name for file in self.local_files or ()])} with the sha256 {recorded[0][:12]}…"
        )

    def file_options(self) -> list[str]:
        """What `--set` needs to read the documents of a release of this source again; [] if the Hub has them."""
        names = [Path(path).name for path in self.local_paths()] or [file.name for file in self.local_files or ()]
        return [] if self.is_from_hub or not names else [self._option("files", names)]

    def records(self, *fields: str) -> Iterator[Record]:
        """The records of the local files, or else of the Hub's train split.

        Args:
            fields: those that are needed.

        Raises:
            AxionError: a file is missing or broken; the data set cannot be loaded; neither is given, or the source was
                read from files that are not available.
        """
        if self.files:
            return read_records(self.local_paths(), fields)
        if not self.is_from_hub:
            raise self._no_data()
        return self._hub_records("train")

    def _hub_records(self, part: Part) -> Iterator[Record]:
        with self._advising("files" if part == "train" else "test_files"):
            place = (str(self.hub_id), self.hub_config, part, self.revision)
            yield from stream_hub(*place, self._cursor) if self.is_streamed else read_hub(*place)

    @contextmanager
    def _advising(self, setting: str) -> Iterator[None]:
        """Adds to an error of the Hub that a local copy can be read instead."""
        try:
            yield
        except AxionError as error:
            raise AxionError(f"{error}; {self._advice(setting)} reads a local copy") from None

    def _no_data(self) -> AxionError:
        names = ", ".join(file.name for file in self.local_files or ())
        reason = f"the {self.kind} source was read from {names}" if names else f"the {self.kind} source names no data"
        return AxionError(f"{reason}; give {self._advice('files')}")

    def _advice(self, setting: str) -> str:
        return f"--set {self._option(setting, ['FILE'])}"

    def _option(self, setting: str, names: Sequence[str]) -> str:
        value = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
        return f"data.sources.{self._key or self.kind}.{setting}={value}"

    def pinned(self) -> Self:
        if self.files or not self.is_from_hub:
            return self
        with self._advising("files"):
            revision = resolve_revision(str(self.hub_id), self.hub_config, self.revision)
        return self.model_copy(update={"revision": revision})

    def released(self) -> dict[str, Any]:
        for file in (paths := self.local_paths()):
            check_file(file)
        return self.settings() | ({"local_files": identify(paths)} if paths else {})


def named_sources(kind: type[FileSource], named: Sequence[str]) -> list[dict[str, Any]]:
    """The settings of the sources that a command's options name: one for all files, one for each data set on the Hub.

    Args:
        kind: the kind of all of them.
        named: files, folders, and ids of data sets such as `roneneldan/TinyStories`, which may end in `@revision`.

    Raises:
        AxionError: a name is neither that of a file or folder nor the id of a data set.
    """
    of_kind = {"kind": kind.model_fields["kind"].default}
    files, sources = [], []
    for name in named:
        if Path(name).exists():
            files.append(name)
        elif (hub := _HUB_ID.fullmatch(name)) and suffix_of(name) not in kind.suffixes:
            sources.append(of_kind | hub.groupdict())
        else:
            raise AxionError(f"no file or folder {name}; give one, or a data set on the Hub such as user/name")
    return [*([of_kind | {"files": files}] if files else []), *sources]


def names_of(paths: list[str]) -> str:
    """The names of at most two files."""
    first, *rest = [Path(path).name for path in paths]
    return first if not rest else f"{first}, {rest[0]}" if len(rest) == 1 else f"{first} and {len(rest)} other files"


def plain(text: str, source: str, side: Side, language: str | None, row: int = 0) -> Document:
    """A document that carries loss everywhere."""
    return Document((Span(text),), source, side, language, row)


def on_demand(problem: Problem, source: str, side: Side, reasoning: str | None = None) -> Document:
    """A problem whose first heading carries no loss: it was asked for, not chosen by the model.

    Args:
        problem: its question and answer.
        source: the kind of its source.
        side: of the split.
        reasoning: what was asked for before the answer; None where only that was.
    """
    heading = ANSWER_HEADING if reasoning is None else REASONING_HEADING
    text = problem.answer if reasoning is None else reasoning + ANSWER + problem.answer
    spans = Span(QUESTION + problem.question + CHOICE), Span(heading, has_loss=False), Span(text)
    return Document(spans, source, side, problem.language)
