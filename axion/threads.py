"""How threads wait for each other: they spin briefly, then sleep.

Kernels and torch share one OpenMP library, GCC's. Its threads wait in a loop of 300,000 rounds by default, up to eight
milliseconds, before they sleep. Beside another busy process, they take the time in which the thread that they wait for
could run. If they slept at once, they would have to be woken for each of a step's many short parallel parts.

A wait of 2,000 rounds, 20 to 50 microseconds, keeps nearly all of the speed on an idle machine and most of what can be
kept beside busy processes. docs/performance.md has the table, which `python -m benchmarks.waiting` measures.

Writing and reading a text take one thread and do not wait. The library reads the setting once, when torch is imported,
so it is made when `axion` is imported; where torch was imported before, the default stays. It changes no result: which
thread computes what does not depend on it.
"""

import os

ROUNDS = "2000"
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def spin_shortly() -> None:
    """Sets $GOMP_SPINCOUNT for this process and those that it starts, unless the user has chosen how threads wait."""
    if not any(os.environ.get(name) for name in SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = ROUNDS
