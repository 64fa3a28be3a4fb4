"""The training steps of a recipe, in a process of its own: `python -m benchmarks.steps VERSION --set … --threads 2`.

A step is all that `axion train` does in one on the kernels: the passes on real windows of the recipe's data, its other
losses, clipping, the optimizer and the balancing of experts. The kinds of work are "short", on windows of
`training.short_window`, and "whole", on windows of `training.window`; see benchmarks/workers.py for the protocol.
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import count

import torch
from torch.nn.utils import clip_grad_norm_
from transformers import set_seed

from axion.data.packing import PackedWindows
from axion.data.prepare import prepare
from axion.kernels.backend import choose
from axion.kernels.blocks import use_kernels
from axion.kernels.build import library
from axion.machine import keep_freed_memory
from axion.recipe import Recipe, TrainingRecipe, load_recipe
from axion.training.balance import ExpertBalancer
from axion.training.build import build_model
from axion.training.losses import record_logits, sequence_balance_loss
from axion.training.optim import build_optimizer
from benchmarks.workers import Work, serve, timed

WARM_UP_STEPS = 3
RATE = 0.1
"""The share of the peak learning rates that is used, since there is no warm-up. It does not affect a step's cost."""


def prepare_steps(recipe: Recipe, threads: int) -> tuple[dict[str, Work], dict]:
    """Each kind of work, warmed up, and the content of "ready"."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    set_seed(recipe.seed)
    training, data = recipe.training, prepare(recipe, progress=False)
    windows = PackedWindows(data.train, training.window, training.epochs, recipe.seed, training.document_mask)
    step = make_step(recipe)
    kinds = {"short": training.short_window or training.window, "whole": training.window}
    place = count()

    def batch(window: int) -> dict[str, torch.Tensor]:
        items = [windows[next(place) % len(windows)] for _ in range(training.batch_size)]
        return {name: torch.stack([item[name] for item in items]).reshape(-1, window) for name in items[0]}

    def work(window: int) -> None:
        step(batch(window))

    for window in kinds.values():
        for _ in range(WARM_UP_STEPS):
            work(window)
    tokens = training.batch_size * training.window
    works = {kind: partial(timed, partial(work, window), tokens) for kind, window in kinds.items()}
    return works, {"kinds": list(kinds)}


def make_step(recipe: Recipe) -> Callable[[dict[str, torch.Tensor]], float]:
    """An optimizer step on a batch, on the kernels; it returns the loss before the step, in nats."""
    training, config = recipe.training, recipe.build_config()
    choose("native", config, "training")  # raises where they cannot be used
    model = build_model(config).train()
    balancer, kernels = ExpertBalancer(model, training.bias_update_speed), library(config, "training")
    hooks = [ExpertBalancer.__module__, record_logits.__module__]
    use_kernels(model, balancer.count, hooks, training.label_smoothing)
    optimizer, alpha = build_optimizer(model, training, kernels), training.sequence_balance_weight
    for group in optimizer.param_groups:
        group["lr"] *= RATE
    further = {"mtp_weight": training.mtp_weight[0]} if config.num_nextn_predict_layers else {}

    def step(inputs: dict[str, torch.Tensor]) -> float:
        output = model(**inputs, **further, use_cache=False, output_router_logits=alpha > 0)
        loss = output.loss
        if logits := (output.router_logits or ()) if alpha > 0 else ():
            loss = loss + alpha * sequence_balance_loss(logits, config, len(inputs["input_ids"]))
        loss.backward()
        clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        balancer.step()
        return loss.item()

    return step


def speed_of_run(training: TrainingRecipe, short: float, whole: float) -> float:
    """Tokens per second of a whole run, of which `short_share` has short windows, from the speeds of both."""
    if not training.short_window:
        return whole
    return 1 / (training.short_share / short + (1 - training.short_share) / whole)


def main() -> None:
    """Serve one recipe."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("version")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY.PATH=VALUE")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    serve(lambda: prepare_steps(load_recipe(options.version, options.overrides), options.threads))


if __name__ == "__main__":
    main()
