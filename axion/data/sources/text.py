"""Plain text: stories, books, articles, from local files or a data set on the Hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from axion.data.sources.base import Document, FileSource, plain
from axion.data.sources.files import Record, check_exists, read_lines, read_records
from axion.data.sources.hub import read_hub
from axion.data.split import Split
from axion.errors import AxionError

TEXT_SUFFIXES = {".txt", ".md"}
DEFAULT_SEPARATOR = "<|endoftext|>"


class Text(FileSource):
    """Documents of any text, each between `<bos>` and `<eos>`.

    A .txt or .md file is cut into documents at every `separator`. A file without one is cut at the first blank line
    after every `document_bytes` bytes, so that paragraphs stay whole. In a .jsonl file and in a data set on the Hub,
    each record is one document.
    """

    kind: Literal["text"] = "text"
    version: ClassVar[int] = 1
    """Raise it when the documents made of the same files, their order or their split change."""
    label: ClassVar[str] = "text"
    is_real: ClassVar[bool] = True

    text_field: str = "text"
    """Field of a record that has the text."""
    separator: str = DEFAULT_SEPARATOR
    """What stands between two documents of a text file."""
    document_bytes: Annotated[int, Field(ge=1)] = 4096
    """Length from which a text without separators is cut at the next blank line."""
    language: str | None = None
    """Language of the text, a code of ISO 639-1."""

    def documents(self, split: Split, seed: int) -> Iterator[Document]:
        """Held out by a hash of the text; documents in training show no held-out operand pair."""
        found = False
        for text in self._texts():
            if text := text.strip():
                found = True
                yield plain(text, self.kind, split.side(text), self.language)
        if not found:
            names = ", ".join(Path(file).name for file in self.files or ()) or self.hub_id
            raise AxionError(f"{names} has no text; give a file with at least two documents")

    def _texts(self) -> Iterator[str]:
        if not self.files:
            if self.hub_id is None:
                raise self.no_data()
            records = read_hub(self.hub_id, self.hub_config, "train", self.revision)
            yield from map(self._text_of, records)
        for file in self.files or ():
            suffix = Path(file).suffix.lower()
            if suffix == ".jsonl":
                yield from map(self._text_of, read_records([file]))
            elif suffix in TEXT_SUFFIXES:
                yield from self._cut(file)
            else:
                raise AxionError(f"{file}: cannot read {suffix or 'a file without a suffix'}; give .txt, .md or .jsonl")

    def _text_of(self, record: Record) -> str:
        return record.text(self.text_field, "text_field")

    def _cut(self, file: str) -> Iterator[str]:
        """The documents of a text file, read line by line."""
        check_exists(file)
        separated = any(self.separator in line for line in read_lines(file))
        lines, size = [], 0
        for line in read_lines(file):
            if separated and self.separator in line:
                head, *rest = line.split(self.separator)
                yield "".join([*lines, head])
                yield from rest[:-1]
                lines = rest[-1:]
            else:
                lines.append(line)
            size += len(line.encode())
            if not separated and not line.strip() and size >= self.document_bytes:
                yield "".join(lines)
                lines, size = [], 0
        yield "".join(lines)
