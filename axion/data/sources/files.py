"""Local files of records or text, read one record at a time, with errors that name the file and the line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from axion.errors import AxionError


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
            present = ", ".join(self.fields) or "none"
            raise AxionError(f"{self.where}: no field {field!r}; the fields are {present} (set {setting})")
        value = self.fields[field]
        if not isinstance(value, str) or not value.strip():
            raise AxionError(f"{self.where}: field {field!r} is {value!r}; it must be a text that is not empty")
        return value


def read_records(paths: Sequence[str]) -> Iterator[Record]:
    """The records of JSONL files: one JSON object per line; blank lines are skipped.

    Raises:
        AxionError: a file is missing or has no records, or a line is not UTF-8 or not a JSON object.
    """
    for path in map(Path, paths):
        empty = True
        with _open(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    empty = False
                    yield _parse(line, f"{path}, line {number}")
        if empty:
            raise AxionError(f"{path} is empty; it must have at least one record")


def _parse(line: bytes, where: str) -> Record:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise AxionError(f"{where}: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise AxionError(f"{where}: not JSON ({error.msg}, column {error.colno})") from None
    if not isinstance(fields, dict):
        raise AxionError(f'{where}: must be a JSON object such as {{"question": …, "answer": …}}')
    return Record(fields, where)


def read_lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 text file with their line ends. Raises AxionError where it is missing or not UTF-8."""
    with _open(Path(path)) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise AxionError(f"{path}, line {number}: not UTF-8 text") from None


def check_exists(path: str) -> None:
    """Raises AxionError where there is no such file."""
    if not Path(path).is_file():
        raise AxionError(f"no file {path}; data.files and data.test_files must name local files")


def _open(path: Path):
    check_exists(str(path))
    return path.open("rb")
