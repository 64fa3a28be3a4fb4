"""Data sets on the Hugging Face Hub, at a revision that is resolved once and recorded.

A copy that `datasets` has cached is found by its commit, without a connection. A recipe that pins a commit gets exactly
that one, or an error.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from axion.data.sources.files import Record
from axion.errors import AxionError, one_line

if TYPE_CHECKING:
    from datasets import Dataset

CARD = "README.md"
"""The file that tells the commit of a revision; `datasets` reads it too, so that it is cached."""


ROWS_PER_STATE = 1000
"""A stream is begun again at most so many rows before the one that is wanted."""


def resolve_revision(hub_id: str, config: str | None, revision: str | None) -> str | None:
    """The commit that a revision of a data set stands for, where None is the default branch.

    If the Hub cannot be reached or refuses to answer, it is the commit that the revision stood for when it was last
    resolved on this machine. For the default branch, any cached copy will do: its commit, or None if that is unknown.

    Raises:
        AxionError: the data set or the revision does not exist, or the Hub cannot be reached and nothing is cached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if _is_commit(revision):
        return revision
    api = HfApi()
    try:
        try:
            return Path(api.hf_hub_download(hub_id, CARD, repo_type="dataset", revision=revision)).parent.name
        except RemoteEntryNotFoundError:
            return api.dataset_info(hub_id, revision=revision).sha
    except (RevisionNotFoundError, RepositoryNotFoundError, HFValidationError) as error:
        raise _cannot_load(hub_id, error) from None
    except Exception as error:  # no connection, offline mode, too many requests: each library raises its own
        reason = error
    if revision is not None:
        raise _cannot_load(f"{hub_id} at the revision {revision}", reason)
    return _commit(_load(hub_id, config, "train", None))


def read_hub(hub_id: str, config: str | None, split: str, revision: str | None) -> Iterator[Record]:
    """The records of one split.

    Raises:
        AxionError: it cannot be loaded, is empty, or the only copy that is available is of another commit than
            `revision`.
    """
    rows = _rows(hub_id, config, split, revision)
    if len(rows) == 0:
        raise AxionError(f"{hub_id} ({split}) is empty; it must have at least one record")
    for number, row in enumerate(rows, start=1):
        yield Record(cast("dict[str, Any]", row), f"{hub_id} ({split}), row {number}")


def hub_bytes(hub_id: str, config: str | None, split: str, revision: str | None) -> int:
    """The size of all fields of one split. Raises AxionError as `read_hub`."""
    return _rows(hub_id, config, split, revision).data.nbytes


def hub_rows(hub_id: str, config: str | None, split: str, revision: str | None) -> int:
    """The number of records of one split. Raises AxionError as `read_hub`."""
    return len(_rows(hub_id, config, split, revision))


class Place(NamedTuple):
    """A place in a stream of rows, from which it can be read again."""

    row: int
    """The rows behind this one are wanted."""
    state_row: int = 0
    """The row behind which `state` begins, at most `row`."""
    state: dict[str, Any] | None = None
    """What `datasets` calls the state of a stream; None is its start."""


class Cursor:
    """Begins a stream at a place, and tells the places of the rows that are read."""

    def __init__(self, start: Place = Place(0)):  # noqa: B008 (a tuple)
        self.start = start
        self._passed = deque([(start.state_row, start.state)])

    def add(self, row: int, state: dict[str, Any]) -> None:
        """Remembers the state of the stream behind a row."""
        self._passed.append((row, state))

    def place(self, row: int) -> Place:
        """The place behind a row that has been read. Rows before it cannot be asked for later."""
        while len(self._passed) > 1 and self._passed[1][0] <= row:
            self._passed.popleft()
        return Place(row, *self._passed[0])


def stream_hub(
    hub_id: str, config: str | None, split: str, revision: str | None, cursor: Cursor | None = None
) -> Iterator[Record]:
    """The records of one split, read from the network as they are needed; nothing of them is kept on this disk.

    Args:
        hub_id: the data set.
        config: of the data set.
        split: of the data set.
        revision: a commit.
        cursor: where to begin; it receives a state every `ROWS_PER_STATE` rows. Of the file in which it begins,
            `datasets` reads the rows before it once more.

    Raises:
        AxionError: it cannot be loaded, is empty, or the connection is lost.
    """
    from datasets import load_dataset

    number = 0
    try:
        rows = load_dataset(hub_id, config, split=split, revision=revision, streaming=True)
        if cursor and cursor.start.state:
            number = cursor.start.state_row
            rows.load_state_dict(cursor.start.state)
        for row in rows:
            number += 1
            if cursor is None or number > cursor.start.row:
                yield Record(cast("dict[str, Any]", row), f"{hub_id} ({split}), row {number}", number)
            if cursor and number % ROWS_PER_STATE == 0:
                cursor.add(number, rows.state_dict())
    except Exception as error:  # datasets, the Hub client and the network each raise their own
        raise _cannot_load(f"row {number + 1} of {hub_id}", error) from None
    if number == 0:
        raise AxionError(f"{hub_id} ({split}) is empty; it must have at least one record")


def _rows(hub_id: str, config: str | None, split: str, revision: str | None) -> "Dataset":
    cached = _load_cached(hub_id, config, split, revision) if _is_commit(revision) else None
    return _load(hub_id, config, split, revision) if cached is None else cached


def _load_cached(hub_id: str, config: str | None, split: str, commit: str | None) -> "Dataset | None":
    """The copy of one commit that `datasets` keeps; None where it has none that can be read."""
    from datasets.packaged_modules.cache.cache import Cache

    try:
        builder = Cache(
            repo_id=hub_id,
            dataset_name=hub_id.rpartition("/")[2],
            config_name=config or "default",
            version="0.0.0",
            hash=commit,
        )
        return cast("Dataset", builder.as_dataset(split=split)) if Path(builder.cache_dir).is_dir() else None
    except Exception:  # a cached copy that is broken, or of another version of `datasets`
        return None


def _load(hub_id: str, config: str | None, split: str, revision: str | None) -> "Dataset":
    from datasets import load_dataset  # takes a second to import

    try:
        rows = load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:  # datasets, the Hub client and the network each raise their own
        raise _cannot_load(hub_id, error) from None
    # If the Hub does not answer, datasets takes the newest cached copy, whatever `revision` says.
    commit = _commit(rows)
    if _is_commit(revision) and commit is not None and commit != revision:
        raise AxionError(
            f"{hub_id}: the cached copy is commit {commit[:12]}, but the recipe pins {str(revision)[:12]}; "
            "connect to the network, or set the revision to the cached one"
        )
    return rows


def _commit(rows: "Dataset") -> str | None:
    """The commit that a data set was loaded from: `datasets` names the folder of its cache by it."""
    folders = {Path(file["filename"]).parent.name for file in rows.cache_files}
    return folders.pop() if len(folders) == 1 and _is_commit(min(folders)) else None


def _is_commit(revision: str | None) -> bool:
    return revision is not None and len(revision) == 40 and set(revision) <= set("0123456789abcdef")


def _cannot_load(what: str, error: Exception) -> AxionError:
    return AxionError(f"cannot load {what} from the Hub: {one_line(error, 200)}")
