"""A training run: from a recipe to runs/<name>/ with its checkpoints, its logs, final/ and run.json."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedTokenizerFast, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils.logging import disable_progress_bar

from axion.checksums import remembered_sha256
from axion.data.packing import PackedWindows
from axion.data.prepare import Prepared
from axion.data.recipe import DataRecipe, TokenizerRecipe
from axion.data.sources.chat import CHAT_TEMPLATE
from axion.data.whole_documents import WholeDocuments
from axion.errors import AxionError
from axion.files import read_json, sha256, sync_to_disk, writing
from axion.kernels.backend import Choice, choose
from axion.kernels.blocks import use_kernels
from axion.kernels.build import library
from axion.machine import keep_freed_memory
from axion.model.modeling_axion import AxionForCausalLM
from axion.params import first_non_finite
from axion.recipe import Recipe, TrainingRecipe
from axion.release import WEIGHTS, Release
from axion.tokenizer import generation_config, save_tokenizer
from axion.training import checkpoint, parallel
from axion.training.adapters import add_adapters, merge_adapters, save_adapters
from axion.training.balance import ExpertBalancer
from axion.training.build import build_model, checkpoint_gradients, choose_optimizer, load_start
from axion.training.environment import describe_changes, environment
from axion.training.experts import use_grouped_experts
from axion.training.feed import Feed, too_few
from axion.training.history import History
from axion.training.losses import record_logits, smooth_labels
from axion.training.memory import check_memory
from axion.training.optim import build_optimizer, build_schedule
from axion.training.recorder import RECORDER_STATE, Recorder
from axion.training.resume import EarlierRun, find_earlier, open_run, with_restarts
from axion.training.runfile import ADAPTER, FINAL, RUN_FILE, RunSetup, describe_windows, write_finished
from axion.training.sharding import check_sharding, shard, unshard
from axion.training.signals import StopSignals
from axion.training.trainer import AxionTrainer
from axion.training.validation import check_documents


class Interrupted(AxionError):
    """A signal, such as Ctrl-C, ended the run; the message says what is saved, and how to go on."""


def train(
    recipe: Recipe,
    out: Path | None = None,
    resume: bool = False,
    backend: str = "auto",
    start: Release | None = None,
) -> Path:
    """Trains a recipe's model and returns the run's folder.

    During the run the folder holds run.json, recipe.yaml, metrics.csv, eval.csv, history.json (what the model writes at
    evaluations, in a run of at least 150 steps that is not sharded) and the newest checkpoints. At the end it gets
    final/ (the model as `save_pretrained` writes it, with the tokenizer), with LoRA also adapter/ (the adapters alone),
    and run.json says `"finished": true`. Under torchrun every process calls this, and each trains on its share of the
    batch. SIGINT, SIGTERM, SIGHUP and SIGUSR1 end the run after the current step, with a checkpoint.

    Args:
        recipe: what to train.
        out: the run's folder; runs/<name> by default.
        resume: continue from the newest checkpoint. The result is bit for bit that of an uninterrupted run, as long as
            the machine, its threads and the software stay the same; otherwise one line says what has changed. Where
            there is no run, a new one starts. A finished one stays as it is, unless the recipe has more epochs: it then
            goes on from its last checkpoint, and over the added steps the learning rate runs its course again.
        backend: "native" for the kernels, "torch" for PyTorch, "auto" for the kernels where they work, and for what a
            resumed run was started with.
        start: the release that `recipe.start` names.

    Raises:
        AxionError: the folder already holds a run, or one of another recipe, or files that a run would replace; a
            broken checkpoint; data that cannot be read; a loss that is not finite; a backend that is not available; a
            full disk.
        Interrupted: a signal; a checkpoint was saved, unless it came before the first step.
    """
    out = Path(out) if out else Path("runs") / recipe.name
    with StopSignals() as stop, parallel.process_group(), Feed(stop) as feed:
        try:
            plan = _plan(recipe, out, resume, backend, start, feed)
            if plan is None:
                _report(f"{out} is finished already; --out DIR starts another run")
            else:
                with open_run(out, plan.setup, plan.earlier):
                    _fit(plan, out, stop, feed)
        except KeyboardInterrupt:
            if stop.has_trained:
                raise
            again = "continue with --resume" if (out / RUN_FILE).exists() else "the same command starts again"
            raise Interrupted(f"stopped before the first step; what is prepared of the data is kept; {again}") from None
    return out


@dataclass(frozen=True)
class _Plan:
    """A run that has passed all checks."""

    setup: RunSetup
    """To its data, the feed may add later shards."""
    windows_per_pass: int
    steps: int
    earlier: EarlierRun | None
    """The run to resume."""
    start: Release | None
    """What a new run starts from, instead of random weights."""


def _plan(recipe: Recipe, out: Path, resume: bool, backend: str, start: Release | None, feed: Feed) -> _Plan | None:
    """Checks a run, cheapest first, opens its data and compiles its kernels; None if the run is finished already."""
    training = recipe.training
    _check_start(recipe, start)
    windows_per_pass = _windows_per_pass(training, parallel.world_size())
    _check_trackers(training)
    check_sharding(recipe, parallel.world_size())
    check_memory(recipe)
    earlier = find_earlier(out, recipe, resume)
    if earlier and earlier.finished:
        return None
    requested = earlier.backend if earlier and backend == "auto" else backend
    choose_backend(recipe, requested, build=False)
    optimizer, note = choose_optimizer(recipe, earlier and earlier.optimizer)

    # resolved once: a data set may get a new commit between two processes' requests
    pinned = parallel.from_main_process(lambda: _pinned(recipe, earlier))
    recipe = recipe.model_copy(update=pinned)
    if earlier:
        recipe = recipe.model_copy(update={"training": with_restarts(recipe, earlier.restarts)})
        training = recipe.training
    by_shard, is_enough = recipe.data.trains_by_shard and not training.whole_documents, None
    if earlier:  # a run keeps its order, and the steps that were counted
        by_shard &= earlier.windows.get("order") == "shards"
        is_enough = earlier.windows.get("per_epoch") == (recipe.data.max_tokens or 0) // training.window
    data = feed.open(recipe, start.tokenizer if start else None, by_shard, is_enough)
    if recipe.data.has_chats:
        data.tokenizer.chat_template = CHAT_TEMPLATE
    check_documents(data.validation)
    windows = _windows(recipe, data, _epoch_tokens(recipe, data, feed.is_growing) if by_shard else None)
    if earlier and earlier.windows and earlier.windows != describe_windows(windows):
        counted, tokens, wanted = earlier.windows.get("per_epoch"), data.train.counts.tokens, recipe.data.max_tokens
        fewer = too_few(tokens, wanted) if by_shard and is_enough and wanted and tokens < wanted else None
        changed = f"{out} was started with {counted} windows an epoch, and its data fills {windows.windows_per_epoch}"
        raise AxionError(f"{fewer or changed}; start another run with --out DIR")
    steps = _count_steps(training, windows)
    feed.follow(windows, steps)
    if training.restarts and training.restarts[-1] >= steps:
        raise AxionError(f"training.restarts names step {training.restarts[-1]}, but the run has {steps} steps")
    choice = parallel.main_process_first(lambda: choose_backend(recipe, requested))
    if note:
        _report(note)
    return _Plan(RunSetup(recipe, data, windows, choice, optimizer), windows_per_pass, steps, earlier, start)


def _pinned(recipe: Recipe, earlier: EarlierRun | None) -> dict[str, DataRecipe | TokenizerRecipe]:
    """The sections of a recipe that name something on the Hub, with its commit."""
    return {
        "data": recipe.data.pinned(earlier and earlier.data),
        "tokenizer": recipe.tokenizer.pinned(earlier and earlier.tokenizer),
    }


def _fit(plan: _Plan, out: Path, stop: StopSignals, feed: Feed) -> None:
    """Trains and writes final/. Raises Interrupted where a signal ended the run before its last step."""
    setup, recipe, steps = plan.setup, plan.setup.recipe, plan.steps
    resumed_from = plan.earlier and plan.earlier.checkpoint
    set_seed(recipe.seed)
    keep_freed_memory()
    disable_progress_bar()  # transformers shows one for every file it reads or writes
    config = recipe.build_config()
    model = build_model(config)
    if plan.start:
        load_start(model, plan.start)
    adapted = add_adapters(model, recipe.lora, recipe.start) if recipe.lora and recipe.start else None
    if resumed_from:
        checkpoint.load_weights(resumed_from, model)
    if recipe.training.distributed.is_sharded:
        model = shard(model, recipe.training.distributed, parallel.world_size())
    # each process of a sharded model has a part of it, and one alone could not write
    history = None if recipe.training.distributed.is_sharded else History(out, recipe.name, setup.data, model, steps)
    per_epoch = setup.windows.windows_per_epoch
    recorder = Recorder(recipe, model, setup.data.validation, out, steps, per_epoch, stop, history)
    if resumed_from:
        recorder.restore(read_json(resumed_from / RECORDER_STATE))
    if recipe.training.label_smoothing:
        smooth_labels(model, recipe.training.label_smoothing)
    if recipe.training.gradient_checkpointing:
        checkpoint_gradients(model, recorder.balancer)
    arguments, kernels = _arguments(plan, out), None
    if setup.backend.name == "native":
        kernels = library(config, "training")
        use_kernels(
            model,
            on_routing=recorder.balancer.count,
            replaced_hooks=[ExpertBalancer.__module__, record_logits.__module__],
            label_smoothing=recipe.training.label_smoothing,
        )
    elif torch.cuda.is_available():
        use_grouped_experts(model, torch.bfloat16 if arguments.bf16 else torch.float32)
    _report(f"training with {setup.backend}")
    conditions = environment(setup.backend, kernels) | recipe.training.distributed.model_dump()
    conditions["optimizer"] = setup.optimizer
    if resumed_from and (changes := describe_changes(resumed_from, conditions)):
        _report(changes)

    used = recipe.training.model_copy(update={"optimizer": setup.optimizer})
    optimizer = build_optimizer(model, used, kernels)
    trainer = AxionTrainer(
        recipe,
        recorder,
        args=arguments,
        windows=setup.windows,
        tokenizer=setup.data.tokenizer,
        environment=conditions,
        optimizers=(optimizer, build_schedule(optimizer, recipe.training, steps)),
    )
    recorder.log = trainer.log
    feed.on_wait = recorder.leave_out
    trainer.add_callback(feed)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    try:
        if resumed_from and checkpoint.step_of(resumed_from) >= steps:
            trainer.state.global_step = steps  # killed between its last checkpoint and final/
        else:
            trainer.train(resume_from_checkpoint=str(resumed_from) if resumed_from else None)
    finally:
        recorder.close()
    if trainer.state.global_step < steps:
        saved = checkpoint.checkpoints(out)[-1]
        if feed.failure:
            unable = " but cannot be resumed; all of the data is prepared now: start another run with --out DIR"
            advice = "; continue with --resume" if feed.can_go_on else unable
            raise AxionError(f"{feed.failure}; {saved} is saved{advice}")
        at = f"step {trainer.state.global_step} of {steps}"
        raise Interrupted(f"stopped at {at}; {saved} is saved; continue with --resume")

    if recipe.training.distributed.is_sharded:
        model = unshard(model, config)
    if parallel.is_main_process():
        if adapted:
            _write(out / ADAPTER, out, partial(save_adapters, adapted), setup.data.tokenizer)
            model = merge_adapters(adapted)
        _write_final(model, setup.data.tokenizer, out)
        try:
            read = feed.complete(setup.data)
        except KeyboardInterrupt:
            at = f"stopped after the last step, while data was prepared; {out / FINAL} is saved"
            raise Interrupted(f"{at}; continue with --resume") from None
        write_finished(out, replace(setup, data=read), steps, conditions)


def _report(line: str) -> None:
    if parallel.is_main_process():
        print(line, file=sys.stderr)


def _check_start(recipe: Recipe, start: Release | None) -> None:
    """Raises AxionError where the release is not the one that the recipe starts from."""
    if recipe.start is None:
        return
    if start is None:
        raise AxionError(
            f"{recipe.name} starts from {recipe.start.name}: run `python -m axion finetune`, or train --from it"
        )
    if remembered_sha256(start.folder / WEIGHTS) != recipe.start.sha256:
        raise AxionError(f"{start.name} is not the release that {recipe.name} starts from: its weights differ")


def _epoch_tokens(recipe: Recipe, data: Prepared, is_growing: bool) -> int | None:
    """The tokens of an epoch that goes from shard to shard; None where all fit one, or none is of the last source."""
    wanted = recipe.data.max_tokens
    if is_growing or wanted is None:
        return wanted
    return min(wanted, data.train.counts.tokens) if len(data.train.shards) > 1 and data.reaches_last_source else None


def _windows(recipe: Recipe, data: Prepared, epoch_tokens: int | None) -> PackedWindows | WholeDocuments:
    training = recipe.training
    if not training.whole_documents:
        settings = (training.window, training.epochs, recipe.seed, training.document_mask)
        begins = data.last_source_begins or 0
        return PackedWindows(data.train, *settings, epoch_tokens=epoch_tokens, last_source_begins=begins)
    pad_id = data.tokenizer.convert_tokens_to_ids(str(data.tokenizer.pad_token))
    windows = WholeDocuments(data.train, training.window, training.epochs, recipe.seed, cast(int, pad_id))
    if windows.cut or windows.left_out:
        _report(
            f"longer than {training.window} tokens: of {len(data.train):,} documents, {windows.cut:,} are cut after "
            f"the last answer that fits, {windows.left_out:,} are left out"
        )
    return windows


def _windows_per_pass(training: TrainingRecipe, processes: int) -> int:
    """Windows in one forward pass of one process."""
    parts = training.grad_accum * processes
    if training.batch_size % parts:
        raise AxionError(
            f"training.batch_size is {training.batch_size}; it must be a multiple of training.grad_accum "
            f"({training.grad_accum}) times the number of processes ({processes})"
        )
    return training.batch_size // parts


def _check_trackers(training: TrainingRecipe) -> None:
    for tracker in training.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise AxionError(f"training.trackers names {tracker}, which is not installed; pip install {tracker}")


def _count_steps(training: TrainingRecipe, windows: PackedWindows | WholeDocuments) -> int:
    steps = len(windows) // training.batch_size
    if steps == 0:
        raise AxionError(
            f"the data fills {len(windows)} windows, less than one batch of {training.batch_size}; "
            "give more data, more epochs, or a lower training.batch_size"
        )
    return min(steps, training.max_steps or steps)


def choose_backend(recipe: Recipe, requested: str, build: bool = True) -> Choice:
    """What trains a recipe's model on this machine; see `axion.kernels.backend.choose`."""
    unsupported_reason = None
    if recipe.training.compile:
        unsupported_reason = "training.compile is for PyTorch"
    elif recipe.training.precision == "bf16":
        unsupported_reason = "training.precision is bf16, and the kernels train in fp32"
    elif recipe.lora:
        unsupported_reason = "the kernels train whole models, not LoRA's adapters"
    elif (sizes := recipe.training.distributed).is_sharded:
        unsupported_reason = f"training.distributed shards the model over {sizes.fsdp_size} processes"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return choose(requested, recipe.build_config(), "training", device, unsupported_reason, build)


