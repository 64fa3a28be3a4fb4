"""Encodes documents as tokens, on all cores if there is much text.

The first documents are encoded in this process. From `PARALLEL_FROM` characters on, processes are started that run
`axion.data.chunks`: they import neither torch nor transformers, and need nothing of the program that prepares the data.
"""

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Self

import numpy as np
from transformers import PreTrainedTokenizerFast

from axion.data.chunks import ChunkEncoder
from axion.data.shards import Encoded, token_type
from axion.data.sources.base import Document
from axion.errors import AxionError
from axion.pretrained_tokenizer import vocabulary_size
from axion.tokenizer import bos_and_eos, special_id

BATCH_DOCUMENTS = 4096
BATCH_CHARACTERS = 2**20
PARALLEL_FROM = 2**24
MAX_PROCESSES = 8

Batch = list[tuple[Document, bool]]
"""Pairs of a document and whether its tokens are wanted."""


class DocumentEncoder:
    """Encodes documents with one tokenizer. A context manager: the processes end with the block.

    Raises:
        AxionError: a document has a special token that the tokenizer lacks, or a process has ended.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, parallel_from: int = PARALLEL_FROM):
        self._tokenizer, self._parallel_from = tokenizer, parallel_from
        self.vocab_size = vocabulary_size(tokenizer)
        self.type = token_type(self.vocab_size)
        self._settings = (tokenizer.backend_tokenizer.to_str(), self.type.str)
        self._here = ChunkEncoder(*self._settings)
        self._pool: _Pool | None = None
        self._characters = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def encode(self, documents: Iterable[tuple[Document, bool]]) -> Iterator[tuple[Document, Encoded | None]]:
        """All documents in their order, with their tokens.

        Args:
            documents: each with whether its tokens are wanted.
        """
        batches, pool = _batches(documents), self._pool
        for batch in batches if pool is None else ():
            wanted = [document for document, is_wanted in batch if is_wanted]
            yield from self._join(batch, self._here.encode(_texts(wanted)))
            self._characters += sum(len(document.text) for document in wanted)
            if self._characters >= self._parallel_from:
                pool = self._pool = _Pool(_cores(), self._settings)
                break
        if pool is None:
            return
        running: deque[tuple[Batch, Future[list[bytes]]]] = deque()
        for batch in batches:
            texts = _texts([document for document, is_wanted in batch if is_wanted])
            running.append((batch, pool.encode(texts)))
            if len(running) > 2 * pool.size:
                batch, future = running.popleft()
                yield from self._join(batch, future.result())
        for batch, future in running:
            yield from self._join(batch, future.result())

    def _join(self, batch: Batch, encoded: list[bytes]) -> Iterator[tuple[Document, Encoded | None]]:
        tokens = self._assemble([document for document, is_wanted in batch if is_wanted], encoded)
        for document, is_wanted in batch:
            yield document, next(tokens) if is_wanted else None

    def _assemble(self, documents: Sequence[Document], encoded: list[bytes]) -> Iterator[Encoded]:
        """The tokens of each document between `<bos>` and `<eos>`, and which of them carry loss.

        In a document with a mask, `<bos>` carries none, and `<eos>` only behind text that a model learns to end. A
        conversation ends with a token of its own.
        """
        parts = iter(encoded)
        bos, eos = (self._bytes(token) for token in bos_and_eos(self._tokenizer))
        for document in documents:
            spans = [
                self._bytes(special_id(self._tokenizer, span.text)) if span.special else next(parts)
                for span in document.spans
            ]
            ids = np.frombuffer(b"".join((bos, *spans, eos)), self.type)
            loss = None
            if document.is_masked:
                sizes = [1, *(len(span) // self.type.itemsize for span in spans), 1]
                last = document.spans[-1]
                ends = last.has_loss and not last.special
                loss = np.repeat([False, *(span.has_loss for span in document.spans), ends], sizes)
            yield Encoded(ids, loss, document.num_bytes)

    def _bytes(self, token: int) -> bytes:
        return np.array(token, self.type).tobytes()


def _texts(documents: Sequence[Document]) -> list[str]:
    return [span.text for document in documents for span in document.spans if not span.special]


def _batches(documents: Iterable[tuple[Document, bool]]) -> Iterator[Batch]:
    """The documents in batches of bounded size: encoding takes many times the memory of the text."""
    batch, size = [], 0
    for document, is_wanted in documents:
        batch.append((document, is_wanted))
        size += len(document.text)
        if len(batch) == BATCH_DOCUMENTS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cores() -> int:
    """The processor cores that this process may use, at most MAX_PROCESSES."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, MAX_PROCESSES)


def start_module(name: str, own_session: bool = False) -> subprocess.Popen:
    """Starts a module of this package as a program, with pipes to its standard input and from its standard output.

    It is a plain child process and not one of `multiprocessing`, which would import the user's script again.

    Args:
        name: of the module.
        own_session: whether the signals of a terminal, such as Ctrl-C, do not reach it.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "false"},
        start_new_session=own_session,
    )


class _Pool:
    """Processes that each encode one list of texts at a time."""

    def __init__(self, size: int, settings: tuple[str, str]):
        self.size = size
        self._threads = ThreadPoolExecutor(size, "encode")
        self._free: SimpleQueue[subprocess.Popen] = SimpleQueue()
        self._processes = [start_module("axion.data.chunks") for _ in range(size)]
        for process in self._processes:
            send(process, settings)
            self._free.put(process)

    def encode(self, texts: list[str]) -> "Future[list[bytes]]":
        return self._threads.submit(self._encode, texts)

    def _encode(self, texts: list[str]) -> list[bytes]:
        process = self._free.get()
        try:
            send(process, texts)
            return pickle.load(opened(process.stdout))
        except (EOFError, OSError, pickle.UnpicklingError):
            raise AxionError(
                "a process that encodes text has ended, perhaps for lack of memory; run the command again to continue"
            ) from None
        finally:
            self._free.put(process)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._threads.shutdown(cancel_futures=True)  # they have read the end of the input
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    opened(pipe).close()


def send(process: subprocess.Popen, message: object) -> None:
    """Pickles a message into a process's standard input."""
    pipe = opened(process.stdin)
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def opened(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe of a process that was started with it."""
    assert pipe is not None
    return pipe
