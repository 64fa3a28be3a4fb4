"""Local files of records or text, read one record at a time, with errors that name the file and the line."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from axion.errors import AxionError, one_line
from axion.files import parse_json

MAX_DOCUMENT_BYTES = 2**24
"""The longest line of a file, and the longest document: 16 MiB. Encoding takes about 40 times as much memory."""


class Record(NamedTuple):
    """One record of a data set."""

    fields: Mapping[str, Any]
    where: str
    """For messages: `train.jsonl, line 3`."""

    def text(self, field: str, setting: str) -> str:
        """The text in a field.

        Args:
            field: its name.
            setting: the key of the recipe that gives this name.

        Raises:
            AxionError: the record has no such field, or it is not a text, or an empty one.
        """
        if field not in self.fields:
            present = one_line(", ".join(self.fields)) or "none"
            raise AxionError(f"{self.where}: no field {field!r}; the fields are {present} (set {setting})")
        value = self.fields[field]
        if not isinstance(value, str) or not value.strip():
            shown = one_line(repr(value), 80)
            raise AxionError(f"{self.where}: field {field!r} is {shown}; it must be a text that is not empty")
        return value


def read_records(paths: Sequence[str]) -> Iterator[Record]:
    """The records of JSONL files: one JSON object per line; blank lines are skipped.

    Raises:
        AxionError: a file is missing or has no records, or a line is too long, not UTF-8 or not a JSON object.
    """
    for path in paths:
        empty = True
        for number, line in enumerate(read_lines(path), start=1):
            if line.strip():
                empty = False
                yield _parse(line, f"{path}, line {number}")
        if empty:
            raise AxionError(f"{path} is empty; it must have at least one record")


def _parse(line: str, where: str) -> Record:
    try:
        fields = parse_json(line)
    except ValueError as error:
        raise AxionError(f"{where}: not JSON: {one_line(error)}") from None
    if not isinstance(fields, dict):
        raise AxionError(f'{where}: must be a JSON object such as {{"question": …, "answer": …}}')
    return Record(fields, where)


def read_lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 text file with their line ends, without a byte order mark.

    Raises:
        AxionError: the file is missing or cannot be read, or a line is too long or not UTF-8.
    """
    with check_file(path).open("rb") as file:
        number = 0
        while line := file.readline(MAX_DOCUMENT_BYTES + 1):
            number += 1
            if len(line) > MAX_DOCUMENT_BYTES:
                limit = MAX_DOCUMENT_BYTES // 2**20
                raise AxionError(f"{path}, line {number}: longer than {limit} MiB; break it into several lines")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise AxionError(f"{path}, line {number}: not UTF-8 text") from None


def check_file(path: str) -> Path:
    """The path. Raises AxionError unless it is a readable regular file."""
    if not Path(path).exists():
        raise AxionError(f"no file {path}; give the path of a local file")
    if not Path(path).is_file():
        raise AxionError(f"{path} is not a regular file; give the path of a local file")
    if not os.access(path, os.R_OK):
        raise AxionError(f"{path} is not readable; change its permissions")
    return Path(path)
