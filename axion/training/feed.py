"""The data of a run, which may still be in preparation while the run trains on its first shards."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from transformers import PreTrainedTokenizerFast, TrainerCallback

from axion.data.ahead import Finished, GrowingData, Preparation, promises
from axion.data.prepare import Prepared, prepare
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
        self._stop = stop
        self._stack = ExitStack()
        self._recipe: Recipe | None = None
        self._preparation: Preparation | None = None
        self._growing: GrowingData | None = None
        self._is_complete = True
        self._tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_growing(self) -> bool:
        """Whether shards are missing."""
        return not self._is_complete

    def open(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast | None, by_shard: bool) -> Prepared:
        """Prepares the data of a recipe, or at least its first shard.

        Args:
            recipe: with the revisions of its data filled in.
            tokenizer: see `prepare`.
            by_shard: whether the order of the run's windows allows it to begin with the first shards.

        Raises:
            AxionError: as `prepare` does.
        """
        # processes of other machines may not see the files before they are complete
        if by_shard and parallel.world_size() == parallel.local_processes():
            growing = GrowingData(recipe, ROOT)
            if parallel.from_main_process(lambda: growing.is_missing):
                begin = parallel.from_main_process(lambda: self._begin(growing, recipe, tokenizer))
                if begin is not None:
                    self._recipe, self._growing, self._is_complete = recipe, growing, False
                    self._advance(begin)
                    return growing.prepared
        return parallel.main_process_first(
            lambda: prepare(recipe, ROOT, progress=parallel.is_main_process(), tokenizer=tokenizer)
        )

    def _begin(self, growing: GrowingData, recipe: Recipe, tokenizer: PreTrainedTokenizerFast | None):
        """Starts the preparation; what a run can begin with, or None where it has to wait until all is complete."""
        self._preparation = self._stack.enter_context(Preparation(recipe, ROOT, tokenizer, progress=True))
        waits_for_all = False
        while not ((finished := growing.finished()) and finished.summary):
            if failure := self._preparation.failure():
                raise AxionError(failure)
            if finished and not waits_for_all:
                growing.advance(finished)
                waits_for_all = not promises(recipe.data, growing.prepared.train)
                if not waits_for_all:
                    self._preparation.quiet()
                    _tell(
                        f"training begins with {finished.train.tokens:,} of {recipe.data.max_tokens:,} tokens; the "
                        "others are prepared meanwhile"
                    )
                    return finished
            time.sleep(POLL_SECONDS)
        return None

    def complete(self, prepared: Prepared) -> Prepared:
        """The whole prepared data of a run that has ended, after waiting for it. For the main process alone."""
        if self._growing is None:
            return prepared
        if not self._is_complete:
            _tell("waiting for the rest of the data to be prepared")
        while not self._is_complete:
            finished, failure = self._news()
            if finished and finished.summary:
                self._advance(finished)
            elif failure:
                raise AxionError(f"{failure}; continue with --resume")
            else:
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
        while not self._is_complete:
            finished, self.failure = parallel.from_main_process(self._news)
            if self.failure or parallel.any_process(self._stop.requested):
                return False
            if finished is not None:
                self._advance(finished)
            if self._has_windows(step + STEPS_AHEAD):
                break
            time.sleep(POLL_SECONDS)
        return True

    def _news(self) -> tuple[Finished | None, str | None]:
        """What is finished, and why there will be no more."""
        assert self._recipe and self._growing and self._preparation
        finished, wanted = self._growing.finished(), self._recipe.data.max_tokens or 0
        if not finished or not finished.summary:
            return finished, self._preparation.failure()
        if finished.train.tokens >= wanted:
            return finished, None
        self.can_go_on = False  # its steps were counted for more tokens
        return finished, (
            f"the sources have {finished.train.tokens:,} tokens, fewer than data.max_tokens ({wanted:,}); all of them "
            "are prepared: start another run with --out DIR"
        )

    def _advance(self, finished: Finished) -> None:
        assert self._growing
        if finished.train.tokens > self._tokens or finished.summary:
            self._growing.advance(finished)
            self._tokens, self._is_complete = finished.train.tokens, finished.summary is not None

    def _has_windows(self, steps: int) -> bool:
        """Whether the windows of the run's first steps are there. Later epochs need all of them."""
        assert self._recipe
        tokens = steps * self._recipe.training.batch_size * self._recipe.training.window
        return self._is_complete or tokens <= self._tokens < (self._recipe.data.max_tokens or 0)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
