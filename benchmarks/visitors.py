"""Many concurrent API callers over a long time: `python -m benchmarks.visitors [--minutes N] [--docs]`.

Each visitor has its own address and always one request in flight or queued, but pauses where it would exceed the rate
limit. Every request must succeed, and the server's memory must stay within a few per cent of its mean; otherwise the
exit code is 1.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import httpx

from axion.errors import AxionError
from benchmarks.report import Row, build_report, describe_machine, read_rows, to_markdown, write_docs, write_json
from playground.generate.rate_limits import STARTS_PER_MINUTE
from tests.support.servers import Server, served

VISITORS = 32
NEW_TOKENS = 200
"""Enough that a round of all visitors takes longer than the pause required by the rate limit."""
WARM_UP_SECONDS = 30.0
SECONDS_BETWEEN_STARTS = 60 / STARTS_PER_MINUTE
SAMPLE_SECONDS = 5.0
TIMEOUT_SECONDS = 300.0
MEMORY_RANGE = 5.0
"""How far memory may deviate from its mean, in per cent."""

PROMPT = "# Pergunta:\nQuanto é {a} + {b}?\n"


@dataclass
class Measured:
    """What is recorded after the warm-up."""

    latencies: list[float] = field(default_factory=list)
    """Seconds to each complete answer."""
    tokens: int = 0
    memory: list[int] = field(default_factory=list)
    """The server's memory in bytes, sampled regularly."""
    busy: list[int] = field(default_factory=list)
    """Visitors with a request in flight or queued, sampled at the same moments."""


class Visitor:
    """A caller that requests one text after another from its own address."""

    def __init__(self, server: Server, model: str, number: int) -> None:
        self._model, self._number = model, number
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{number}")
        self._http = httpx.AsyncClient(base_url=server.address, transport=transport, timeout=TIMEOUT_SECONDS)
        self._starts = 0
        self.busy = False
        self.answers: list[tuple[float, float]] = []
        """When each answer was complete, by the monotonic clock, and how many seconds it took."""
        self.errors: list[str] = []

    async def visit(self, until: float) -> None:
        """Send requests until that moment, by the monotonic clock, and wait for the last answer."""
        async with self._http:
            while (start := time.monotonic()) < until:
                self.busy = True
                await self._ask(start)
                self.busy = False
                await asyncio.sleep(start + SECONDS_BETWEEN_STARTS - time.monotonic())

    async def _ask(self, start: float) -> None:
        self._starts += 1
        request = {
            "model": self._model,
            "prompt": PROMPT.format(a=self._number, b=self._starts),
            "seed": 1000 * self._number + self._starts,
            "max_tokens": NEW_TOKENS,
            "min_tokens": NEW_TOKENS,
        }
        try:
            answer = await self._http.post("/v1/completions", json=request)
            answer.raise_for_status()
            tokens = answer.json()["usage"]["completion_tokens"]
            if tokens != NEW_TOKENS:
                raise ValueError(f"{tokens} tokens instead of {NEW_TOKENS}")
        except (httpx.HTTPError, ValueError, KeyError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        else:
            end = time.monotonic()
            self.answers.append((end, end - start))


async def measure(server: Server, seconds: float) -> tuple[Measured, list[str]]:
    """What was recorded in the seconds after the warm-up, and every error, warm-up included."""
    async with httpx.AsyncClient(base_url=server.address) as http:
        model = (await http.get("/v1/models")).json()["data"][0]["id"]
    visitors = [Visitor(server, model, number) for number in range(1, VISITORS + 1)]
    start = time.monotonic() + WARM_UP_SECONDS
    end = start + seconds
    measured = Measured()
    await asyncio.gather(_watch(server, visitors, measured, start, end), *(visitor.visit(end) for visitor in visitors))
    for visitor in visitors:
        measured.latencies += [took for moment, took in visitor.answers if start <= moment < end]
    measured.tokens = NEW_TOKENS * len(measured.latencies)
    return measured, [error for visitor in visitors for error in visitor.errors]


async def _watch(server: Server, visitors: Sequence[Visitor], measured: Measured, start: float, end: float) -> None:
    await asyncio.sleep(start - time.monotonic())
    while time.monotonic() < end:
        measured.memory.append(server.memory_bytes())
        measured.busy.append(sum(visitor.busy for visitor in visitors))
        await asyncio.sleep(SAMPLE_SECONDS)


def rows(measured: Measured, errors: Sequence[str], seconds: float) -> list[Row]:
    """The rows of the table."""
    memory = [used / 1e6 for used in measured.memory]
    mean = fmean(memory)
    spread = 100 * max(max(memory) - mean, mean - min(memory)) / mean
    return [
        Row("requests that failed", (len(errors),), at_most=0),
        Row("requests answered", (len(measured.latencies),), at_least=1),
        Row(f"visitors with a request in flight or queued, of {VISITORS}", tuple(measured.busy)),
        Row("tokens, over all visitors", (measured.tokens / seconds,), "/s"),
        Row("request until the complete answer", tuple(measured.latencies) or (0.0,), "s"),
        Row("server memory", tuple(memory), "MB"),
        Row("… at the start", (memory[0],), "MB"),
        Row("… at the end", (memory[-1],), "MB"),
        Row("… largest deviation from its mean", (spread,), "%", at_most=MEMORY_RANGE),
    ]


def docs_block(report: dict) -> str:
    """The generated block of docs/playground.md."""
    what = f"{report['visitors']} visitors, each requesting {report['new_tokens']} tokens at a time"
    return f"{to_markdown(read_rows(report))}\n{what}, for {report['minutes']:g} min; {describe_machine(report)}\n"


def main() -> None:
    """Measure, print the table, and write the requested files."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="duration after the warm-up (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/")
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error("--minutes must be more than 0")
    try:
        with served() as server:
            measured, errors = asyncio.run(measure(server, 60 * options.minutes))
    except AxionError as error:
        raise SystemExit(f"benchmarks.visitors: {error}") from None
    table = rows(measured, errors, 60 * options.minutes)
    report = build_report(table, minutes=options.minutes, visitors=VISITORS, new_tokens=NEW_TOKENS, errors=errors[:20])
    print(docs_block(report))
    for error in errors[:5]:
        print(error)
    if options.json:
        write_json(options.json, report)
    if options.docs:
        write_docs("playground.md", "visitors", report, docs_block(report))
    if any(row.met is False for row in table):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
