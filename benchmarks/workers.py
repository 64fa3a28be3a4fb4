"""Contenders in processes of their own, asked in turn: both sides of the conversation, one JSON line each way.

A worker prepares itself, warms up and says {"ready": {…}}, or {"unavailable": why}. Then it answers every line
`KIND SECONDS` with {"tokens": …, "seconds": …, "peak_bytes": …}: what it did in at least so many seconds of that kind
of work. It ends when nobody asks any more. The one who asks takes one worker after another, round by round, so that a
machine that slows down does so for all.
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

from axion.errors import AxionError
from axion.machine import peak_bytes

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 420.0
"""A compiled model takes up to a minute for its first steps, on a busy machine longer."""
ANSWER_SECONDS = 300.0
CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class Done:
    """One piece of work: how many tokens, in what time."""

    tokens: int
    seconds: float


Work = Callable[[], Done]


def timed(work: Callable[[], object], tokens: int) -> Done:
    """Do it once."""
    start = time.perf_counter()
    work()
    return Done(tokens, time.perf_counter() - start)


# --- The worker's side ------------------------------------------------------------------------------------------------


def serve(prepare: Callable[[], tuple[Mapping[str, Work], dict]]) -> None:
    """Answer on standard output until standard input ends.

    Args:
        prepare: gives each kind of work, warmed up, and what "ready" is to tell; raises AxionError where it cannot.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer

    def say(answer: dict) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        kinds, ready = prepare()
    except Exception as error:  # a contender's own trouble is a line in the table
        traceback.print_exc()
        return say({"unavailable": _one_line(error)})
    say({"ready": ready})
    for line in sys.stdin:
        kind, seconds = line.split()
        say(repeat(kinds[kind], float(seconds)))


def repeat(work: Work, seconds: float) -> dict:
    """The work again and again, until it took at least so long: an answer."""
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


# --- The side that asks -----------------------------------------------------------------------------------------------


class Gone(AxionError):
    """A contender cannot be measured here; the message says why."""


class Worker:
    """A contender's process. Raises Gone where it is unavailable, dies, or takes too long."""

    def __init__(self, module: str, *arguments: str, threads: int, python: str = sys.executable) -> None:
        self.name = arguments[0] if arguments else module
        self._folder = tempfile.TemporaryDirectory(prefix="axion-worker-")
        self._errors = Path(self._folder.name, "stderr")
        environment = os.environ | {
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
                env=environment,
            )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        self._unread = b""
        try:
            said = self._read(START_SECONDS)
            if "unavailable" in said:
                raise Gone(said["unavailable"])
        except BaseException:
            self.close()
            raise
        self.ready: dict = said["ready"]

    def ask(self, kind: str, seconds: float) -> dict:
        """The answer to `KIND SECONDS`."""
        try:
            self._input.write(f"{kind} {seconds}\n".encode())
            self._input.flush()
        except BrokenPipeError:
            raise Gone(self._last_words()) from None
        return self._read(ANSWER_SECONDS + seconds)

    def close(self) -> None:
        """Let it end, or make it."""
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
                raise Gone(f"no answer in {seconds:g} s")
            if not (read := os.read(self._output.fileno(), 1 << 16)):
                raise Gone(self._last_words())
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _last_words(self) -> str:
        code = self._process.wait()
        lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
        words = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"ended with {code}: {words[:200]}"


def interleave(
    workers: Mapping[str, Worker], kinds: Sequence[str], rounds: int, seconds: float
) -> tuple[dict[tuple[str, str], list[dict]], dict[str, str]]:
    """Ask all workers in turn, kind by kind, round by round.

    Returns:
        (name, kind) → its answers, one per round; name → why it is gone, for those that did not last: their answers are
        left out, so that the n-th of one contender always stands beside the n-th of another.
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
