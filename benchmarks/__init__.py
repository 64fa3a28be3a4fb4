"""Measurements that a reader can repeat: `python -m benchmarks.<name>`. No figure about speed is typed anywhere."""
