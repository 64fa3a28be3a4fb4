"""A process with its imports already done, from which others are forked in milliseconds."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


@contextmanager
def fork_server(module: str) -> Iterator[ForkServerContext]:
    """Run a fork server that has imported `module`, with the current environment, until the end of the block.

    Otherwise Python would keep a single fork server, with the imports and environment of its first use.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    try:
        yield context
    finally:
        forkserver._forkserver._stop()
