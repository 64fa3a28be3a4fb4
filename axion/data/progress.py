"""What a preparation has written so far: its counts, and the file from which the next one continues."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from axion.data.shards import ShardCounts, TokenDocuments
from axion.data.sources.base import Document
from axion.data.sources.hub import Place
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
class Written:
    """The finished part of one side of the split."""

    counts: ShardCounts = ShardCounts(0, 0, 0, 0)  # noqa: RUF009 (a tuple)
    """Of its complete shards."""
    rows: list[Row] = field(default_factory=list)
    """The `Counts` of the documents in them."""
    text_bytes: int = 0
    """Length of the text file that shows them."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"counts": self.counts._asdict()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """What `as_json` gave. Raises KeyError, TypeError or ValueError where it is something else."""
        rows = [cast(Row, (str(row[0]), row[1], *map(int, row[2:]))) for row in content["rows"]]
        return cls(ShardCounts(**content["counts"]), rows, int(content["text_bytes"]))


@dataclass(frozen=True)
class Progress:
    """The finished part of a preparation."""

    fingerprint: str
    train: Written = Written()
    validation: Written | None = None
    """Where validation is written first."""
    held_out: frozenset[int] = frozenset()
    """The ranks of its documents."""
    place: Place | None = None
    """Where a stream goes on behind the last document of training."""
    dropped: int = 0
    """How many documents before that were dropped."""
    last_source_begins: int | None = None
    """How many documents of training come before those of the last source; None before it is reached."""


def write_progress(folder: Path, progress: Progress) -> None:
    """Records what is complete."""
    validation = progress.validation and progress.validation.as_json()
    content = {
        "fingerprint": progress.fingerprint,
        "train": progress.train.as_json(),
        "validation": validation,
        "held_out": sorted(progress.held_out),
        "place": progress.place and progress.place._asdict(),
        "dropped": progress.dropped,
        "last_source_begins": progress.last_source_begins,
    }
    write_json(folder / PROGRESS_FILE, content)


def read_progress(folder: Path, fingerprint: str, opens_shards: bool = True) -> Progress | None:
    """What an earlier preparation of the same data has finished; None if it cannot be used.

    Args:
        folder: where it is.
        fingerprint: of the data.
        opens_shards: whether to check that the shards can be read.
    """
    try:
        content = read_json(folder / PROGRESS_FILE)
        validation = content["validation"] and Written.from_json(content["validation"])
        progress = Progress(
            content["fingerprint"],
            Written.from_json(content["train"]),
            validation,
            frozenset(map(int, content["held_out"])),
            content["place"] and Place(**content["place"]),
            int(content["dropped"]),
            content.get("last_source_begins"),
        )
        is_usable = progress.fingerprint == fingerprint and (folder / "tokenizer.json").is_file()
        for side, written in ((Side.TRAIN, progress.train), (Side.VALIDATION, validation)):
            if opens_shards and written and written.counts.shards:
                TokenDocuments.open(folder, side, written.counts)
                is_usable &= (folder / f"{side}.txt").stat().st_size >= written.text_bytes
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    return progress if is_usable else None
