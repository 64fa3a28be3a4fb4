"""Local files of records or text, read one record at a time, with errors that name the file and the line.

What a file holds is told by its suffix: `.jsonl` and `.parquet` are records, others text. Each may be compressed, as in
`tales.txt.gz`.
"""

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from axion.errors import AxionError, one_line
from axion.files import parse_json

MAX_DOCUMENT_BYTES = 2**26
"""The longest line of a file, and the longest document: 64 MiB."""

PIECE_BYTES = 2**20
"""How much of a long line is read at a time."""

RECORDS = (".jsonl", ".parquet")
"""The suffixes of files of records."""

PARQUET_ROWS = 1024
"""Rows of a Parquet file that are read at a time."""

SAMPLE_RECORDS, SAMPLE_BYTES = 10_000, 2**24
"""The amount of text is estimated from at most this many of the first records or bytes."""

FEWEST_RECORDS = 100
"""Records read of each file, at least, where there are many files."""


class Record(NamedTuple):
    """One record of a data set."""

    fields: Mapping[str, Any]
    where: str
    """For messages: `train.jsonl, line 3`."""
    row: int = 0
    """The number of the row, where the data set is streamed; 0 elsewhere."""

    def text(self, field: str, setting: str, may_be_empty: bool = False) -> str:
        """The text in a field.

        Args:
            field: its name.
            setting: the key of the recipe that gives this name.
            may_be_empty: whether it may have no text.

        Raises:
            AxionError: the record has no such field, or it is not a text, or an empty one.
        """
        if field not in self.fields:
            present = one_line(", ".join(self.fields)) or "none"
            raise AxionError(f"{self.where}: no field {field!r}; the fields are {present} (set {setting})")
        value = self.fields[field]
        if not isinstance(value, str) or not (may_be_empty or value.strip()):
            shown = one_line(repr(value), 80)
            wanted = "a text" if may_be_empty else "a text that is not empty"
            raise AxionError(f"{self.where}: field {field!r} is {shown}; it must be {wanted}")
        return value


def suffix_of(path: str | Path) -> str:
    """The suffix that says what a file holds, in lower case: `.txt` for both `tales.txt` and `tales.TXT.gz`."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if _is_compressed(path) else path.suffix.lower()


def list_files(paths: Sequence[str], suffixes: Collection[str]) -> list[str]:
    """The files at some paths: each file, and the files in each folder that have one of the suffixes.

    A folder's files come in the order of their names, at any depth, also from linked folders, without hidden ones.

    Raises:
        AxionError: a folder has no such file, or a file is listed twice.
    """
    listed: dict[str, str] = {}
    for path in paths:
        found = (
            [str(file) for file in _files_in(path) if suffix_of(file) in suffixes] if Path(path).is_dir() else [path]
        )
        if not found:
            raise AxionError(f"the folder {path} has no file that can be read; give {suffix_list(suffixes)}")
        for file in found:
            if (absolute := os.path.abspath(file)) in listed:
                raise AxionError(f"{file} is listed twice")
            listed[absolute] = file
    return list(listed.values())


def files_passed_over(paths: Sequence[str], suffixes: Collection[str]) -> dict[str, list[str]]:
    """Folder → the names of its files that `list_files` leaves out because of their suffix."""
    folders = [path for path in paths if Path(path).is_dir()]
    left = {path: [file.name for file in _files_in(path) if suffix_of(file) not in suffixes] for path in folders}
    return {path: names for path, names in left.items() if names}


def suffix_list(suffixes: Collection[str]) -> str:
    """For messages: `.txt, .md or .jsonl, each also with .gz`."""
    *others, last = suffixes
    return f"{', '.join(others)} or {last}, each also with .gz"


def _files_in(folder: str) -> list[Path]:
    """All files of a folder at any depth, sorted by name, without hidden ones.

    Linked folders are followed, unless their files have been found already: a link may lead back to where it stands.
    """
    root = Path(folder)
    named: dict[str, Path] = {}
    known: set[str] = set()
    linked = [folder]
    for start in linked:  # grows; a folder that can be reached without a link keeps its own name
        for parent, folders, files in os.walk(start):
            real = os.path.realpath(parent)
            visible = [] if real in known else sorted(name for name in folders if not name.startswith("."))
            folders[:] = [name for name in visible if not os.path.islink(os.path.join(parent, name))]
            linked += [os.path.join(parent, name) for name in visible if name not in folders]
            for name in [] if real in known else files:
                file = Path(parent, name)
                if not name.startswith(".") and file.is_file():
                    named[file.relative_to(root).as_posix()] = file
            known.add(real)
    return [file for _, file in sorted(named.items())]


def read_records(paths: Sequence[str], fields: Collection[str] = ()) -> Iterator[Record]:
    """The records of files. In a JSONL file each line is a JSON object; blank lines are skipped.

    Args:
        paths: `.parquet` files, also compressed; any other is read as JSONL.
        fields: those that are needed; of a Parquet file that has them no others are read.

    Raises:
        AxionError: a file is missing, broken or has no records, or a line is too long, not UTF-8 or not a JSON object.
    """
    for path in paths:
        empty = True
        for record in _read_parquet(path, fields) if suffix_of(path) == ".parquet" else _read_jsonl(path, fields):
            empty = False
            yield record
        if empty:
            raise AxionError(f"{path} is empty; it must have at least one record")


def _read_jsonl(path: str, fields: Collection[str]) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield _parse(line, f"{path}, line {number}", fields)


def _read_parquet(path: str, fields: Collection[str]) -> Iterator[Record]:
    with _parquet(path) as table:
        columns = list(fields) if fields and set(fields) <= set(table.schema_arrow.names) else None
        number = 0
        for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield Record(row, f"{path}, row {number}")


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    """An open Parquet file. Raises AxionError where it cannot be read."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with _opened(path) as file, tempfile.TemporaryFile() as plain:
        if _is_compressed(path):
            shutil.copyfileobj(file, plain)  # a Parquet file is read from its end
            file = plain
        try:
            yield ParquetFile(file)
        except (pyarrow.ArrowException, OSError) as error:
            raise AxionError(f"{path} cannot be read as Parquet: {one_line(error, 120)}") from None


