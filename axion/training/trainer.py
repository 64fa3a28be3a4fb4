"""transformers' Trainer with what it lacks here: balanced experts, whole checkpoints, metric rows, a stop at NaN."""

import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import Trainer, TrainerCallback

from axion.errors import AxionError
from axion.files import write_json
from axion.recipe import Recipe
from axion.training import checkpoint
from axion.training.balance import ExpertBalancer, max_violation
from axion.training.losses import loss_count, sequence_balance_loss
from axion.training.metrics import METRICS_FILE, MetricsFile, row_interval
from axion.training.validation import validation_loss

RECORDER_STATE = "recorder.json"


class AxionTrainer(Trainer):
    """Trains on windows in their own order; every window of every epoch is one item of the dataset."""

    # the loss below is a mean over equal windows, which Trainer divides by the accumulation steps
    loss_is_scaled_for_ga = False

    def __init__(self, recipe: Recipe, recorder: "Recorder", **kwargs):
        super().__init__(**kwargs)
        self.recipe = recipe
        self.recorder = recorder
        self._staging: Path | None = None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean next-token loss, plus α times the sequence-wise balance loss where the recipe asks for it.

        Raises:
            AxionError: the loss is not a finite number.
        """
        alpha = self.recipe.training.sequence_balance_weight
        inputs = self._cut(inputs)
        outputs = model(**inputs, **loss_count(inputs["labels"]), use_cache=False, output_router_logits=alpha > 0)
        loss = outputs.loss
        if not torch.isfinite(loss):
            raise AxionError(self._nan_message())
        self.recorder.add_loss(loss.detach(), self.current_gradient_accumulation_steps)
        if alpha > 0:
            balance = sequence_balance_loss(outputs.router_logits, self.model.config, len(inputs["input_ids"]))
            loss = loss + alpha * balance
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs) -> int:
        """Not counted: Trainer would walk the whole model at every step for it."""
        return 0

    def _cut(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Windows `[B, window]`, or in the run's first part the same tokens as `[more, short_window]`."""
        training = self.recipe.training
        if training.short_window and self.state.global_step < training.short_share * self.state.max_steps:
            return {name: values.reshape(-1, training.short_window) for name, values in inputs.items()}
        return inputs

    def _issue_warnings_after_load(self, load_result) -> None:
        """A checkpoint with missing or surplus weights is no checkpoint; Trainer would only warn."""
        missing = set(load_result.missing_keys) - set(self.model.all_tied_weights_keys)
        if wrong := sorted(missing | set(load_result.unexpected_keys)):
            raise AxionError(f"the checkpoint's weights are not this recipe's: {wrong[0]} is missing or unknown")

    def _nan_message(self) -> str:
        saved = checkpoint.checkpoints(Path(self.args.output_dir))
        kept = f"{saved[-1]} is kept" if saved else "no checkpoint was saved yet"
        return (
            f"the loss became NaN or infinite at step {self.state.global_step + 1}; {kept}; try a lower learning rate"
        )

    # Trainer writes straight into checkpoint-N: let it write into a staging folder, then rename.

    def _get_output_dir(self, trial=None) -> str:
        return str(self._staging or self.args.output_dir)

    def _save_checkpoint(self, model, trial=None) -> None:
        if not all(torch.isfinite(parameter).all() for parameter in self.model.parameters()):
            raise AxionError(self._nan_message())
        run = Path(self.args.output_dir)
        self._staging = run / checkpoint.STAGING
        try:
            super()._save_checkpoint(model, trial)
            recorded = self.recorder.state()
            _barrier()
            if self.args.should_save:
                staged = self._staging / f"checkpoint-{self.state.global_step}"
                write_json(staged / RECORDER_STATE, recorded)
                checkpoint.commit(staged, run)
            _barrier()
        finally:
            self._staging = None


