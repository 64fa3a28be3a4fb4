"""Benchmarks, `python -m benchmarks.<name>`: the source of every speed that the documentation states."""

import axion  # noqa: F401 (before torch, so that the threads of every contender wait in the same way)
