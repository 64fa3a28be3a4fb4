"""A training run, from a recipe to runs/<name>/: checkpoints, metrics.csv and, when it is done, final/ and run.json."""

import importlib.util
import os
import platform
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.distributed as dist
import yaml
from accelerate import PartialState
from transformers import GenerationConfig, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils.logging import disable_progress_bar

from axion.data.packing import PackedWindows
from axion.data.prepare import Prepared, ValidationDocument, prepare
from axion.data.recipe import DataRecipe
from axion.errors import AxionError
from axion.files import git_commit, read_json, write_json, write_text
from axion.kernels.backend import Choice, choose
from axion.kernels.blocks import use_kernels
from axion.kernels.build import library
from axion.machine import keep_freed_memory, libraries, machine
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import Recipe
from axion.tokenizer import save_tokenizer
from axion.training import checkpoint
from axion.training.metrics import METRICS_FILE, read_metrics
from axion.training.optim import build_optimizer, build_schedule
from axion.training.runfile import RUN_FILE, read_run_file
from axion.training.trainer import RECORDER_STATE, AxionTrainer, Recorder


class Interrupted(AxionError):
    """The run was stopped by Ctrl-C; its message says how to go on."""


def train(recipe: Recipe, out: Path | None = None, resume: bool = False, backend: str = "auto") -> Path:
    """Trains a recipe's model and returns the run's folder.

    The folder gets recipe.yaml, metrics.csv and the last two checkpoints while the run goes on, and at its end final/
    (the model as `save_pretrained` writes it, with the tokenizer) and run.json with `"finished": true`. Under torchrun
    the batch is shared among the processes, each of which calls this.

    Args:
        recipe: what to train.
        out: the run's folder; runs/<name> by default.
        resume: go on from the newest checkpoint, bit for bit as if nothing had happened.
        backend: "native" for the kernels, "torch" for PyTorch, "auto" for the kernels where they work.

    Raises:
        AxionError: the folder holds a run already, or none to resume, or one of another recipe; a broken checkpoint;
            data that cannot be read; a loss that is no longer finite; a backend that cannot be had.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    out = Path(out) if out else Path("runs") / recipe.name
    # without cpu=True two processes on a machine without a GPU would not find each other
    processes = PartialState(cpu=not torch.cuda.is_available())
    try:
        return _train(recipe, out, resume, backend, processes)
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def _train(recipe: Recipe, out: Path, resume: bool, backend: str, processes: PartialState) -> Path:
    per_device = _windows_per_pass(recipe, processes.num_processes)
    _check_trackers(recipe)
    earlier = _recorded_data(out) if resume else None
    with processes.main_process_first():
        data = prepare(recipe, progress=processes.is_main_process, earlier=earlier)
    recipe = recipe.model_copy(update={"data": data.data})
    windows = PackedWindows(data.train, recipe.training.window, recipe.training.epochs, recipe.seed)
    steps = len(windows) // recipe.training.batch_size
    if recipe.training.max_steps:
        steps = min(steps, recipe.training.max_steps)
    if steps == 0:
        raise AxionError(
            f"the data fills {len(windows)} windows, less than one batch of {recipe.training.batch_size}; "
            "give more data, or lower training.batch_size"
        )
    with processes.main_process_first():
        choice = _choose_backend(recipe, backend)
    resumed_from = _open_run(recipe, data, out, resume, choice, processes)

    set_seed(recipe.seed)
    keep_freed_memory()
    disable_progress_bar()  # transformers shows one for every file it reads or writes
    model = AxionForCausalLM.from_pretrained(resumed_from) if resumed_from else AxionForCausalLM(recipe.build_config())
    recorder = Recorder(
        recipe,
        model,
        validation=_validation_documents(data),
        run=out,
        steps=steps,
        windows_per_epoch=windows.windows_per_epoch,
        main=processes.is_main_process,
    )
    if resumed_from:
        recorder.restore(read_json(resumed_from / RECORDER_STATE))
    kernels = None
    if choice.name == "native":
        kernels = library(model.config)
        use_kernels(model, on_routing=recorder.balancer.count)
    elif torch.cuda.is_available():
        model.set_experts_implementation("grouped_mm")
    if processes.is_main_process:
        print(f"training with {choice}", file=sys.stderr)
    optimizer = build_optimizer(model, recipe.training, kernels)
    trainer = AxionTrainer(
        recipe,
        recorder,
        model=model,
        args=_arguments(recipe, out, steps, per_device, choice),
        train_dataset=windows,
        optimizers=(optimizer, build_schedule(optimizer, recipe.training, steps)),
        callbacks=[recorder],
    )
    recorder.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    try:
        if resumed_from and checkpoint.step_of(resumed_from) >= steps:
            trainer.state.global_step = steps  # all trained, but killed before final/ was written
        else:
            trainer.train(resume_from_checkpoint=str(resumed_from) if resumed_from else None)
    finally:
        recorder.close()
    if recorder.interrupted and trainer.state.global_step < steps:
        saved = checkpoint.checkpoints(out)[-1]
        raise Interrupted(
            f"stopped at step {trainer.state.global_step} of {steps}; {saved} is saved; go on with --resume"
        )
    if processes.is_main_process:
        _finish(recipe, data, model, out, steps, choice)
    return out


def _choose_backend(recipe: Recipe, wish: str) -> Choice:
    training = recipe.training
    unsupported_reason = None
    if training.compile:
        unsupported_reason = "training.compile is for PyTorch"
    elif training.precision == "bf16":
        unsupported_reason = "training.precision is bf16, and the kernels train in fp32"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return choose(wish, recipe.build_config(), device, unsupported_reason)


def latest_run(name: str, root: Path = Path("runs")) -> Path | None:
    """The newest finished run of a recipe under `root`, or None."""
    finished = []
    for file in root.glob(f"*/{RUN_FILE}"):
        info = read_run_file(file.parent)
        if info.get("finished") and info.get("name") == name:
            finished.append(file)
    return max(finished, key=lambda file: file.stat().st_mtime).parent if finished else None


def _windows_per_pass(recipe: Recipe, processes: int) -> int:
    training = recipe.training
    parts = training.grad_accum * processes
    if training.batch_size % parts:
        raise AxionError(
            f"training.batch_size is {training.batch_size}; it must be a multiple of training.grad_accum "
            f"({training.grad_accum}) times the number of processes ({processes})"
        )
    return training.batch_size // parts


def _check_trackers(recipe: Recipe) -> None:
    for tracker in recipe.training.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise AxionError(f"training.trackers names {tracker}, which is not installed; pip install {tracker}")


def _validation_documents(data: Prepared) -> list[ValidationDocument]:
    """The held-out documents whose loss stands for the model: those of real text, or else all."""
    headline = [document for document in data.validation if document.source in data.data.headline_kinds]
    return headline or data.validation


def _recorded_data(run: Path) -> DataRecipe | None:
    """The data section that a run was started with, if there is a run."""
    if not (run / RUN_FILE).exists():
        return None
    return Recipe.model_validate(yaml.safe_load(read_run_file(run)["recipe"])).data


def _open_run(
    recipe: Recipe, data: Prepared, out: Path, resume: bool, backend: Choice, processes: PartialState
) -> Path | None:
    """Makes the run's folder, or finds the checkpoint to resume from."""
    saved = checkpoint.checkpoints(out)
    if resume and not saved and not (out / RUN_FILE).exists():
        raise AxionError(f"{out} holds no run to resume; start without --resume")
    if not resume and (saved or (out / RUN_FILE).exists()):
        raise AxionError(f"{out} holds a run already; --resume goes on with it, --out DIR starts another")
    if resume:
        info = read_run_file(out)
        if info["finished"]:
            raise AxionError(f"{out} is finished; --out DIR starts another run")
        changed = differences(yaml.safe_load(info["recipe"]), yaml.safe_load(recipe.to_yaml()))
        if changed:
            raise AxionError(f"{out} was started with another recipe; resume with the same {', '.join(changed)}")
        if (before := info.get("backend", "torch")) != backend.name:  # rounding differs, so the bits would
            raise AxionError(f"{out} was started with another backend; resume with --backend {before}")
        if info["data"]["fingerprint"] != data.summary["fingerprint"]:
            raise AxionError(f"the data changed since {out} was started; restore it, or start anew with --out DIR")
    processes.wait_for_everyone()
    if processes.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint.clear_staging(out)
        if not resume:
            _write_run_file(recipe, data, out, backend, finished=False)
    processes.wait_for_everyone()
    # a run that was stopped before its first checkpoint starts again
    return checkpoint.newest_whole(out) if resume and saved else None


