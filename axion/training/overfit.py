"""The sanity ladder: a model that learns must be able to learn one sample by heart, and then a small batch.

Where it cannot, the architecture, the loss or the optimizer is broken, and a whole run would only hide it. The ladder
is that of the Nano-DeepSeek-V3 project. Everything that keeps a model from learning by heart is off: dropout, label
smoothing and weight decay.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import set_seed

from axion.data.packing import PackedWindows
from axion.data.prepare import prepare
from axion.errors import AxionError
from axion.files import staged_folder, write_json, writing
from axion.labels import count_predicted
from axion.recipe import Recipe
from axion.training.balance import ExpertBalancer
from axion.training.build import build_model, checkpoint_gradients, choose_optimizer
from axion.training.losses import mtp_weight
from axion.training.memory import check_memory
from axion.training.optim import build_optimizer

TARGET = 0.05
"""The loss that has to be reached, in nats per token."""

STAGES = {"one sample": 1, "small batch": 4}
"""Stage → how many windows it has."""

LONGEST_WINDOW = 128
"""Tokens of a window, where the recipe's are longer: the ladder takes seconds."""

TOKENS = 100_000
"""How much of the data is encoded: its beginning."""

WARMUP_STEPS = 10

RESULT_FILE = "overfit.json"


@dataclass(frozen=True)
class Stage:
    """How far the loss fell over one set of windows."""

    name: str
    windows: int
    tokens: int
    """Predicted tokens."""
    steps: int
    seconds: float
    losses: list[float]
    """Nats per token before each step, and after the last."""
    reached: bool
    picture: str
    """The file with the curve of the losses."""

    def __str__(self) -> str:
        end = f"after {self.steps} steps in {self.seconds:.1f} s"
        return (
            f"{self.name} ({self.windows} × {self.tokens // self.windows} tokens): loss {self.losses[0]:.3f} → "
            f"{self.losses[-1]:.4f} {end if self.reached else f'{end}; {TARGET} was not reached'}"
        )


def overfit(recipe: Recipe, out: Path | None = None, steps: int = 1000, progress: bool = True) -> list[Stage]:
    """Learns one sample by heart and then a small batch, each from random weights, with the recipe's optimizer.

    The learning rates are the recipe's peak rates, after a short warm-up. The folder gets one picture per stage and
    overfit.json.

    Args:
        recipe: what to build; its data has to be within reach. Only the beginning is encoded.
        out: the folder; runs/NAME-overfit by default. An earlier result in it is replaced.
        steps: the most optimizer steps of a stage.
        progress: whether to show progress bars on standard error.

    Raises:
        AxionError: the folder cannot be written; data that cannot be read, or too little of it; a loss that is not
            finite.
    """
    out = Path(out) if out else Path("runs") / f"{recipe.name}-overfit"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    check_memory(recipe)
    recipe = _without_regularisation(recipe)
    optimizer, note = choose_optimizer(recipe, None)
    if note and progress:
        print(note, file=sys.stderr)
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"optimizer": optimizer})})
    batches = {name: _windows(recipe, count, progress) for name, count in STAGES.items()}
    stages = [_learn(recipe, name, ids_BS, labels_BS, steps, progress) for name, (ids_BS, labels_BS) in batches.items()]
    result = {
        "name": recipe.name,
        "target": TARGET,
        "reached": all(stage.reached for stage in stages),
        "optimizer": optimizer,
        "device": _device().type,
        "stages": [asdict(stage) for stage in stages],
    }
    with staged_folder(out, last=RESULT_FILE) as staging:
        for stage in stages:
            _draw(stage, recipe, staging / stage.picture)
        write_json(staging / RESULT_FILE, result)
    return stages


