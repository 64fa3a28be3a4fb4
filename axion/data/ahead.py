"""Preparation in a process of its own, while others read the shards that it has finished.

A `Preparation` runs the process. A `GrowingData` reads the files, in every process of a run: how much of them is
finished, one process finds out and tells the others, so that all have the same shards.

This module is also the program that the process runs.
"""

import os
import pickle
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from transformers import PreTrainedTokenizerFast

from axion.data.encoding import opened, send, start_module
from axion.data.prepare import (
    Prepared,
    Recipe,
    last_source_begins,
    locate,
    open_shards,
    prepare,
    progress_bar,
    read_summary,
    shard_counts,
    summarize,
)
from axion.data.progress import PROGRESS_FILE, read_progress
from axion.data.shards import ShardCounts
from axion.data.split import Side
from axion.errors import AxionError
from axion.files import partial_of

MARGIN = 1.1
"""Sources are taken to have enough text where the estimate is at least this many times what training needs."""

PATIENCE = 60
"""For how many seconds a file that another process has finished may be missing, as on a network file system."""

NICENESS = 10
"""How far the process steps back behind others, such as the training that goes on meanwhile."""

_QUIET = b"quiet"


class Preparation:
    """A process that prepares the data of a recipe as `prepare` does. A context manager: it ends with the block."""

    def __init__(self, recipe: Recipe, root: Path, tokenizer: PreTrainedTokenizerFast | None, progress: bool):
        self._process = start_module("axion.data.ahead", own_session=True)
        with suppress(BrokenPipeError):  # `failure` says why it has ended
            send(self._process, (recipe, root, progress, tokenizer))
        self._failure: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                opened(pipe).close()

    def quiet(self) -> None:
        """Ends its progress bar, because another one begins."""
        with suppress(OSError):
            opened(self._process.stdin).write(_QUIET)
            opened(self._process.stdin).flush()

    def stop(self) -> None:
        """Ends it where it is. The shards that it has finished stay, and another one goes on behind them."""
        self._process.kill()
        self._process.wait()

    def failure(self) -> str | None:
        """Why it has ended, which says nothing where it has finished the data; None while it runs."""
        if self._failure is None and (code := self._process.poll()) is not None:
            reason = opened(self._process.stdout).read().decode()
            unknown = "the process that prepares the data has ended" + (", perhaps for lack of memory" if code else "")
            self._failure = reason or unknown
        return self._failure


class Finished(NamedTuple):
    """How much of the data can be read."""

    summary: dict[str, Any]
    """The content of data.json, or what it would be if no more were to come."""
    is_complete: bool
    """Whether this is all of it."""

    @property
    def train(self) -> ShardCounts:
        """What there is to train on."""
        return shard_counts(self.summary, Side.TRAIN)


class GrowingData:
    """The prepared data of a recipe, whose last shards may be missing until they are finished."""

    def __init__(self, recipe: Recipe, root: Path):
        self.folder, self._fingerprint, self._data = locate(recipe, root)
        self._prepared: Prepared | None = None
        self._seen: tuple[tuple[int, int] | None, Finished | None] = (None, None)

    @cached_property
    def _sources(self) -> list[dict[str, Any]]:
        return self._data.released()["sources"]

    @property
    def is_missing(self) -> bool:
        """Whether the folder of the complete data is not there, so that a preparation begins or goes on."""
        return not self.folder.exists()

    @property
    def prepared(self) -> Prepared:
        """What `advance` has opened; its training documents grow."""
        assert self._prepared is not None
        return self._prepared

    @property
    def shows_last_source(self) -> bool:
        """Whether so much of the last source is there that it can be judged: a quarter of a shard."""
        first = self.prepared.last_source_begins
        return first is not None and 4 * self.prepared.train.lengths[first:].sum() >= self._data.shard_tokens

    def finished(self) -> Finished | None:
        """How much is finished now; None while validation or the first shard are not."""
        if summary := read_summary(self.folder, self._fingerprint):
            return Finished(summary, is_complete=True)
        partial = partial_of(self.folder)
        try:
            stat = (partial / PROGRESS_FILE).stat()
        except OSError:
            return None
        version = (stat.st_ino, stat.st_mtime_ns)
        if version != self._seen[0]:
            # what an earlier preparation has left may be damaged, and is then made anew; `advance` opens later shards
            progress = read_progress(partial, self._fingerprint, opens_shards=self._prepared is None)
            found = None
            if progress and progress.validation and progress.train.counts.shards:
                found = Finished(summarize(progress, self._sources), is_complete=False)
            self._seen = (version, found)
        return self._seen[1]

    def advance(self, finished: Finished) -> None:
        """Opens what is finished and not open yet. Raises AxionError where it cannot be read."""
        summary = finished.summary
        deadline = time.monotonic() + PATIENCE
        while True:
            for folder in (partial_of(self.folder), self.folder):  # the first becomes the second at the end
                with suppress(OSError, ValueError):
                    if self._prepared is None:
                        self._prepared = open_shards(folder, self._data, summary)
                    else:
                        self._prepared.train.extend(folder, Side.TRAIN, finished.train)
                    first = last_source_begins(summary)
                    self._prepared = replace(self._prepared, folder=folder, summary=summary, last_source_begins=first)
                    return
            if time.monotonic() > deadline:
                raise AxionError(f"{self.folder} was changed while it was read; delete it and start again")
            time.sleep(0.1)


def promises(prepared: Prepared) -> bool:
    """Whether the sources are likely to have the tokens that training wants.

    The last one is judged by its first tokens, which have to be there. A stream, whose end nobody knows, is taken to
    have them.
    """
    source, wanted, first = prepared.data.sources[-1], prepared.data.max_tokens, prepared.last_source_begins
    before, tokens = (int(prepared.train.lengths[part].sum()) for part in (slice(first), slice(first, None)))
    text = source.text_bytes(prepared.data.split, prepared.data.seed)
    if wanted is None or text is None:
        return wanted is not None and source.is_streamed
    return text * tokens > MARGIN * (wanted - before) * int(prepared.train.num_bytes[first:].sum())


def main() -> None:
    """Prepares the data that a message on standard input names. Its end ends this process too."""
    recipe, root, progress, tokenizer = pickle.load(sys.stdin.buffer)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    bar = progress_bar(disable=not progress)

    def listen() -> None:
        while os.read(0, len(_QUIET)):  # not sys.stdin: a thread in the middle of it would block the exit
            bar.close()
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    try:
        prepare(recipe, root, bar, tokenizer)
    except AxionError as error:
        sys.stdout.buffer.write(str(error).encode())
        sys.exit(2)


if __name__ == "__main__":
    main()
