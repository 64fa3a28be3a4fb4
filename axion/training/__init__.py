"""Training: the run itself, the optimizer, the experts' balance, checkpoints and metrics."""
