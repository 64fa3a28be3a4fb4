"""A process that has imported what others need, and from which they fork in milliseconds."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


@contextmanager
def fork_server(module: str) -> Iterator[ForkServerContext]:
    """A fork server that has imported `module`, in the environment of this moment, for as long as the block lasts.

    Python keeps a single one for good, which would serve later tests with the imports and the environment of the first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    try:
        yield context
    finally:
        forkserver._forkserver._stop()
