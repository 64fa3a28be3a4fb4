"""When the benchmark with many visitors succeeds."""

from benchmarks.visitors import Measured, rows


def missed(memory: list[int], errors: list[str], latencies: list[float]) -> list[str]:
    measured = Measured(latencies, 200 * len(latencies), memory, [32] * len(memory))
    return [row.name for row in rows(measured, errors, 60.0) if row.met is False]


def test_a_run_without_errors_succeeds():
    assert missed([100_000_000, 104_000_000], [], [1.0, 2.0]) == []


def test_errors_growing_memory_and_no_answers_are_failures():
    assert missed([100_000_000], ["ReadTimeout"], [1.0]) == ["requests that failed"]
    assert missed([100_000_000, 100_000_000, 120_000_000], [], [1.0]) == ["… largest deviation from its mean"]
    assert missed([100_000_000], [], []) == ["requests answered"]
