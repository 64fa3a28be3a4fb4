"""transformers' Trainer with atomic checkpoints, the further losses of a recipe and an error at a loss of NaN."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedTokenizerFast, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_utils import compare_trainer_and_checkpoint_args

from axion.data.packing import PackedWindows
from axion.data.whole_documents import WholeDocuments
from axion.errors import AxionError
from axion.files import write_json, writing
from axion.labels import count_predicted
from axion.params import first_non_finite
from axion.recipe import Recipe
from axion.tokenizer import save_tokenizer
from axion.training import checkpoint, parallel, sharding
from axion.training.environment import ENVIRONMENT_FILE
from axion.training.losses import mtp_weight, next_token_loss, record_logits, sequence_balance_loss
from axion.training.recorder import RECORDER_STATE, Recorder


class AxionTrainer(Trainer):
    """Trains on windows in the dataset's own order; the dataset holds every window of every epoch.

    Args:
        recipe: the run's recipe.
        recorder: of the model to train; receives each micro-batch's loss, and gives each checkpoint its state.
        windows: what it trains on.
        tokenizer: saved with each checkpoint, so that it opens like a release.
        environment: see `axion.training.environment`; each checkpoint records it.
        kwargs: further arguments of Trainer.
    """

    # Trainer divides each micro-batch's loss by the accumulation steps, data parallelism by the processes.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        recipe: Recipe,
        recorder: Recorder,
        windows: PackedWindows | WholeDocuments,
        tokenizer: PreTrainedTokenizerFast,
        environment: dict,
        **kwargs,
    ):
        self.is_sharded = recipe.training.distributed.is_sharded
        # Trainer refuses to save the optimizer of a sharded model; here it is gathered and saved
        kwargs["args"].save_only_model = self.is_sharded
        super().__init__(model=recorder.model, train_dataset=windows, callbacks=[recorder], **kwargs)
        self.args.save_only_model = False
        self.recipe = recipe
        self.config = recipe.build_config()
        self.recorder = recorder
        self.tokenizer = tokenizer
        self.environment = environment
        self.masked = windows.documents.is_masked
        self._mtp_logits: list[torch.Tensor] = []
        if recorder.model.mtp is not None and recipe.training.sequence_balance_weight:
            record_logits(recorder.model.mtp, self._mtp_logits)
        self._staging: Path | None = None

    def train(self, *args, **kwargs):
        """As in Trainer, without its comparison of the arguments with those of a resumed checkpoint."""
        with _without_comparison():
            return super().train(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean next-token loss, plus the weighted losses of multi-token prediction and of balance where asked for.

        Raises:
            AxionError: the loss is not a finite number, or no token of the batch has one.
        """
        training = self.recipe.training
        alpha, mtp, loops = training.sequence_balance_weight, {}, {}
        if self.config.num_nextn_predict_layers:
            mtp["mtp_weight"] = mtp_weight(training, self.state.global_step, self.state.max_steps)
        if training.loops:
            loops["num_loops"] = draw_loops(training.loops, self.recipe.seed, self.state.global_step)
        inputs = self._split(inputs)
        self._mtp_logits.clear()
        outputs = model(
            **inputs,
            **mtp,
            **loops,
            num_items_in_batch=num_items_in_batch,
            use_cache=False,
            output_router_logits=alpha > 0,
        )
        loss = outputs.loss
        if not torch.isfinite(loss):
            raise AxionError(self._explain_loss(inputs["labels"]))
        losses = {"train_loss": loss.detach()}
        if mtp:
            losses["mtp_loss"] = outputs.mtp_loss.detach()
            losses["train_loss"] = losses["train_loss"] - mtp["mtp_weight"] * losses["mtp_loss"]
        if training.label_smoothing:
            losses["smoothed_loss"] = losses["train_loss"]
            losses["train_loss"] = getattr(outputs, "plain_loss", None)  # the kernels compute no logits
            if losses["train_loss"] is None:
                losses["train_loss"] = next_token_loss(outputs.logits.detach(), inputs["labels"], num_items_in_batch)
        self.recorder.add_losses(losses, self.current_gradient_accumulation_steps)
        if (by_kernels := getattr(outputs, "mtp_router_logits", None)) is not None:
            self._mtp_logits.append(by_kernels)
        if alpha > 0 and (router_logits := (*(outputs.router_logits or ()), *self._mtp_logits)):
            loss = loss + alpha * sequence_balance_loss(router_logits, self.config, len(inputs["input_ids"]))
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples, device) -> torch.Tensor | None:
        """The number that a micro-batch's summed loss is divided by where labels are masked; None for its own mean.

        Micro-batches then predict different numbers of tokens. So that each token of the optimizer step has the same
        weight, it is the mean number per micro-batch, over all of the step's micro-batches and processes.
        """
        if not self.masked:
            return None
        predicted = torch.stack([count_predicted(self._split(batch)["labels"]) for batch in batch_samples]).sum()
        micro_batches = len(batch_samples) * parallel.world_size()
        return parallel.sum_over_processes(predicted).clamp(min=1).to(device) / micro_batches

    def floating_point_ops(self, inputs) -> int:
        """Not counted: Trainer would iterate over all parameters at every step."""
        return 0

    def _split(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`[B, window]` as it is, or as `[B · window / short_window, short_window]` in the run's first part."""
        training = self.recipe.training
        steps = training.restarts[0] if training.restarts else self.state.max_steps
        if training.short_window and self.state.global_step < training.short_share * steps:
            return {name: values.reshape(-1, training.short_window) for name, values in inputs.items()}
        return inputs

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        """Loads the weights, except of a sharded model, which was made from them."""
        if not self.is_sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result) -> None:
        """Refuses a checkpoint with missing or unknown weights; Trainer would only warn."""
        missing = set(load_result.missing_keys) - set(self.recorder.model.all_tied_weights_keys)
        if wrong := sorted(missing | set(load_result.unexpected_keys)):
            raise AxionError(f"the checkpoint's weights do not fit the recipe: {wrong[0]} is missing or unknown")

    def _explain_loss(self, labels_BS: torch.Tensor) -> str:
        """Why a loss is not a number."""
        if count_predicted(labels_BS) == 0:
            window = labels_BS.shape[1]
            return f"windows of {window} tokens predict nothing; lengthen training.window and training.short_window"
        return self._not_finite("the loss", self.state.global_step + 1)

    def _not_finite(self, what: str, step: int) -> str:
        saved = checkpoint.checkpoints(self.recorder.run)
        kept = f"{saved[-1]} is kept" if saved else "no checkpoint was saved yet"
        return f"{what} became NaN or infinite at step {step}; {kept}; try a lower learning rate"

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Saves both; the state of a sharded model's optimizer whole, so that any number of processes can load it."""
        if not self.is_sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        assert isinstance(self.optimizer, Optimizer) and isinstance(self.lr_scheduler, LRScheduler)
        whole = sharding.gather(self.optimizer.state_dict())
        if self.args.should_save:
            torch.save(whole, Path(output_dir, OPTIMIZER_NAME))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    # Trainer writes straight into checkpoint-N. Here it writes into a staging folder, which is then renamed.

    def _get_output_dir(self, trial=None) -> str:
        return str(self._staging or self.args.output_dir)

    def _save_checkpoint(self, model, trial=None) -> None:
        run, step, training = self.recorder.run, self.state.global_step, self.recipe.training
        if name := first_non_finite(self.recorder.model):
            raise AxionError(self._not_finite(name, step))
        self._staging = run / checkpoint.STAGING
        staged = self._staging / f"checkpoint-{step}"
        try:
            with writing(run / staged.name, "free some space and continue with --resume"):
                super()._save_checkpoint(model, trial)
                recorded = self.recorder.state()
                parallel.barrier()
                if self.args.should_save:
                    write_json(staged / RECORDER_STATE, recorded)
                    write_json(staged / ENVIRONMENT_FILE, self.environment)
                    save_tokenizer(self.tokenizer, staged)
                    checkpoint.commit(staged, run, training.keep_checkpoints, self.recorder.best_step)
            parallel.barrier()
        finally:
            self._staging = None
            if self.args.should_save:
                checkpoint.clear_staging(run)


def draw_loops(loops: tuple[int, int], seed: int, step: int) -> int:
    """How often a step runs the shared layers: the same in all of its micro-batches and processes, and after a resume.

    Args:
        loops: the fewest and the most.
        seed: the recipe's.
        step: the number of optimizer steps before it.
    """
    return random.Random(f"loops {seed} {step}").randint(*loops)


@contextmanager
def _without_comparison() -> Iterator[None]:
    """Silences Trainer's warning that a run is resumed with other arguments.

    `axion.training.resume` has compared the recipes; with more epochs, checkpoints are due at other steps.
    """
    logger = logging.getLogger(compare_trainer_and_checkpoint_args.__module__)

    def is_another(record: logging.LogRecord) -> bool:
        return "arguments do not match the ones in the `trainer_state.json`" not in record.getMessage()

    logger.addFilter(is_another)
    try:
        yield
    finally:
        logger.removeFilter(is_another)