def differences(before: dict, now: dict, prefix: str = "") -> list[str]:
    """Keys whose values differ; how often to save or report may change between two starts of a run."""
    free = {"training.checkpoints", "training.trackers"}
    names = []
    for key in sorted({*before, *now}):
        path, old, new = prefix + key, before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names += differences(old, new, f"{path}.")
        elif old != new and path not in free:
            names.append(path)
    return names


def _arguments(recipe: Recipe, out: Path, steps: int, per_device: int, backend: Choice) -> TrainingArguments:
    training = recipe.training
    cpu = not torch.cuda.is_available()
    auto_bf16 = training.precision == "auto" and backend.name == "torch" and _multiplies_bf16(cpu)
    return TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=training.grad_accum,
        max_grad_norm=training.max_grad_norm,
        bf16=training.precision == "bf16" or auto_bf16,
        torch_compile=training.compile,
        train_sampling_strategy="sequential",  # the windows are shuffled already
        save_strategy="steps",
        save_steps=max(steps // training.checkpoints, 1),
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to=list(training.trackers) or "none",
        seed=recipe.seed,
        use_cpu=cpu,
        dataloader_num_workers=0,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # every process moves its biases by the same counts
    )


def _multiplies_bf16(cpu: bool) -> bool:
    return torch.cpu._is_avx512_bf16_supported() if cpu else torch.cuda.is_bf16_supported()


