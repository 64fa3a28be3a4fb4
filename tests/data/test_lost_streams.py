"""A stream from the Hub whose connection is lost is read again from where the finished shards end."""

import json

import datasets
import pytest

from axion.data.prepare import prepare
from axion.data.progress import read_progress
from axion.data.sources import Text
from axion.data.sources import hub as hub_module
from axion.data.sources.hub import Cursor, stream_hub
from axion.data.split import Split
from axion.errors import AxionError

FILES, ROWS = 6, 150


@pytest.fixture
def stories(hub, monkeypatch):
    """The commit of a data set of six files."""
    from huggingface_hub import CommitOperationAdd, HfApi

    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 1)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0)
    monkeypatch.setattr(hub_module, "ROWS_PER_STATE", 7)
    api = HfApi(token=hub.token)
    api.create_repo("someone/stories", repo_type="dataset")
    # some rows are blank, so that rows and documents have different numbers; one document comes again and again
    rows = [{"text": "" if n % 11 == 0 else f"Story {n % 801} of a goat."} for n in range(FILES * ROWS)]
    files = {f"data/train-{file}.jsonl": rows[file * ROWS : (file + 1) * ROWS] for file in range(FILES)}
    added = [
        CommitOperationAdd(name, "".join(json.dumps(row) + "\n" for row in part).encode())
        for name, part in files.items()
    ]
    return api.create_commit("someone/stories", added, commit_message="Add stories", repo_type="dataset").oid


def fetched(hub, since: int) -> set[str]:
    """The files of the data set that were read since an entry of the log."""
    return {entry.path.rpartition("-")[2] for entry in hub.log[since:] if entry.path.endswith(".jsonl")}


@pytest.mark.parametrize("budget", ["data.max_tokens=9000", "data.max_tokens=null"])
def test_a_lost_stream_goes_on_behind_the_finished_shards(hub, stories, small_recipe, tmp_path, monkeypatch, budget):
    monkeypatch.setattr("axion.data.encoding.BATCH_DOCUMENTS", 30)
    monkeypatch.setattr("axion.data.mixture.TOKENIZER_BYTES", 1000)
    source = f"{{kind: text, hub_id: someone/stories, revision: {stories}, stream: true}}"
    recipe = small_recipe(
        *(f"data.sources=[{source}]", "data.shard_tokens=1000", budget, "tokenizer.vocab_size=300"),
        *("data.max_validation_bytes=60", "data.val_fraction=0.2"),
    )
    whole = prepare(recipe, tmp_path / "whole", progress=False)
    hub.fail("503", on="GET */train-4.jsonl", sticky=True)
    with pytest.raises(AxionError, match=r"cannot load row \d+ of someone/stories from the Hub"):
        prepare(recipe, tmp_path / "data", progress=False)
    (partial,) = (tmp_path / "data").iterdir()
    progress = read_progress(partial, whole.summary["fingerprint"])
    assert progress and progress.train.counts.shards > 3
    assert (
        progress.place
        and 3 * ROWS < progress.place.row < 4 * ROWS
        and 0 <= progress.place.row - progress.place.state_row < 7
    )
    hub.heal()
    since = len(hub.log)
    again = prepare(recipe, tmp_path / "data", progress=False)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == {
        path.name: path.read_bytes() for path in whole.folder.iterdir()
    }
    # the first file tells `datasets` the fields, and its state is that of a batch, which may begin in the file before
    assert {"3.jsonl", "4.jsonl", "5.jsonl"} <= fetched(hub, since) <= {f"{file}.jsonl" for file in (0, 2, 3, 4, 5)}


def test_a_cursor_names_the_last_state_before_a_row(hub, stories):
    cursor = Cursor()
    records = list(stream_hub("someone/stories", None, "train", stories, cursor))
    place = cursor.place(500)
    assert (place.row, place.state_row) == (500, 497)
    later = list(stream_hub("someone/stories", None, "train", stories, Cursor(place)))
    assert later == records[500:]
    source = Text(hub_id="someone/stories", revision=stories, stream=True)
    split = Split(0.2, 0, 0)
    assert [each.row for each in source.at(Cursor(place)).documents(split, 0)] == [
        each.row for each in source.documents(split, 0) if each.row > 500
    ]
