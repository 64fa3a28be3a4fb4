"""Contenders in separate processes, measured in turn: both sides of the protocol, one JSON line per message.

A worker loads its model, warms up and sends {"ready": {…}} or {"unavailable": why}. It then answers every line
`KIND SECONDS` with {"tokens": …, "seconds": …, "peak_bytes": …}, having done that kind of work for at least that long.
It exits when its standard input closes. The benchmark asks all workers in turn, round by round, so that a machine that
slows down affects all of them alike.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from axion.errors import AxionError
from axion.machine import peak_bytes
from axion.shipped import ROOT

START_SECONDS = 420.0
"""A compiled model takes a minute for its first steps, longer on a busy machine."""
ANSWER_SECONDS = 300.0
CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class Done:
    """One piece of work: how many tokens took how long."""

    tokens: int
    seconds: float


Work = Callable[[], Done]


def timed(work: Callable[[], object], tokens: int) -> Done:
    """Do the work once and measure it."""
    start = time.perf_counter()
    work()
    return Done(tokens, time.perf_counter() - start)


# --- The worker ------------------------------------------------------------------------------------------------


def serve(prepare: Callable[[], tuple[Mapping[str, Work], dict]]) -> None:
    """Answer on standard output until standard input closes.

    Args:
        prepare: returns each kind of work, warmed up, and the content of "ready"; raises AxionError if it cannot.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries may print, which must not look like an answer

    def say(answer: dict) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        kinds, ready = prepare()
    except Exception as error:  # whatever fails, the contender is left out with one line
        traceback.print_exc()
        return say({"unavailable": _one_line(error)})
    say({"ready": ready})
    for line in sys.stdin:
        kind, seconds = line.split()
        say(repeat(kinds[kind], float(seconds)))


def repeat(work: Work, seconds: float) -> dict:
    """Repeat the work for at least `seconds`; returns an answer."""
    tokens, spent = 0, 0.0
    while tokens == 0 or spent < seconds:
        done = work()
        tokens, spent = tokens + done.tokens, spent + done.seconds
    return {"tokens": tokens, "seconds": spent, "peak_bytes": peak_bytes()}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, AxionError):
        text = f"{type(error).__name__}: {text}"
    return text[:200]


# --- The benchmark ----------------------------------------------------------------------------------------------------


class Gone(AxionError):
    """A contender cannot be measured; the message says why."""


class Worker:
    """A contender's process. Raises Gone if it is unavailable, dies or takes too long."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        threads: int,
        python: str = sys.executable,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = arguments[0] if arguments else module
        self._folder = tempfile.TemporaryDirectory(prefix="axion-worker-")
        self._errors = Path(self._folder.name, "stderr")
        common = {
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": str(ROOT),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", module, *arguments, "--threads", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **common, **environment},
            )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        self._unread = b""
        try:
            first = self._read(START_SECONDS)
            if "unavailable" in first:
                raise Gone(first["unavailable"])
        except BaseException:
            self.close()
            raise
        self.ready: dict = first["ready"]

    def ask(self, kind: str, seconds: float) -> dict:
        """Send `KIND SECONDS`; returns the answer."""
        try:
            self._input.write(f"{kind} {seconds}\n".encode())
            self._input.flush()
        except BrokenPipeError:
            raise Gone(self._last_line()) from None
        return self._read(ANSWER_SECONDS + seconds)

    def close(self) -> None:
        """Let the process exit, or kill it."""
        if self._input.closed:
            return
        with suppress(BrokenPipeError):
            self._input.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._folder.cleanup()

    def _read(self, seconds: float) -> dict:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._output], [], [], left)[0]:
                self._process.kill()
                raise Gone(f"no answer within {seconds:g} s")
            if not (read := os.read(self._output.fileno(), 1 << 16)):
                raise Gone(self._last_line())
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _last_line(self) -> str:
        code = self._process.wait()
        lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return f"exited with {code}: {last[:200]}"


def interleave(
    workers: Mapping[str, Worker], kinds: Sequence[str], rounds: int, seconds: float
) -> tuple[dict[tuple[str, str], list[dict]], dict[str, str]]:
    """Measure all workers in turn, kind by kind, round by round.

    Returns:
        (name, kind) → its answers, one per round; name → why it failed. The answers of a contender that failed are left
        out, so that the n-th answers of all others belong to the same round.
    """
    answers: dict[tuple[str, str], list[dict]] = {(name, kind): [] for name in workers for kind in kinds}
    gone: dict[str, str] = {}
    for _ in range(rounds):
        for kind in kinds:
            for name, worker in workers.items():
                if name in gone or kind not in worker.ready.get("kinds", kinds):
                    continue
                try:
                    answers[name, kind].append(worker.ask(kind, seconds))
                except Gone as why:
                    gone[name] = str(why)
    return {key: values for key, values in answers.items() if values and key[0] not in gone}, gone