def _finish(recipe: Recipe, data: Prepared, model: AxionForCausalLM, out: Path, steps: int, backend: Choice) -> None:
    """Writes final/ by rename, then run.json, which says that it is there."""
    staged = out / checkpoint.STAGING / "final"
    shutil.rmtree(staged, ignore_errors=True)
    config = model.config
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(staged)
    save_tokenizer(data.tokenizer, staged)
    shutil.rmtree(out / "final", ignore_errors=True)
    os.replace(staged, out / "final")
    checkpoint.clear_staging(out)
    _write_run_file(recipe, data, out, backend, finished=True, steps=steps)


def _write_run_file(
    recipe: Recipe, data: Prepared, out: Path, backend: Choice, finished: bool, steps: int | None = None
) -> None:
    write_text(out / "recipe.yaml", recipe.to_yaml())  # evaluation finds it beside final/
    info = {
        "name": recipe.name,
        "finished": finished,
        "recipe": recipe.to_yaml(),
        "seed": recipe.seed,
        "backend": backend.name,
        "data": data.summary,
        "libraries": libraries(),
        "python": platform.python_version(),
        "machine": machine(),
        "git_commit": git_commit(),
    }
    if finished:
        info["git_commit"] = read_run_file(out)["git_commit"]  # the code that trained, not today's
        info |= {
            "steps": steps,
            "tokens": steps * recipe.training.batch_size * recipe.training.window,
            "seconds": read_metrics(out / METRICS_FILE)["seconds"][-1].item(),
            "date": datetime.now(UTC).date().isoformat(),
        }
    write_json(out / RUN_FILE, info)
