"""The Trainer callback of a run: balances the experts, writes its logs, shows progress and stops on signals."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from axion.data.prepare import ValidationDocument
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import Recipe
from axion.training import parallel
from axion.training.balance import ExpertBalancer, max_violation
from axion.training.history import History
from axion.training.metrics import (
    METRICS_FILE,
    MTP_VIOLATION,
    EvaluationsFile,
    MetricsFile,
    row_interval,
    violation_column,
)
from axion.training.signals import StopSignals
from axion.training.validation import ValidationResult, validation_loss

RECORDER_STATE = "recorder.json"
"""The file of a checkpoint that holds `Recorder.state()`."""


class Recorder(TrainerCallback):
    """Balances the experts after every step, writes metrics.csv, shows the progress bar and ends the run on a signal.

    Sums since the last row are saved with each checkpoint, so that a resumed run writes the same rows.

    Args:
        recipe: the run's recipe.
        model: the model that trains.
        validation: the documents of the validation loss.
        run: the run's folder.
        steps: the number of optimizer steps.
        windows_per_epoch: the number of training windows in an epoch.
        stop: whether a signal asks the run to end.
        history: records what the model writes at evaluations; None to record nothing.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: AxionForCausalLM,
        validation: list[ValidationDocument],
        run: Path,
        steps: int,
        windows_per_epoch: int,
        stop: StopSignals,
        history: History | None = None,
    ):
        self.recipe = recipe
        self.model = model
        self.validation = validation
        self.run = run
        self.steps = steps
        self.windows_per_epoch = windows_per_epoch
        self.main = parallel.is_main_process()
        self.balancer = ExpertBalancer(model, recipe.training.bias_update_speed)
        self.row_every = row_interval(steps)
        self.layers = [index + 1 for index in model.config.mixture_layers]
        """The decoder layers with routed experts, numbered from 1."""
        self.has_mtp = model.mtp is not None
        """Whether the layer of multi-token prediction is trained; its router is the last."""
        losses = [
            *(["smoothed_loss"] if recipe.training.label_smoothing else []),
            *(["mtp_loss"] if self.has_mtp else []),
        ]
        self.routers = [violation_column(layer) for layer in self.layers] + ([MTP_VIOLATION] if self.has_mtp else [])
        """The columns of the routers' load, in the balancer's order."""
        self.metrics = MetricsFile(run / METRICS_FILE, self.layers, self.row_every, losses, self.has_mtp)
        self.evaluations = EvaluationsFile(run)
        # evaluations are made where rows are written
        self.evaluate_every = self.row_every * max(steps // self.row_every // recipe.training.evaluations, 1)
        self.history = history
        self.stop = stop
        self.interrupted = False
        """Whether a signal, to any of the processes, ended the run."""
        self.best_step: int | None = None
        """The step of the lowest validation loss, where the recipe keeps the best checkpoint."""
        self.log: Callable[[dict[str, float]], None] = lambda row: None
        """Receives each row, for the trackers."""
        self._loss_sums: dict[str, float] = {"train_loss": 0.0}
        self._steps_summed, self._counts_LE, self._rate = 0, None, 0.0
        self._seconds_before, self._started, self._row_started = 0.0, 0.0, (0.0, 0)
        self._best_loss = math.inf
        self._bar: tqdm | None = None

    # --- What a checkpoint saves

    def state(self) -> dict:
        """The sums since the last row, and the best loss. Every process has to call this; one of them saves it."""
        counts = None if self._counts_LE is None else self._counts_LE.tolist()
        sums = self._mean_losses(1)
        best = None if self.best_step is None else {"step": self.best_step, "val_loss": self._best_loss}
        return {"loss_sums": sums, "steps_summed": self._steps_summed, "counts": counts, "best": best}

    def restore(self, state: dict) -> None:
        """Continues from the `state()` of a checkpoint."""
        earlier = {"train_loss": state["loss_sum"]} if "loss_sum" in state else {}  # as earlier versions saved it
        self._loss_sums, self._steps_summed = state.get("loss_sums", earlier), state["steps_summed"]
        self._counts_LE = None if state["counts"] is None else torch.tensor(state["counts"])
        if self.recipe.training.keep_best and (best := state.get("best")):
            self.best_step, self._best_loss = best["step"], best["val_loss"]

    # --- Events, in the order in which Trainer calls them

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        if state.global_step == 0:  # a resumed run has loaded the state of each process
            torch.manual_seed(self.recipe.seed + parallel.rank())  # each drops out other values
        if optimizer is not None and lr_scheduler is not None:
            # a finished run that goes on has saved the last rate of its schedule, not the first of the next
            schedule = zip(optimizer.param_groups, lr_scheduler.base_lrs, lr_scheduler.lr_lambdas, strict=True)
            for group, base_rate, factor in schedule:
                group["lr"] = base_rate * factor(state.global_step)
        self._started = time.perf_counter()
        state.save_steps = int(args.save_steps)  # a resumed run may save at another interval
        if self.main:
            self._seconds_before = self.metrics.start(state.global_step)
            self.evaluations.start()
            if self.history:
                self.history.start(state.global_step)
            self._bar = tqdm(total=self.steps, initial=state.global_step, desc=self.recipe.name, unit="step")
        self._row_started = (self._seconds(), state.global_step)

    def on_step_begin(self, args, state, control, **kwargs):
        self.stop.begin_step()

    def leave_out(self, seconds: float) -> None:
        """Does not count so many seconds that have just passed, in which training waited for data."""
        self._started += seconds

    def add_losses(self, losses: dict[str, torch.Tensor], accumulation: int) -> None:
        """Adds the losses of one of `accumulation` micro-batches of a step, each under its column in metrics.csv."""
        for column, loss in losses.items():
            self._loss_sums[column] = self._loss_sums.get(column, 0.0) + loss.item() / accumulation

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        assert optimizer is not None
        self._rate = optimizer.param_groups[0]["lr"]  # this step's; the scheduler advances before the step ends
        counts_LE = self.balancer.step()
        self._counts_LE = counts_LE if self._counts_LE is None else self._counts_LE + counts_LE
        self._steps_summed += 1

    def on_step_end(self, args, state, control, **kwargs):
        step = state.global_step
        self.interrupted = parallel.any_process(self.stop.requested)  # all processes stop after the same step
        if self.interrupted or step >= self.steps:
            control.should_training_stop = control.should_save = True
        if step % self.row_every == 0 or step == self.steps:
            self._write_row(step)
            if self.recipe.training.keep_best and parallel.any_process(self.best_step == step):
                self.best_step = step
                control.should_save = True
        self._show_step()
        return control

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """Ends the progress bar and removes the hooks from the model; a signal ends the process again."""
        if self._bar:
            with suppress(OSError):
                self._bar.close()
            self._bar = None
        self.stop.is_training = False
        self.balancer.remove()

    def _show_step(self) -> None:
        if self._bar:
            try:
                self._bar.update()
            except OSError:  # nobody reads it any more; the run goes on
                self._bar = None

    # --- Rows

    def _write_row(self, step: int) -> None:
        losses = self._mean_losses(self._steps_summed)
        seconds = self._seconds()  # without the validation
        evaluates = self.main or self.recipe.training.distributed.is_sharded  # in all processes or in none
        result = None
        if evaluates and (step % self.evaluate_every == 0 or step == self.steps):
            result = validation_loss(self.model, self.validation)
        if self.main:
            row = self._measure(step, seconds, losses, result)
            if self.recipe.training.keep_best and row.get("val_loss", math.inf) < self._best_loss:
                self.best_step, self._best_loss = step, row["val_loss"]
            self.metrics.append(row)
            if result is not None:
                self.evaluations.append(self.evaluations.row(step, result.nats_per_token))
                if self.history and self.history.is_due(step):
                    self.history.record(step, int(row["tokens"]), row["val_loss"])
            self.log({key: value for key, value in row.items() if key not in {"step", "epoch"}})
            if self._bar:
                shown = {"loss": f"{losses['train_loss']:.3f}", "tok/s": row["tokens_per_second"]}
                self._bar.set_postfix(shown, refresh=False)
        self._loss_sums, self._steps_summed, self._counts_LE = {"train_loss": 0.0}, 0, None
        self._row_started = (self._seconds(), step)

    def _mean_losses(self, steps: int) -> dict[str, float]:
        """The sums of the losses over `steps`, as the mean of all processes."""
        return {column: parallel.mean_over_processes(total / steps) for column, total in self._loss_sums.items()}

    def _measure(
        self, step: int, seconds: float, losses: dict[str, float], result: ValidationResult | None
    ) -> dict[str, float]:
        training = self.recipe.training
        tokens_per_step = training.batch_size * training.window
        row_seconds, row_step = self._row_started
        row = {
            "step": step,
            "epoch": round(step * training.batch_size / self.windows_per_epoch, 4),
            "tokens": step * tokens_per_step,
            "seconds": round(seconds, 2),
            "tokens_per_second": round((step - row_step) * tokens_per_step / (seconds - row_seconds)),
            "lr": self._rate,
            **losses,
        }
        if result is not None:
            row |= {"val_loss": result.nats_per_token, "val_bits_per_byte": result.bits_per_byte}
        assert self._counts_LE is not None
        return row | dict(zip(self.routers, max_violation(self._counts_LE), strict=True))

    def _seconds(self) -> float:
        """Wall-clock seconds of training so far, those before a resume included, without waiting for data."""
        return self._seconds_before + time.perf_counter() - self._started
