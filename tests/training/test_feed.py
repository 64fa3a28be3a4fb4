"""A run that begins while its data is prepared sees the same batches as one that finds all of it prepared."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from axion.data import ahead
from axion.data import prepare as preparing
from axion.data import shards as shards_module
from axion.data.ahead import GrowingData, Preparation
from axion.data.mixture import Mixture
from axion.data.progress import write_progress
from axion.data.sources import WordProblems
from axion.errors import AxionError
from axion.files import read_json, sha256, write_json
from axion.training import feed
from axion.training.feed import Feed
from axion.training.recorder import Recorder
from axion.training.run import Interrupted, train
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
    """A preparation in a thread that finishes a shard of the last source only when training waits for it."""

    def __init__(self):
        self.fails_after: int | None = None
        """The number of shards."""
        self.seen: list[int] = []
        """How many shards training had when it waited."""
        self._is_training, self._go, self._reason = False, threading.Event(), None
        self._shards, self._thread = 0, threading.Thread()
        self.is_stopped = False
        """Whether training needs no more of it."""

    def __call__(self, recipe, root, tokenizer, progress):
        self._arguments, self._reason, self._is_training = (recipe, root, False, tokenizer), None, False
        self._go.clear()
        self.seen, self.is_stopped = [], False
        return self

    def __enter__(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def _run(self):
        try:
            preparing.prepare(*self._arguments)
        except AxionError as error:
            self._reason = str(error)

    def quiet(self):
        self._is_training = True

    def stop(self):
        self.is_stopped = True
        self._go.set()
        self._thread.join()

    def perf_counter(self):
        return time.perf_counter()

    def failure(self):
        return self._reason

    def record(self, folder, progress):
        write_progress(folder, progress)
        if threading.current_thread() is not self._thread:
            return
        self._shards = progress.train.counts.shards
        if self._shards == self.fails_after:
            self.fails_after = None
            raise AxionError("the disk is full; finished shards are kept")
        if sum(tokens for source, _, _, _, tokens, *_ in progress.train.rows if source == "text") >= SHARD / 4:
            self._go.wait()
            self._go.clear()
            if self.is_stopped:
                raise AxionError("killed")

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


def test_a_run_on_growing_data_is_the_one_on_finished_data(recipe, whole, late, tmp_path, monkeypatch, capsys):
    opened, waited, open_shard = Counter(), [], shards_module._open_shard

    def count(folder, stem):
        opened.update([stem] if threading.current_thread() is threading.main_thread() else ())
        return open_shard(folder, stem)

    monkeypatch.setattr(shards_module, "_open_shard", count)
    monkeypatch.setattr(Recorder, "leave_out", lambda _, seconds: waited.append(seconds))
    assert result(train(recipe, tmp_path / "run", backend="torch")) == whole
    assert opened["train-00000"] == 2 and all(opened[f"train-{number:05d}"] == 1 for number in range(1, 5))
    assert sum(waited) > 5 * 0.02
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


def test_a_run_of_few_steps_waits_for_what_it_reads(recipe, late, tmp_path):
    few = recipe.model_copy(update={"training": recipe.training.model_copy(update={"max_steps": 4})})
    run = train(few, tmp_path / "run", backend="torch")
    recorded = read_json(run / RUN_FILE)
    assert recorded["finished"] and recorded["steps"] == 4
    assert late.seen == [1] and late.is_stopped  # five steps of 512 tokens are less than two shards
    assert recorded["data"]["shards"]["train"]["shards"] == 2
    assert recorded["data"]["train"]["tokens"] == recorded["data"]["train"]["by_source"]["text"]["tokens"] > 4000
    assert not list((tmp_path / "data").glob("tiny-*"))
    preparing.prepare(few, progress=False)
    weights, _, data, windows = result(train(few, tmp_path / "again", backend="torch"))
    assert (sha256(run / "final" / "model.safetensors"), recorded["windows"]) == (weights, windows)
    assert data.keys() == recorded["data"].keys()


def test_sources_that_end_early_end_the_run(recipe, late, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "promises", lambda *_: True)
    data = recipe.data.model_copy(update={"max_tokens": 10**6})
    recipe = recipe.model_copy(update={"data": data})
    with pytest.raises(AxionError, match=r"the sources have \d\d,\d\d\d tokens, fewer than data\.max_tokens") as error:
        train(recipe, tmp_path / "run", backend="torch")
    assert str(error.value).endswith(
        " is saved but cannot be resumed; all of the data is prepared now: start another run with --out DIR"
    )
    with pytest.raises(AxionError, match=r"^the sources have .* for which the steps of this run were counted; start"):
        train(recipe, tmp_path / "run", resume=True, backend="torch")
    assert read_json(train(recipe, tmp_path / "other", backend="torch") / RUN_FILE)["finished"]


@pytest.fixture
def mixed(recipe):
    """Of problems and stories; the run ends long before it has read all."""
    sources = (WordProblems(count=12), *recipe.data.sources)
    held_out = {"max_validation_bytes": 2000, "val_fraction": 0.3}
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"sources": sources, **held_out}),
            "training": recipe.training.model_copy(update={"max_steps": 9}),
        }
    )


def test_training_begins_with_the_first_shard_of_the_last_source(mixed, late, tmp_path, monkeypatch):
    run = train(mixed, tmp_path / "run", backend="torch")
    early = read_json(run / RUN_FILE)
    whole = preparing.prepare(mixed, progress=False)
    begins = whole.last_source_begins
    assert (
        whole.train.sources[begins - 1 : begins + 1].tolist() == [0, 1]
        and early["data"]["last_source_begins"] == begins
    )
    ends = [whole.train.lengths[begins:end].sum() for end in whole.train.first_documents[1:]]
    begun = 1 + next(number for number, tokens in enumerate(ends) if tokens >= SHARD / 4)
    assert 1 < begun < early["data"]["shards"]["train"]["shards"] < len(whole.train.shards) and late.is_stopped
    assert late.seen[0] == begun
    assert sha256(run / "final" / "model.safetensors") == result(train(mixed, tmp_path / "late", backend="torch"))[0]
    monkeypatch.setattr(Mixture, "train", lambda *_: pytest.fail("the training data was read"))
    assert set(whole.held_out.sources) == {0, 1} and {each.source for each in whole.validation} == {"text"}
    anew = preparing.validation_documents(whole.data, whole.tokenizer)
    assert [each.ids.tolist() for each in anew] == [each.ids.tolist() for each in whole.validation]


def test_a_run_of_all_there_is_resumes_although_its_data_is_gone(recipe, late, tmp_path, monkeypatch):
    data = recipe.data.model_copy(update={"max_tokens": 10**6})
    training = recipe.training.model_copy(update={"max_steps": 4, "checkpoints": 2})
    recipe = recipe.model_copy(update={"data": data, "training": training})
    preparing.prepare(recipe, progress=False)
    expected = result(run := train(recipe, tmp_path / "run", backend="torch"))
    shutil.rmtree(run / "final")
    shutil.rmtree(run / "checkpoint-4")
    shutil.rmtree(tmp_path / "data")
    write_json(run / RUN_FILE, read_json(run / RUN_FILE) | {"finished": False})
    monkeypatch.setattr(feed, "promises", lambda *_: True)
    assert result(train(recipe, run, resume=True, backend="torch")) == expected
    assert not late.seen


@pytest.mark.parametrize(
    ("batch", "number", "advice"), [(8, 0, "the same command starts again"), (16, 1, "continue with --resume")]
)
def test_a_signal_before_the_first_step_is_one_line(recipe, late, tmp_path, monkeypatch, batch, number, advice):
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"batch_size": batch})})
    sleep = late.sleep

    def receive(seconds):
        sleep(seconds)
        if len(late.seen) == number:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(late, "sleep", receive)
    with pytest.raises(Interrupted) as error:
        train(recipe, tmp_path / "run", backend="torch")
    assert str(error.value) == f"stopped before the first step; what is prepared of the data is kept; {advice}"


def test_a_signal_while_the_rest_is_prepared_is_one_line(recipe, tmp_path, monkeypatch):
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"max_steps": 2})})
    preparing.prepare(recipe, progress=False)
    complete = Feed.complete

    def wait(self, prepared):
        self._growing, self._has_all = SimpleNamespace(prepared=prepared), False
        self._news = lambda: (None, None)
        self._stop.requested = True
        patch.setattr(feed.time, "sleep", lambda _: pytest.fail("it waited"))
        return complete(self, prepared)

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as error:
        patch.setattr(Feed, "complete", wait)
        train(recipe, tmp_path / "run", backend="torch")
    final = tmp_path / "run" / "final"
    assert str(error.value) == (
        f"stopped after the last step, while data was prepared; {final} is saved; continue with --resume"
    )
    assert read_json(train(recipe, tmp_path / "run", resume=True, backend="torch") / RUN_FILE)["finished"]


def test_waiting_for_data_is_not_training():
    recorder = object.__new__(Recorder)
    recorder._seconds_before, recorder._started = 5.0, time.perf_counter() - 10
    recorder.leave_out(4)
    assert 11 <= recorder._seconds() < 11.5


def test_a_preparation_that_ends_without_the_data_is_a_failure(recipe, tmp_path, monkeypatch):
    command = [sys.executable, "-c", "import sys; sys.stdin.buffer.read(1)"]

    def start(*_, **__):
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(ahead, "start_module", start)
    with pytest.raises(AxionError, match=r"^the process that prepares the data has ended$"):
        train(recipe, tmp_path / "run", backend="torch")


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
        while not ((finished := growing.finished()) and finished.is_complete):
            assert preparation.failure() is None
            time.sleep(0.05)
    growing.advance(finished)
    assert growing.prepared.summary == preparing.prepare(recipe, progress=False).summary