def _arguments(plan: _Plan, out: Path) -> TrainingArguments:
    training = plan.setup.recipe.training
    cpu = not torch.cuda.is_available()
    auto_bf16 = training.precision == "auto" and plan.setup.backend.name == "torch" and _supports_bf16(cpu)
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.windows_per_pass,
        gradient_accumulation_steps=training.grad_accum,
        max_grad_norm=training.max_grad_norm,
        bf16=training.precision == "bf16" or auto_bf16,
        torch_compile=training.compile,
        train_sampling_strategy="sequential",  # the windows are shuffled already
        save_strategy="steps",
        save_steps=max(plan.steps // training.checkpoints, 1),
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=list(training.trackers) or "none",
        seed=plan.setup.recipe.seed,
        use_cpu=cpu,
        dataloader_num_workers=0,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        ddp_find_unused_parameters=_gate_may_be_unused(plan.setup.recipe),
        ddp_broadcast_buffers=False,  # every process moves its biases by the same counts
    )
    # without torchrun, Trainer would split each batch over all GPUs of the machine in one process
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _gate_may_be_unused(recipe: Recipe) -> bool:
    """Whether the model has the gate of looped layers, and a step may run them only once."""
    config = recipe.build_config()
    fewest = recipe.training.loops[0] if recipe.training.loops else config.num_loops
    return config.num_shared_layers > 0 and fewest == 1


