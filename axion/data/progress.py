"""What a preparation has written so far: its counts, and the file from which the next one continues."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from axion.data.shards import ShardCounts, TokenDocuments
from axion.data.sources.base import Document
from axion.data.split import Side
from axion.files import read_json, write_json

PROGRESS_FILE = "progress.json"

COLUMNS = ("documents", "bytes", "tokens", "plain_bytes", "plain_tokens")

Row = tuple[str, str | None, int, int, int, int, int]
"""Source, language and COLUMNS."""


class Counts:
    """Documents, bytes and tokens of one side of the split, by source and by language."""

    def __init__(self, rows: Iterable[Row] = ()):
        self._counts: dict[tuple[str, str | None], list[int]] = {(row[0], row[1]): list(row[2:]) for row in rows}

    def add(self, document: Document, tokens: int) -> int:
        """Counts a document with its tokens; returns the bytes of its text.

        Special tokens such as `<bos>` and `<|user|>` are not in the plain numbers.
        """
        special = [span.text for span in document.spans if span.special]
        size = len(document.text.encode())
        added = (
            1,
            size,
            tokens,
            size - len("".join(special).encode()),
            tokens - len(special) - len(("<bos>", "<eos>")),
        )
        row = self._counts.setdefault((document.source, document.language), [0] * len(COLUMNS))
        for column, number in enumerate(added):
            row[column] += number
        return size

    @property
    def rows(self) -> list[Row]:
        """One for each source and language."""
        return [cast(Row, (*key, *numbers)) for key, numbers in self._counts.items()]

    def by(self, key: int) -> dict[str, dict[str, int]]:
        """The sums for each source (0) or language (1), where there is one."""
        table: dict[str, dict[str, int]] = {}
        for row in self.rows:
            if (name := row[key]) is not None:
                sums = table.setdefault(str(name), dict.fromkeys(COLUMNS, 0))
                for column, number in zip(COLUMNS, row[2:], strict=True):
                    sums[column] += number
        return table

    def as_json(self) -> dict[str, Any]:
        """The totals, overall, by source and by language."""
        shown = COLUMNS[:3]
        total = {name: sum(sums[name] for sums in self.by(0).values()) for name in shown}
        tables = {"by_source": self.by(0), "by_language": self.by(1)}
        return total | {
            name: {key: {column: sums[column] for column in shown} for key, sums in table.items()}
            for name, table in tables.items()
        }


def bytes_per_token(sides: Iterable[Counts]) -> dict[str, float]:
    """Mean bytes per token of each source, over both sides. Special tokens and their text don't count."""
    both: dict[str, list[int]] = {}
    for side in sides:
        for source, sums in side.by(0).items():
            numbers = both.setdefault(source, [0, 0])
            numbers[0] += sums["plain_bytes"]
            numbers[1] += sums["plain_tokens"]
    return {source: round(num_bytes / max(tokens, 1), 4) for source, (num_bytes, tokens) in both.items()}


@dataclass(frozen=True)
class Progress:
    """The finished part of one side of the split."""

    fingerprint: str
    counts: ShardCounts = ShardCounts(0, 0, 0, 0)  # noqa: RUF009 (a tuple)
    """Of its complete shards."""
    rows: list[Row] = field(default_factory=list)
    """The `Counts` of the documents in them."""
    text_bytes: int = 0
    """Length of the text file that shows them."""


def write_progress(folder: Path, progress: Progress) -> None:
    """Records the complete shards of training."""
    write_json(folder / PROGRESS_FILE, asdict(progress) | {"counts": progress.counts._asdict()})


def read_progress(folder: Path, fingerprint: str) -> Progress | None:
    """What an earlier preparation of the same data has finished; None if it cannot be used."""
    try:
        content = read_json(folder / PROGRESS_FILE)
        rows = [cast(Row, (str(row[0]), row[1], *map(int, row[2:]))) for row in content["rows"]]
        counts = ShardCounts(**content["counts"])
        TokenDocuments.open(folder, Side.TRAIN, counts)
        text_bytes = int(content["text_bytes"])
        is_usable = content["fingerprint"] == fingerprint
        is_usable &= (folder / "tokenizer.json").is_file()
        is_usable &= (folder / f"{Side.TRAIN}.txt").stat().st_size >= text_bytes
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return Progress(fingerprint, counts, rows, text_bytes) if is_usable else None
