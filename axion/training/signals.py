"""The signals that end a run early: it saves a checkpoint after the current step and can be resumed."""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Self

from axion.training import parallel

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""Ctrl-C, what schedulers send before they kill, a closed terminal, and what Slurm can send ahead of a time limit."""

_MESSAGE = b"\nstopping after this step and saving; press Ctrl-C again to stop at once\n"


class StopSignals:
    """Within the block, a signal of SIGNALS sets `requested` while a run trains, and is a Ctrl-C at other times.

    A second Ctrl-C ends the process at once, except under torchrun, which sends its signals twice. An ignored SIGHUP
    stays ignored, as `nohup` asks.
    """

    def __init__(self) -> None:
        self.requested = False
        self.is_training = False
        """Whether a checkpoint can be saved."""
        self.has_trained = False
        """Whether a step has begun."""
        self._handlers = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._handlers[number] = handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def begin_step(self) -> None:
        """To be called before every step."""
        self.is_training = self.has_trained = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        shares_work = parallel.is_distributed()
        again = self.requested and number == signal.SIGINT and not shares_work
        # torchrun's signal may arrive while this process is about to report that another one has ended
        may_wait = self.is_training or self.requested or (self.has_trained and shares_work)
        if again or not may_wait:
            raise KeyboardInterrupt
        if not self.requested and parallel.is_main_process():
            with suppress(OSError):  # the terminal may be gone
                os.write(2, _MESSAGE)  # not print: the signal may arrive while the progress bar is writing
        self.requested = True
