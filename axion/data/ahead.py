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
from pathlib import Path
from typing import Any, NamedTuple, Self

from transformers import PreTrainedTokenizerFast

from axion.data.encoding import opened, send, start_module
from axion.data.prepare import Prepared, Recipe, locate, open_shards, prepare, progress_bar, read_summary
from axion.data.progress import PROGRESS_FILE, read_progress
from axion.data.recipe import DataRecipe
from axion.data.shards import ShardCounts, TokenDocuments
from axion.data.split import Side
from axion.errors import AxionError
from axion.files import partial_of

MARGIN = 1.25
"""Local files whose size promises so many times the tokens that training wants are taken to have them."""

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

    def failure(self) -> str | None:
        """Why it has ended without finishing the data; None if it has not."""
        if self._failure is None and self._process.poll():
            reason = opened(self._process.stdout).read().decode()
            self._failure = reason or "the process that prepares the data has ended, perhaps for lack of memory"
        return self._failure


class Finished(NamedTuple):
    """How much of the data can be read."""

    train: ShardCounts
    validation: ShardCounts
    summary: dict[str, Any] | None
    """The content of data.json, where all of it can be."""


class GrowingData:
    """The prepared data of a recipe, whose last shards may be missing until they are finished."""

    def __init__(self, recipe: Recipe, root: Path):
        self.folder, self._fingerprint, self._data = locate(recipe, root)
        self._prepared: Prepared | None = None
        self._seen: tuple[tuple[int, int] | None, Finished | None] = (None, None)

    @property
    def is_missing(self) -> bool:
        """Whether the folder of the complete data is not there, so that a preparation begins or goes on."""
        return not self.folder.exists()

    @property
    def prepared(self) -> Prepared:
        """What `advance` has opened; its training documents grow."""
        assert self._prepared is not None
        return self._prepared

    def finished(self) -> Finished | None:
        """How much is finished now; None while validation or the first shard are not."""
        if summary := read_summary(self.folder, self._fingerprint):
            train, validation = (ShardCounts(**summary["shards"][side]) for side in (Side.TRAIN, Side.VALIDATION))
            return Finished(train, validation, summary)
        partial = partial_of(self.folder)
        try:
            stat = (partial / PROGRESS_FILE).stat()
        except OSError:
            return None
        version = (stat.st_ino, stat.st_mtime_ns)
        if version != self._seen[0]:
            progress = read_progress(partial, self._fingerprint)
            found = None
            if progress and progress.validation and progress.train.counts.shards:
                found = Finished(progress.train.counts, progress.validation.counts, None)
            self._seen = (version, found)
        return self._seen[1]

    def advance(self, finished: Finished) -> None:
        """Opens what is finished and not open yet. Raises AxionError where it cannot be read."""
        summary = finished.summary or {"fingerprint": self._fingerprint, "sources": self._data.released()["sources"]}
        deadline = time.monotonic() + PATIENCE
        while True:
            for folder in (partial_of(self.folder), self.folder):  # the first becomes the second at the end
                with suppress(OSError, ValueError):
                    if self._prepared is None:
                        self._prepared = open_shards(folder, self._data, summary, finished.train, finished.validation)
                    else:
                        self._prepared.train.extend(folder, Side.TRAIN, finished.train)
                    self._prepared = replace(self._prepared, folder=folder, summary=summary)
                    return
            if time.monotonic() > deadline:
                raise AxionError(f"{self.folder} was changed while it was read; delete it and start again")
            time.sleep(0.1)


def promises(data: DataRecipe, documents: TokenDocuments) -> bool:
    """Whether the sources are likely to have the tokens that training wants, judged by their first documents."""
    source, wanted = data.sources[0], data.max_tokens
    size = source.num_bytes()
    if wanted is None or size is None:
        return wanted is not None and source.is_streamed
    return size * documents.counts.tokens > MARGIN * wanted * int(documents.num_bytes.sum())


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
