"""Data sets on the Hugging Face Hub, at a revision that is resolved once and recorded.

Without a connection, the copy that `datasets` cached is used. Its commit is known from the cache, so that a recipe that
pins a revision still gets exactly that one, or an error.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from axion.data.sources.files import Record
from axion.errors import AxionError, one_line

if TYPE_CHECKING:
    from datasets import Dataset

_LOCAL_COPY = "for a local copy give --set data.files=train.jsonl or --set data.test_files=test.jsonl"


def resolve_revision(hub_id: str, config: str | None, revision: str | None) -> str | None:
    """The commit that a revision of a data set stands for, where None is the default branch.

    Without a connection it is the commit of the cached train split, or `revision` itself where the cache doesn't tell.

    Raises:
        AxionError: the data set or the revision does not exist, or there is neither a connection nor a cached copy.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if _is_commit(revision):
        return revision
    try:
        return HfApi().dataset_info(hub_id, revision=revision).sha
    except HFValidationError as error:
        raise _cannot_load(hub_id, error) from None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code < 500:
            raise _cannot_load(hub_id, error) from None
    except Exception:  # no connection, offline mode: each HTTP library raises its own
        pass
    return _commit(_load(hub_id, config, "train", revision)) or revision


def read_hub(hub_id: str, config: str | None, split: str, revision: str | None) -> Iterator[Record]:
    """The records of one split.

    Raises:
        AxionError: it cannot be loaded, is empty, or the cached copy is of another commit than `revision`.
    """
    rows = _load(hub_id, config, split, revision)
    if len(rows) == 0:
        raise AxionError(f"{hub_id} ({split}) is empty; it must have at least one record")
    for number, row in enumerate(rows, start=1):
        yield Record(cast("dict[str, Any]", row), f"{hub_id} ({split}), row {number}")


def _load(hub_id: str, config: str | None, split: str, revision: str | None) -> "Dataset":
    from datasets import load_dataset  # takes a second to import

    try:
        rows = load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:  # datasets, the Hub client and the network each raise their own
        raise _cannot_load(hub_id, error) from None
    # Without a connection, datasets takes the newest cached copy, whatever `revision` says.
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


def _cannot_load(hub_id: str, error: Exception) -> AxionError:
    return AxionError(f"cannot load {hub_id} from the Hub: {one_line(error, 200)}; {_LOCAL_COPY}")
