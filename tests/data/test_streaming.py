"""A data set on the Hub that is read as it is needed, and no further; a lost connection is one line."""

import datasets
import pytest

from axion.data.prepare import prepare
from axion.data.sources import Text
from axion.data.split import Split
from axion.errors import AxionError

COMMIT = "a" * 40
SPLIT = Split(fraction=0.2, seed=0, holdout_fraction=0)


@pytest.fixture
def hub(monkeypatch):
    """The rows that were read from a data set of 1,000 stories; the connection is lost at the row `hub[0]`."""
    read: list[int] = [10**6]

    def load_dataset(hub_id, config, split, revision, streaming):
        assert (hub_id, config, split, revision, streaming) == ("user/stories", None, "train", COMMIT, True)
        for number in range(1, 1001):
            if number == read[0]:
                raise ConnectionError("Connection reset\nby peer")
            read.append(number)
            yield {"text": f"Story {number} of a goat that ate grass by the river."}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return read


def test_a_stream_is_read_as_far_as_it_is_needed(hub, small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("axion.data.encoding.BATCH_DOCUMENTS", 20)
    monkeypatch.setattr("axion.data.mixture.TOKENIZER_BYTES", 2000)
    source = f"{{kind: text, hub_id: user/stories, revision: {COMMIT}, stream: true}}"
    recipe = small_recipe(f"data.sources=[{source}]", "data.max_tokens=1500", "data.val_fraction=0.2")
    prepared = prepare(recipe, tmp_path, progress=False)
    assert 1500 <= prepared.train.lengths.sum() < 1550 and len(prepared.held_out) > 5
    assert 50 < max(hub[1:]) < 400


def test_a_part_of_a_stream_is_not_chosen_among_all_of_its_documents(hub, small_recipe, tmp_path):
    source = f"{{kind: text, hub_id: user/stories, revision: {COMMIT}, stream: true}}"
    recipe = small_recipe(f"data.sources=[{source}]", "data.max_documents=100")
    with pytest.raises(AxionError, match=r"a stream has no end; give data\.max_tokens, such as 1_000_000, instead"):
        prepare(recipe, tmp_path, progress=False)
    assert len(hub) == 1


def test_a_lost_connection_is_one_line(hub):
    hub[0] = 30
    source = Text(hub_id="user/stories", revision=COMMIT, stream=True)
    documents = source.documents(SPLIT, 0)
    assert len([next(documents) for _ in range(29)]) == 29
    with pytest.raises(AxionError) as error:
        next(documents)
    assert str(error.value) == (
        "cannot load row 30 of user/stories from the Hub: Connection reset by peer; "
        "--set data.sources.text.files=FILE reads a local copy"
    )