class Recorder(TrainerCallback):
    """Balances the experts after every step, writes metrics.csv, shows the progress bar and answers Ctrl-C.

    What has been summed since the last row is saved with each checkpoint, so that a resumed run writes the same rows.
    """

    def __init__(self, recipe: Recipe, model, validation, run: Path, steps: int, windows_per_epoch: int, main: bool):
        self.recipe = recipe
        self.validation = validation
        self.run = run
        self.steps = steps
        self.windows_per_epoch = windows_per_epoch
        self.main = main
        self.balancer = ExpertBalancer(model, recipe.training.bias_update_speed)
        self.row_every = row_interval(steps)
        self.metrics = MetricsFile(run / METRICS_FILE, len(self.balancer.routers), self.row_every)
        # evaluations fall on rows
        self.evaluate_every = self.row_every * max(steps // self.row_every // recipe.training.evaluations, 1)
        self.interrupted = False
        self.trainer: AxionTrainer | None = None
        self._loss_sum, self._steps_summed, self._counts_LE, self._rate = 0.0, 0, None, 0.0
        self._seconds_before, self._started, self._row_started = 0.0, 0.0, (0.0, 0)
        self._bar: tqdm | None = None
        self._last_handler = None

    # --- what a checkpoint carries

    def state(self) -> dict:
        """What was summed since the last row; every process calls this, one saves it."""
        counts = None if self._counts_LE is None else self._counts_LE.tolist()
        return {"loss_sum": _mean_over_processes(self._loss_sum), "steps_summed": self._steps_summed, "counts": counts}

    def restore(self, state: dict) -> None:
        self._loss_sum, self._steps_summed = state["loss_sum"], state["steps_summed"]
        self._counts_LE = None if state["counts"] is None else torch.tensor(state["counts"])

    # --- events, in the order in which Trainer sends them

    def on_train_begin(self, args, state, control, **kwargs):
        self._started = time.perf_counter()
        state.save_steps = args.save_steps  # a resumed run may save at another pace
        if self.main:
            self._seconds_before = self.metrics.start(state.global_step)
            self._bar = tqdm(total=self.steps, initial=state.global_step, desc=self.recipe.name, unit="step")
        self._row_started = (self._seconds(), state.global_step)
        self._last_handler = signal.signal(signal.SIGINT, self._interrupt)

    def add_loss(self, loss: torch.Tensor, accumulation: int) -> None:
        """Adds one micro-batch's loss, its share of the optimizer step's."""
        self._loss_sum += loss.item() / accumulation

    def on_optimizer_step(self, args, state, control, lr_scheduler=None, **kwargs):
        self._rate = lr_scheduler.get_last_lr()[0]  # this step's; the scheduler moves on before the step ends
        counts_LE = self.balancer.step()
        self._counts_LE = counts_LE if self._counts_LE is None else self._counts_LE + counts_LE
        self._steps_summed += 1

    def on_step_end(self, args, state, control, **kwargs):
        step = state.global_step
        self.interrupted = _any_process(self.interrupted)
        if self.interrupted or step >= self.steps:
            control.should_training_stop = control.should_save = True
        if self._bar:
            self._bar.update()
        if step % self.row_every == 0 or step == self.steps:
            self._write_row(step)
        return control

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """Puts the terminal and the model back as they were."""
        if self._bar:
            self._bar.close()
        if self._last_handler is not None:
            signal.signal(signal.SIGINT, self._last_handler)
            self._last_handler = None
        self.balancer.remove()

    # --- rows

    def _write_row(self, step: int) -> None:
        loss = _mean_over_processes(self._loss_sum / self._steps_summed)
        if self.main:
            training = self.recipe.training
            tokens_per_step = training.batch_size * training.window
            seconds, (row_seconds, row_step) = self._seconds(), self._row_started
            row = {
                "step": step,
                "epoch": round(step * training.batch_size / self.windows_per_epoch, 4),
                "tokens": step * tokens_per_step,
                "seconds": round(seconds, 2),
                "tokens_per_second": round((step - row_step) * tokens_per_step / (seconds - row_seconds)),
                "lr": self._rate,
                "train_loss": loss,
            }
            if step % self.evaluate_every == 0 or step == self.steps:
                result = validation_loss(self.trainer.model, self.validation)
                row |= {"val_loss": result.nats_per_token, "val_bits_per_byte": result.bits_per_byte}
            for layer, violation in enumerate(max_violation(self._counts_LE), start=1):
                row[f"max_violation_layer_{layer}"] = violation
            self.metrics.append(row)
            self.trainer.log({key: value for key, value in row.items() if key not in {"step", "epoch"}})
            shown = {"loss": f"{loss:.3f}", "tok/s": row["tokens_per_second"]}
            self._bar.set_postfix(shown, refresh=False)
        self._loss_sum, self._steps_summed, self._counts_LE = 0.0, 0, None
        self._row_started = (self._seconds(), step)

    def _seconds(self) -> float:
        """Wall time of the run so far, over all its starts."""
        return self._seconds_before + time.perf_counter() - self._started

    def _interrupt(self, signum, frame) -> None:
        if self.interrupted and not _distributed():
            raise KeyboardInterrupt  # a second Ctrl-C does not wait for the step; torchrun itself sends a second one
        self.interrupted = True
        if self.main:
            # not print: the signal may have come in the middle of the progress bar's own write
            os.write(2, b"\nstopping after this step and saving; press Ctrl-C again to stop at once\n")


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _barrier() -> None:
    if _distributed():
        dist.barrier()


def _any_process(flag: bool) -> bool:
    """Whether the flag is set in any process: all of them stop after the same step."""
    if _distributed():
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return bool(flags)
    return flag


def _mean_over_processes(value: float) -> float:
    if _distributed():
        summed = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(summed)
        return summed.item() / dist.get_world_size()
    return value
