"""The data of a run, which may still be in preparation while the run trains on its first shards."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from transformers import PreTrainedTokenizerFast, TrainerCallback

from axion.data.ahead import Finished, GrowingData, Preparation, promises
from axion.data.packing import PackedWindows
from axion.data.prepare import Prepared, prepare
from axion.data.whole_documents import WholeDocuments
from axion.errors import AxionError
from axion.recipe import Recipe
from axion.training import parallel
from axion.training.signals import StopSignals

ROOT = Path("data")

POLL_SECONDS = 0.2

STEPS_AHEAD = 2
"""How many steps have their windows before one begins: Trainer reads a step's first batch during the step before."""


class Feed(TrainerCallback):
    """Opens the data of a run, and makes training wait for shards that are not finished.

    A context manager: the process that prepares data ends with the block.

    Args:
        stop: whether a signal asks the run to end.
    """

    def __init__(self, stop: StopSignals):
        self.failure: str | None = None
        """Why the run has been ended: the preparation has failed. None if it has not."""
        self.can_go_on = True
        """Whether the run can be resumed after that failure."""
        self.on_wait: Callable[[float], None] = lambda seconds: None
        """Receives how long training has waited."""
        self._stop = stop
        self._stack = ExitStack()
        self._recipe: Recipe | None = None
        self._preparation: Preparation | None = None
        self._growing: GrowingData | None = None
        self._windows: PackedWindows | None = None
        self._steps, self._reads_all = 0, True
        self._has_all = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_growing(self) -> bool:
        """Whether shards are missing."""
        return not self._has_all

    def open(
        self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast | None, by_shard: bool, is_enough: bool | None = None
    ) -> Prepared:
        """Prepares the data of a recipe, or at least all sources but the last and the first shard of that.

        Args:
            recipe: with the revisions of its data filled in.
            tokenizer: see `prepare`.
            by_shard: whether the order of the run's windows allows it to begin with the first shards.
            is_enough: whether the sources have the tokens that training wants, where that is known.

        Raises:
            AxionError: as `prepare` does.
        """
        # processes of other machines may not see the files before they are complete
        if by_shard and is_enough is not False and parallel.world_size() == parallel.local_processes():
            growing = GrowingData(recipe, ROOT)
            if parallel.from_main_process(lambda: growing.is_missing):
                self._recipe, self._growing = recipe, growing
                begin = parallel.from_main_process(lambda: self._begin(tokenizer, bool(is_enough)))
                if begin is not None:
                    self._has_all = False
                    growing.advance(begin)
                    return growing.prepared
                self._growing = None
        return parallel.main_process_first(
            lambda: prepare(recipe, ROOT, progress=parallel.is_main_process(), tokenizer=tokenizer)
        )

    def _begin(self, tokenizer: PreTrainedTokenizerFast | None, is_enough: bool) -> Finished | None:
        """Starts the preparation; what a run can begin with, or None where it has to wait until all is complete."""
        assert self._recipe and self._growing
        self._preparation = self._stack.enter_context(Preparation(self._recipe, ROOT, tokenizer, progress=True))
        wanted, waits_for_all = self._recipe.data.max_tokens or 0, False
        while not ((news := self._look())[0] and news[0].is_complete):
            finished, failure = news
            if failure:
                raise AxionError(failure)
            if finished and not waits_for_all and finished.train.tokens < wanted:
                self._growing.advance(finished)
                if self._growing.shows_last_source:
                    waits_for_all = not (is_enough or promises(self._growing.prepared))
                    if not waits_for_all:
                        self._preparation.quiet()
                        _tell(
                            f"training begins with {finished.train.tokens:,} of {wanted:,} tokens; the others are "
                            "prepared meanwhile"
                        )
                        return finished
            time.sleep(POLL_SECONDS)
        return None

    def follow(self, windows: PackedWindows | WholeDocuments, steps: int) -> None:
        """Tells what is read: the windows of so many steps, after which no more of the data is waited for."""
        if isinstance(windows, PackedWindows):
            self._windows, self._steps = windows, steps
            self._reads_all = steps >= len(windows) // self._recipe.training.batch_size if self._recipe else True

    def complete(self, prepared: Prepared) -> Prepared:
        """The prepared data of a run that has ended: all that its steps read. For the main process alone.

        Raises:
            AxionError: the preparation has failed.
            KeyboardInterrupt: a signal asks the run to end.
        """
        if self._growing is None:
            return prepared
        if not self._has_enough:
            _tell("waiting for the rest of the data to be prepared")
        while not self._has_enough:
            finished, failure = self._news()
            if failure:
                raise AxionError(f"{failure}; continue with --resume")
            if self._stop.requested:
                raise KeyboardInterrupt
            self._advance(finished)
            time.sleep(POLL_SECONDS)
        return self._growing.prepared

    # --- While the run trains, in all processes alike

    def on_train_begin(self, args, state, control, **kwargs):
        if not self._supply(state.global_step):
            raise AxionError(self.failure) if self.failure else KeyboardInterrupt

    def on_step_end(self, args, state, control, **kwargs):
        if not control.should_training_stop and not self._supply(state.global_step):
            control.should_training_stop = control.should_save = True
        return control

    def _supply(self, step: int) -> bool:
        """Waits until the windows of the steps after `step` are there; whether the run can go on."""
        started = time.perf_counter()
        while not self._has_enough:
            finished, self.failure = parallel.from_main_process(self._news)
            if self.failure or parallel.any_process(self._stop.requested):
                return False
            self._advance(finished)
            if self._has_windows(step + STEPS_AHEAD):
                break
            time.sleep(POLL_SECONDS)
        else:
            if self._preparation:
                self._preparation.stop()  # the rest is not read by this run
        self.on_wait(time.perf_counter() - started)
        return True

    def _news(self) -> tuple[Finished | None, str | None]:
        """What is finished, and why there will be no more."""
        assert self._recipe
        finished, failure = self._look()
        if not finished or not finished.is_complete:
            return finished, failure
        if finished.train.tokens >= (wanted := self._recipe.data.max_tokens or 0):
            return finished, None
        self.can_go_on = False
        return finished, too_few(finished.train.tokens, wanted)

    def _look(self) -> tuple[Finished | None, str | None]:
        """What is finished, and why the preparation has ended without finishing all of it."""
        assert self._growing and self._preparation
        failure = self._preparation.failure()  # asked first: it may finish between the two
        finished = self._growing.finished()
        return finished, None if finished and finished.is_complete else failure

    def _advance(self, finished: Finished | None) -> None:
        assert self._growing
        if finished and (finished.is_complete or finished.train.shards > len(self._growing.prepared.train.shards)):
            self._growing.advance(finished)
            self._has_all = finished.is_complete

    @property
    def _has_enough(self) -> bool:
        """Whether no more of the data has to be prepared for this run."""
        return self._has_all or (not self._reads_all and self._has_windows(self._steps + 1))

    def _has_windows(self, steps: int) -> bool:
        """Whether the windows of the run's first steps are there. Later epochs need all of them."""
        if self._has_all or self._windows is None:
            return self._has_all
        assert self._recipe
        size = self._recipe.training.batch_size
        # Trainer reads a batch more than it trains on, if there is one
        return size * min(steps, self._steps + 1, len(self._windows) // size) <= self._windows.ready


def too_few(tokens: int, wanted: int) -> str:
    """Why a run cannot go on that began before all sources were read."""
    return (
        f"the sources have {tokens:,} tokens, fewer than data.max_tokens ({wanted:,}), for which the steps of this run "
        "were counted"
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
