"""How long an optimizer step of a recipe takes that is too large to train on this machine.

python -m benchmarks.large_step axiom-dense-380m --text stories.txt --set tokenizer.file=cl100k_base.tiktoken

Trains two steps with gradient accumulation in the recipe's own precision, and prints one JSON object: the seconds of a
micro-batch and of the optimizer, the peak memory, and what the recipe's own step would take. Without --text the model
trains on generated sums. Leave the machine alone while it runs.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

from axion.machine import machine, peak_bytes
from axion.recipe import Recipe, load_recipe
from axion.training.recorder import Recorder
from axion.training.run import train
from axion.training.trainer import AxionTrainer

STEPS = 2


def measure(recipe: Recipe, accumulation: int) -> dict:
    """Takes two optimizer steps of a recipe, each of `accumulation` micro-batches of as many windows as the recipe's.

    Returns:
        seconds_per_micro_batch, seconds_per_optimizer_step (without its micro-batches), peak_gib (of the whole run, its
        checkpoint included), and seconds_per_step of the recipe itself, with its own number of micro-batches.
    """
    training = recipe.training
    windows = training.batch_size // training.grad_accum
    small = {"batch_size": windows * accumulation, "grad_accum": accumulation, "max_steps": STEPS}
    quiet = {"evaluations": 1, "checkpoints": 1, "keep_checkpoints": 1}
    recipe = recipe.model_copy(update={"training": training.model_copy(update=small | quiet)})
    with tempfile.TemporaryDirectory() as folder, _timed() as (micro_batches, steps):
        train(recipe, Path(folder) / "run")
    # the first micro-batch and the first step also allocate
    micro_batch = mean(micro_batches[1:])
    optimizer = steps[-1] - sum(micro_batches[-accumulation:])
    return {
        "recipe": recipe.name,
        "precision": training.precision,
        "tokens_per_micro_batch": windows * training.window,
        "seconds_per_micro_batch": round(micro_batch, 2),
        "seconds_per_optimizer_step": round(optimizer, 2),
        "peak_gib": round(peak_bytes() / 2**30, 2),
        "micro_batches_per_step": training.grad_accum,
        "seconds_per_step": round(micro_batch * training.grad_accum + optimizer),
        "machine": machine(),
    }


@contextmanager
def _timed():
    """The seconds of every micro-batch and of every step of the runs in the block."""
    micro_batches, steps = [], []
    training_step, begin, end = AxionTrainer.training_step, Recorder.on_step_begin, Recorder.on_step_end
    started = 0.0

    def timed_micro_batch(self, *arguments, **options):
        before = time.perf_counter()
        loss = training_step(self, *arguments, **options)
        micro_batches.append(time.perf_counter() - before)
        print(f"micro-batch {len(micro_batches)}: {micro_batches[-1]:.1f} s", file=sys.stderr)
        return loss

    def begin_step(self, *arguments, **options):
        nonlocal started
        started = time.perf_counter()
        return begin(self, *arguments, **options)

    def end_step(self, *arguments, **options):
        steps.append(time.perf_counter() - started)
        return end(self, *arguments, **options)

    AxionTrainer.training_step, Recorder.on_step_begin, Recorder.on_step_end = timed_micro_batch, begin_step, end_step
    try:
        yield micro_batches, steps
    finally:
        AxionTrainer.training_step, Recorder.on_step_begin, Recorder.on_step_end = training_step, begin, end


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("version", help="a recipe's name or a YAML file")
    parser.add_argument("--text", help="a file of text to train on; generated sums by default")
    parser.add_argument("--accumulation", type=int, default=2, help="micro-batches per step that are run")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY.PATH=VALUE")
    options = parser.parse_args(arguments)
    source = {"kind": "text", "files": [options.text]} if options.text else {"kind": "arithmetic", "count": 20_000}
    data = {"sources": [source], "max_validation_bytes": 2000}  # the validation takes seconds
    recipe = load_recipe(options.version, [f"data={json.dumps(data)}", *options.overrides])
    print(json.dumps(measure(recipe, options.accumulation), indent=2))


if __name__ == "__main__":
    main()
