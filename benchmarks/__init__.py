"""Benchmarks, `python -m benchmarks.<name>`: the source of every speed that the documentation states."""
