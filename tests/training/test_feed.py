"""A run that begins while its data is prepared sees the same batches as one that finds all of it prepared."""

import shutil
import threading
import time

import pytest

from axion.data import prepare as preparing
from axion.data.ahead import GrowingData, Preparation
from axion.data.progress import write_progress
from axion.errors import AxionError
from axion.files import read_json, sha256, write_json
from axion.training import feed
from axion.training.run import train
from axion.training.runfile import RUN_FILE

BUDGET, SHARD = 12_000, 2000


@pytest.fixture
def recipe(tiny, tmp_path, monkeypatch):
    """Of stories with more tokens than the recipe asks for, six shards of which two epochs are read."""
    monkeypatch.chdir(tmp_path)
    stories = (f"Story {n} of a goat that ate grass by the river {n * n}." for n in range(900))
    (tmp_path / "stories.txt").write_text("<|endoftext|>".join(stories), encoding="utf-8")
    source = f"{{kind: text, files: {tmp_path / 'stories.txt'}}}"
    return tiny(
        *(f"data.sources=[{source}]", f"data.max_tokens={BUDGET}", f"data.shard_tokens={SHARD}"),
        *("training.batch_size=8", "training.max_steps=40"),
    )


class Late:
    """A preparation in a thread that finishes a shard only when training waits for it."""

    def __init__(self):
        self.fails_after: int | None = None
        """The number of shards."""
        self.seen: list[int] = []
        """How many shards training had when it waited."""
        self._is_training, self._go, self._reason = False, threading.Event(), None
        self._shards = 0

    def __call__(self, recipe, root, tokenizer, progress):
        self._arguments, self._reason, self._is_training = (recipe, root, False, tokenizer), None, False
        self.seen = []
        return self

    def __enter__(self):
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._go.set()

    def _run(self):
        try:
            preparing.prepare(*self._arguments)
        except AxionError as error:
            self._reason = str(error)

    def quiet(self):
        self._is_training = True

    def failure(self):
        return self._reason

    def record(self, folder, progress):
        write_progress(folder, progress)
        self._shards = progress.train.counts.shards
        if self._shards == self.fails_after:
            self.fails_after = None
            raise AxionError("the disk is full; finished shards are kept")
        if self._shards:
            self._go.wait()
            self._go.clear()

    def sleep(self, seconds):
        if self._is_training and self._shards not in self.seen:
            self.seen.append(self._shards)
            self._go.set()
        time.sleep(0.02)


@pytest.fixture
def late(monkeypatch):
    late = Late()
    monkeypatch.setattr(preparing, "write_progress", late.record)
    monkeypatch.setattr(feed, "Preparation", late)
    monkeypatch.setattr(feed, "time", late)
    return late


def result(run):
    recorded = read_json(run / RUN_FILE)
    metrics = (run / "metrics.csv").read_text().splitlines()
    losses = [line.split(",")[6] for line in metrics]
    return sha256(run / "final" / "model.safetensors"), losses, recorded["data"], recorded["windows"]


@pytest.fixture
def whole(recipe, tmp_path):
    """The result of a run on data that was prepared before."""
    preparing.prepare(recipe, progress=False)
    found = result(train(recipe, tmp_path / "whole", backend="torch"))
    shutil.rmtree(tmp_path / "data")
    return found


def test_a_run_on_growing_data_is_the_one_on_finished_data(recipe, whole, late, tmp_path, capsys):
    assert result(train(recipe, tmp_path / "run", backend="torch")) == whole
    shards = whole[2]["shards"]["train"]["shards"]
    assert shards == 6 and whole[3] == {"order": "shards", "per_epoch": BUDGET // 64}
    assert late.seen == [1, 2, 3, 4, 5]
    assert "training begins with 2,0" in capsys.readouterr().err


def test_a_preparation_that_fails_ends_the_run_and_the_next_start_goes_on(recipe, whole, late, tmp_path):
    late.fails_after = 4
    with pytest.raises(AxionError) as error:
        train(recipe, tmp_path / "run", backend="torch")
    saved = max(int(path.name.split("-")[1]) for path in (tmp_path / "run").glob("checkpoint-*"))
    assert str(error.value) == (
        "the disk is full; finished shards are kept; "
        f"{tmp_path}/run/checkpoint-{saved} is saved; continue with --resume"
    )
    assert 0 < saved < 24
    assert result(train(recipe, tmp_path / "run", resume=True, backend="torch")) == whole


def test_sources_that_end_early_end_the_run(recipe, late, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "promises", lambda *_: True)
    data = recipe.data.model_copy(update={"max_tokens": 10**6})
    recipe = recipe.model_copy(update={"data": data})
    with pytest.raises(AxionError, match=r"the sources have \d\d,\d\d\d tokens, fewer than data\.max_tokens") as error:
        train(recipe, tmp_path / "run", backend="torch")
    assert str(error.value).endswith(" is saved")  # it cannot be resumed
    with pytest.raises(AxionError, match=r"was started with 15625 windows an epoch, and its data fills \d+ now"):
        train(recipe, tmp_path / "run", resume=True, backend="torch")
    assert read_json(train(recipe, tmp_path / "other", backend="torch") / RUN_FILE)["finished"]


def test_a_run_of_an_earlier_version_keeps_its_order(recipe, tmp_path, monkeypatch):
    preparing.prepare(recipe, progress=False)
    monkeypatch.setattr(type(recipe.data), "trains_by_shard", False)
    old = train(recipe, tmp_path / "old", backend="torch")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    expected = result(old)
    for folder in old.glob("checkpoint-4*"):
        shutil.rmtree(folder)
    shutil.rmtree(old / "final")
    content = read_json(old / RUN_FILE) | {"finished": False}
    del content["windows"]
    write_json(old / RUN_FILE, content)
    assert result(train(recipe, old, resume=True, backend="torch")) == expected
    assert expected[3]["order"] == "documents"


def test_the_process_says_why_it_failed_and_prepares(recipe, tmp_path):
    path = tmp_path / "stories.txt"
    text = path.read_bytes()
    path.write_bytes(text + b"\n\xff")
    with Preparation(recipe, tmp_path / "data", None, progress=False) as preparation:
        while not (failure := preparation.failure()):
            time.sleep(0.05)
    assert failure == f"{path}, line 2: not UTF-8 text"
    path.write_bytes(text)
    growing = GrowingData(recipe, tmp_path / "data")
    with Preparation(recipe, tmp_path / "data", None, progress=False) as preparation:
        preparation.quiet()
        while not ((finished := growing.finished()) and finished.summary):
            assert preparation.failure() is None
            time.sleep(0.05)
    growing.advance(finished)
    assert growing.prepared.summary == preparing.prepare(recipe, progress=False).summary