def _supports_bf16(cpu: bool) -> bool:
    """Whether the processor or GPU multiplies bf16 matrices in hardware."""
    return torch.cpu._is_avx512_bf16_supported() if cpu else torch.cuda.is_bf16_supported(including_emulation=False)


def _write_final(model: AxionForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes final/. Raises AxionError where a weight is not finite, and what `_write` raises."""
    if name := first_non_finite(model):
        raise AxionError(f"{name} is NaN or infinite at the end of the run; try a lower learning rate")
    model.generation_config = generation_config(model.config, tokenizer)
    _write(out / FINAL, out, model.save_pretrained, tokenizer)
    checkpoint.clear_staging(out)


def _write(target: Path, run: Path, save: Callable[[Path], None], tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes a folder of a finished run, with the tokenizer: staged, then renamed.

    Raises:
        AxionError: the folder cannot be written, or one of that name belongs to someone else.
    """
    staged = run / checkpoint.STAGING / target.name
    with writing(target, "free some space and continue with --resume"):
        shutil.rmtree(staged, ignore_errors=True)
        save(staged)
        save_tokenizer(tokenizer, staged)
        sync_to_disk(staged)
        if not target.exists():
            os.replace(staged, target)
        elif _sums(target) != _sums(staged):  # else the run was killed between this rename and its run.json
            raise AxionError(f"{target} was not written by this run; move it away and continue with --resume")


def _sums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