def _without_regularisation(recipe: Recipe) -> Recipe:
    """The recipe without what keeps a model from learning by heart, on the beginning of its data."""
    off = {name: 0.0 for name in ("dropout", "attention_dropout") if name in recipe.architecture}
    update = {
        "architecture": recipe.architecture | off,
        "training": recipe.training.model_copy(update={"label_smoothing": 0.0, "weight_decay": 0.0}),
    }
    if not recipe.data.max_documents:
        tokens = min(recipe.data.max_tokens or TOKENS, TOKENS)
        # more than one shard: so few documents might all be on one side of the hash
        beginning = {"max_tokens": tokens, "shard_tokens": max(tokens // 2, 1)}
        update["data"] = recipe.data.model_copy(update=beginning)
    return recipe.model_copy(update=update)


def _windows(recipe: Recipe, count: int, progress: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The first training windows that predict something: ids and labels, each `[B, S]`."""
    # under a name of its own: preparing a recipe removes what is left of an interrupted preparation of the same name
    data = prepare(recipe.model_copy(update={"name": f"{recipe.name}-overfit"}), progress=progress)
    size = min(recipe.training.window, LONGEST_WINDOW)
    windows = PackedWindows(data.train, size, epochs=1, seed=recipe.seed)

    def predicting() -> Iterator[dict[str, torch.Tensor]]:
        for index in range(len(windows)):
            if count_predicted((window := windows[index])["labels"].unsqueeze(0)):
                yield window

    chosen = [window for window, _ in zip(predicting(), range(count), strict=False)]
    if len(chosen) < count:
        raise AxionError(f"the data fills {len(chosen)} windows of {size} tokens, and {count} are needed; give more")
    ids_BS, labels_BS = (torch.stack([window[key] for window in chosen]) for key in ("input_ids", "labels"))
    return ids_BS, labels_BS


def _learn(
    recipe: Recipe, name: str, ids_BS: torch.Tensor, labels_BS: torch.Tensor, steps: int, progress: bool
) -> Stage:
    """Trains a new model on the same windows until the loss is below TARGET."""
    set_seed(recipe.seed)
    training, device = recipe.training, _device()
    model = build_model(recipe.build_config()).train()
    torch.nn.Module.to(model, device)  # in place; the declared type of transformers' own method is wrong
    balancer = ExpertBalancer(model, training.bias_update_speed)
    if training.gradient_checkpointing:
        checkpoint_gradients(model, balancer)
    optimizer = build_optimizer(model, training)
    peaks = [group["lr"] for group in optimizer.param_groups]
    ids_BS, labels_BS = ids_BS.to(device), labels_BS.to(device)
    weight = {} if model.mtp is None else {"mtp_weight": mtp_weight(training, 0, steps)}
    losses, started = [], time.perf_counter()
    with tqdm(total=steps, desc=name, unit="step", disable=not progress) as bar:
        for step in range(steps + 1):
            outputs = model(ids_BS, labels=labels_BS, use_cache=False, **weight)
            loss = outputs.loss.item() - (weight["mtp_weight"] * outputs.mtp_loss.item() if weight else 0.0)
            if not torch.isfinite(outputs.loss):
                raise AxionError(f"{name}: the loss became NaN or infinite at step {step}; try a lower learning rate")
            losses.append(loss)
            bar.set_postfix({"loss": f"{loss:.3f}"}, refresh=False)
            if loss < TARGET or step == steps:
                break
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * min((step + 1) / WARMUP_STEPS, 1.0)
            outputs.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            balancer.step()
            bar.update()
    return Stage(
        name,
        windows=len(ids_BS),
        tokens=int(count_predicted(labels_BS)),
        steps=len(losses) - 1,
        seconds=round(time.perf_counter() - started, 2),
        losses=losses,
        reached=losses[-1] < TARGET,
        picture=f"{name.replace(' ', '-')}.png",
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _draw(stage: Stage, recipe: Recipe, path: Path) -> None:
    """Draws the losses of a stage over its steps, on a logarithmic axis, with the target as a line."""
    import matplotlib.pyplot as plt

    from axion.drawing import BLUE, INK, PALE, STYLE, save

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots()
        axes.plot(stage.losses, color=BLUE, label="training loss")
        axes.axhline(TARGET, color=INK, lw=1.2, ls="--", label=f"target {TARGET}")
        axes.set(title=f"{recipe.title}: {stage.name}", xlabel="step", ylabel="loss (nats per token)", yscale="log")
        axes.set_xlim(left=0)
        axes.grid(color=PALE, lw=0.7)
        axes.legend()
        save(figure, path)