def count_records(path: str, sample: int) -> int:
    """The number of records in a Parquet file, and about that in a JSONL file, judged by the first `sample` ones.

    Raises:
        AxionError: as `read_records` does.
    """
    if suffix_of(path) == ".parquet":
        with _parquet(path) as table:
            return table.metadata.num_rows
    records = size = 0
    for line in read_lines(path):
        records, size = records + bool(line.strip()), size + len(line.encode())
        if records >= sample or size >= SAMPLE_BYTES:
            break
    return round(records * decompressed_bytes(path) / max(size, 1))


def decompressed_bytes(path: str) -> int:
    """The size of a file; of a compressed one about what it has decompressed, judged by its beginning.

    Raises:
        AxionError: it cannot be read.
    """
    size = check_file(path).stat().st_size
    if not _is_compressed(path):
        return size
    with _opened(path) as file:
        plain = len(file.read(SAMPLE_BYTES))
        read = file.fileobj.tell()
    return plain if plain < SAMPLE_BYTES else size * plain // read


def _parse(line: str, where: str, needed: Collection[str]) -> Record:
    try:
        fields = parse_json(line)
    except ValueError as error:
        raise AxionError(f"{where}: not JSON: {one_line(error)}") from None
    if not isinstance(fields, dict):
        example = ", ".join(f'"{name}": …' for name in needed)
        raise AxionError(f"{where}: must be a JSON object" + (f" such as {{{example}}}" if example else ""))
    return Record(fields, where)


def read_lines(path: str) -> Iterator[str]:
    """The lines of a UTF-8 text file, which may be compressed, with their line ends, without a byte order mark.

    A line ends with a line feed, a carriage return, or both.

    Raises:
        AxionError: the file is missing or cannot be read, or a line is too long or not UTF-8.
    """
    with _opened(path) as file:
        for number, line in enumerate(_lines(file), start=1):
            if len(line) > MAX_DOCUMENT_BYTES:
                limit = MAX_DOCUMENT_BYTES // 2**20
                raise AxionError(f"{path}, line {number}: longer than {limit} MiB; break it into several lines")
            if b"\0" in line:
                raise AxionError(f"{path}, line {number}: not UTF-8 text: it has a zero byte")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise AxionError(f"{path}, line {number}: not UTF-8 text") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file. One that is longer than `MAX_DOCUMENT_BYTES` is cut off somewhere behind that."""
    begun: list[bytes] = []  # the parts of a line that is not known to be complete
    size = 0
    while piece := file.readline(PIECE_BYTES):
        if not begun and piece.endswith(b"\n") and piece.find(b"\r", 0, -2) < 0:
            yield piece
            continue
        for part in piece.splitlines(keepends=True):
            if begun and begun[-1].endswith(b"\r") and part != b"\n":
                yield b"".join(begun)
                begun, size = [], 0
            begun.append(part)
            size += len(part)
            if part.endswith(b"\n"):
                yield b"".join(begun)
                begun, size = [], 0
        if size > MAX_DOCUMENT_BYTES:
            break
    if begun:
        yield b"".join(begun)


def _is_compressed(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".gz"


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A file of bytes, decompressed as it is read. Raises AxionError where it cannot be opened or decompressed."""
    checked = check_file(path)
    try:
        with gzip.open(checked) if _is_compressed(checked) else checked.open("rb") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise AxionError(f"{path} cannot be decompressed: {one_line(error, 120)}") from None


def check_file(path: str) -> Path:
    """The path. Raises AxionError unless it is a readable regular file."""
    if not Path(path).exists():
        raise AxionError(f"no file {path}; give the path of a local file")
    if not Path(path).is_file():
        raise AxionError(f"{path} is not a regular file; give the path of a local file")
    if not os.access(path, os.R_OK):
        raise AxionError(f"{path} is not readable; change its permissions")
    return Path(path)
