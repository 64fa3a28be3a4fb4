"""Plain text: stories, books, articles, from local files or a data set on the Hub."""

import os
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from axion.data.sources.base import Document, FileSource, plain
from axion.data.sources.files import (
    MAX_DOCUMENT_BYTES,
    RECORDS,
    Record,
    check_file,
    read_lines,
    read_records,
    suffix_list,
    suffix_of,
)
from axion.data.split import Split
from axion.errors import AxionError
from axion.settings import Positive

SUFFIXES = (".txt", ".md", *RECORDS)
DEFAULT_SEPARATOR = "<|endoftext|>"
AT_LINE_ENDS = 4
"""A text whose blank lines are further apart than so many times `document_bytes` is cut between its lines."""


class Text(FileSource):
    """Documents of any text, each between `<bos>` and `<eos>`.

    A .txt or .md file is cut into documents at every `separator`. A file without one is cut at the first blank line
    after every `document_bytes` bytes, so that paragraphs stay whole; where the next blank line is further away than
    `AT_LINE_ENDS` times that, at the end of the line. In a .jsonl or .parquet file and in a data set on the Hub, each
    record is one document.
    """

    kind: Literal["text"] = "text"
    version: ClassVar[int] = 4
    """Increase it when the documents from the same files, their order or their split change."""
    label: ClassVar[str] = "text"
    form = "text"
    is_real: ClassVar[bool] = True
    suffixes = SUFFIXES

    text_field: str = "text"
    """Field of a record that has the text."""
    separator: Annotated[str, Field(min_length=1)] = DEFAULT_SEPARATOR
    """The separator between two documents of a text file; it may contain line breaks."""
    document_bytes: Positive = 4096
    """Length from which a text without separators is cut at the next blank line."""
    language: str | None = None
    """Language of the text, a code of ISO 639-1."""
    stream: bool = False
    """Read the data set on the Hub from the network as it is needed, without a copy on this disk: for one of which
    `data.max_tokens` takes a part."""

    @property
    def is_streamed(self) -> bool:
        return self.stream

    @property
    def description(self) -> str:
        return f"text of {self.data_name}" if self.files or self.local_files or self.hub_id else self.label

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """Held out by a hash of the text; documents in training show no held-out operand pair."""
        found = self._cursor is not None and self._cursor.start.row > 0
        for text, row in self._texts():
            if text := text.strip():
                found = True
                yield plain(text, self.kind, split.side(text), self.language, row)
        if not found:
            raise AxionError(f"{self.data_name} has no text; give a file with at least two documents")

    def _texts(self) -> Iterator[tuple[str, int]]:
        """All texts, each with its row if it is streamed."""
        if not self.files:
            yield from map(self._text_of, self.records(self.text_field))
        for file in self.local_paths():
            suffix = suffix_of(file)
            if suffix in RECORDS:
                yield from map(self._text_of, read_records([file], [self.text_field]))
            elif suffix in SUFFIXES:
                yield from ((text, 0) for text in self._cut(file))
            else:
                found = suffix or "a file without a suffix"
                raise AxionError(f"{file}: cannot read {found}; give {suffix_list(SUFFIXES)}")

    def _text_of(self, record: Record) -> tuple[str, int]:
        return record.text(self.text_field, "text_field", may_be_empty=True), record.row

    def _cut(self, file: str) -> Iterator[str]:
        """The documents of a text file, read line by line."""
        # a line break in the separator matches those of every system
        separator = re.compile(re.escape(self.separator).replace("\\\n", r"(?:\r\n|\r(?!\n)|\n)"))
        stat = os.stat(check_file(file))
        if _has(file, (stat.st_size, stat.st_mtime_ns), separator, 1 + self.separator.count("\n")):
            return _at_separators(file, separator)
        return _at_blank_lines(file, self.document_bytes)


@lru_cache
def _has(file: str, version: tuple[int, int], separator: re.Pattern[str], num_lines: int) -> bool:
    """Whether a file has a separator, which spans `num_lines` lines. `version` differs where the file has changed."""
    window: deque[str] = deque(maxlen=num_lines)
    for line in read_lines(file):
        window.append(line)
        if separator.search("".join(window)):
            return True
    return False


def _at_separators(file: str, separator: re.Pattern[str]) -> Iterator[str]:
    overlap = len(separator.pattern)  # at least the length of a separator
    before: list[str] = []
    tail, size = "", 0  # the end of the text so far, in which a separator may have begun
    for number, line in enumerate(read_lines(file), start=1):
        tail, size = tail + line, size + len(line)
        while found := separator.search(tail):
            yield "".join([*before, tail[: found.start()]])
            before, tail = [], tail[found.end() :]
            size = len(tail)
        before.append(tail[:-overlap])
        tail = tail[-overlap:]
        _check_size(size, file, number)
    yield "".join([*before, tail])


def _at_blank_lines(file: str, document_bytes: int) -> Iterator[str]:
    lines, size = [], 0
    for number, line in enumerate(read_lines(file), start=1):
        lines.append(line)
        size += len(line.encode())
        if size >= (document_bytes if not line.strip() else AT_LINE_ENDS * document_bytes):
            yield "".join(lines)
            lines, size = [], 0
        _check_size(size, file, number)
    yield "".join(lines)


def _check_size(size: int, file: str, line: int) -> None:
    if size > MAX_DOCUMENT_BYTES:
        raise AxionError(
            f"{file}: a document has reached {MAX_DOCUMENT_BYTES // 2**20} MiB at line {line}; put blank lines between "
            "paragraphs, or the separator between documents"
        )
