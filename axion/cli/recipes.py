"""Commands that take a recipe, or make one: `params`, `data`, `train`, `overfit`, `finetune`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from axion.cli.exits import INTERRUPTED
from axion.cli.tables import data_table
from axion.errors import AxionError
from axion.options import (
    Json,
    Languages,
    Name,
    Overrides,
    ReleaseName,
    Texts,
    Version,
)

if TYPE_CHECKING:
    from axion.recipe import Recipe

PASSED_OVER_NAMED = 5
"""How many of the files that are not read are listed."""


def params(version: Version, as_json: Json = False) -> None:
    """Count a model's parameters, in total, active per token and by component, and the size of its cache."""
    from axion.params import report, table
    from axion.recipe import load_recipe

    recipe = load_recipe(version)
    counted = report(recipe.name, recipe.build_shape())
    print(json.dumps(counted) if as_json else table(counted))


def data(
    version: Version,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Generated problems only; needs no network.")] = False,
    maximum: Annotated[int | None, typer.Option("--max", min=2, help="Prepare at most this many documents.")] = None,
    texts: Texts = None,
    name: Name = None,
    languages: Languages = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The parent folder of the prepared data; data/ by default.")] = None,
    as_json: Json = False,
) -> None:
    """Prepare the training data: fetch it, convert it to text, split it and train the tokenizer."""
    from axion.data.prepare import KEPT, prepare
    from axion.recipe import OwnText, load_recipe

    shortcuts = [] if maximum is None else [f"data.max_documents={maximum}"]
    own = OwnText(texts or (), name, languages or ())
    recipe = load_recipe(version, [*(overrides or []), *shortcuts], own)
    _tell_passed_over(recipe)
    if synthetic:
        recipe = recipe.model_copy(update={"data": recipe.data.generated()})
    try:
        prepared = prepare(recipe, out or Path("data"))
    except KeyboardInterrupt:
        print(f"stopped; {KEPT}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    summary, folder = prepared.summary, prepared.folder
    print(json.dumps({"folder": str(folder), **summary}) if as_json else data_table(summary, folder))


def train(
    version: Version,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data; with --resume, more of them continue a finished run.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows per optimizer step.")] = None,
    grad_accum: Annotated[int | None, typer.Option(help="Micro-batches per optimizer step.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint, if any.")] = False,
    backend: Annotated[
        str, typer.Option(help="The backend: torch, native (the kernels), or auto: the kernels where they can be used.")
    ] = "auto",
    texts: Texts = None,
    name: Name = None,
    languages: Languages = None,
    overrides: Overrides = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RELEASE",
            help="Start from the weights and the tokenizer of a release of the same architecture.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME by default.")] = None,
) -> None:
    """Train a recipe's model, from scratch or with --from from a release.

    --text reads .txt, .md, .jsonl and .parquet, each also with .gz. A .txt or .md file is cut into documents at every
    <|endoftext|>; a file without one is cut at the first blank line after 4,096 bytes, or between two lines where no
    blank line follows within 16,384 bytes. In .jsonl and .parquet files and on the Hub, the field text of each record
    is a document (--set data.sources.text.text_field=FIELD names another). A folder is read in the order of its files'
    names. A hash of each document's text decides whether it is held out for validation: 5% are, and of more than 20 MiB
    of text a smaller share, so that it comes to about 1 MiB (data.val_fraction and data.max_validation_bytes). At least
    one document is held out.

    --set data.max_tokens=N trains on the first N tokens. If N is above 8 million, training begins when the first 8
    million of the last source are ready, and the others are prepared meanwhile.

    --resume with more --epochs than a finished run had goes on from its last checkpoint, with the state of the
    optimizer. Over the added steps the learning rate runs its course again, from warm-up to decay, and windows have
    their full length; run.json and recipe.yaml say after which step.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save a checkpoint and end the run, which --resume continues. Under torchrun,
    export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 if the scheduler sends SIGUSR1.
    """
    from axion.recipe import OwnText, load_recipe
    from axion.release import open_release
    from axion.training.run import train as train_model

    shortcuts = {"epochs": epochs, "batch_size": batch_size, "grad_accum": grad_accum}
    options = [f"training.{key}={value}" for key, value in shortcuts.items() if value is not None]
    recipe = load_recipe(version, [*(overrides or []), *options], OwnText(texts or (), name, languages or ()))
    _tell_passed_over(recipe)
    opened = open_release(start) if start is not None else None
    if opened is not None:
        from axion.training.start import starting_from

        recipe = starting_from(recipe, opened)
    with run_to_the_end():
        run = train_model(recipe, out, resume=resume, backend=backend, start=opened)
        _tell_main(f"trained: {run / 'final'}")


def overfit(
    version: Version,
    steps: Annotated[int, typer.Option(min=1, help="The most optimizer steps of each stage.")] = 1000,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The result's folder; runs/NAME-overfit by default.")] = None,
    as_json: Json = False,
) -> None:
    """Check that a recipe's model can learn: one sample, then a small batch, each to a loss below 0.05.

    Dropout, label smoothing and weight decay are off. The folder gets a curve of each stage and overfit.json. Exits
    with 1 where a stage did not reach the loss.
    """
    from axion.recipe import load_recipe
    from axion.training.overfit import TARGET
    from axion.training.overfit import overfit as learn_by_heart

    stages = learn_by_heart(load_recipe(version, overrides or []), out, steps, progress=not as_json)
    reached = all(stage.reached for stage in stages)
    if as_json:
        print(json.dumps({"target": TARGET, "reached": reached, "stages": [asdict(stage) for stage in stages]}))
    else:
        print("\n".join(map(str, stages)))
    if not reached:
        raise typer.Exit(1)


@contextmanager
def run_to_the_end() -> Iterator[None]:
    """Exit as after Ctrl-C when a signal ends the run, with a line that says what was saved."""
    from axion.training.run import Interrupted

    try:
        yield
    except Interrupted as saved:
        _tell_main(str(saved), sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _tell_main(line: str, file: TextIO | None = None) -> None:
    """Prints a line once, although torchrun runs the command in every process."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=file or sys.stdout)


def finetune(
    release: ReleaseName,
    data: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            help="Conversations: a JSONL file, or a data set on the Hub as USER/NAME with an optional @revision; "
            "repeatable.",
        ),
    ],
    lora: Annotated[
        bool,
        typer.Option("--lora", help="Train low-rank adapters (LoRA), merged in final/ and alone in adapter/."),
    ] = False,
    rank: Annotated[int | None, typer.Option(min=1, help="With --lora: the adapters' rank; 16 by default.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 3,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", help="The peak learning rate; 0.006 by default, 0.005 with --lora.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Windows per optimizer step; each holds as many conversations as fit.")
    ] = 8,
    grad_accum: Annotated[int, typer.Option(min=1, help="Micro-batches per optimizer step.")] = 1,
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens of a window; of longer conversations, the answers that fit are read."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the order of the data and the adapters.")] = 1,
    name: Annotated[str | None, typer.Option(help="The new model's name; RELEASE-chat by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint, if any.")] = False,
    backend: Annotated[
        str, typer.Option(help="What computes: torch, native (the kernels), or auto: the kernels where they can.")
    ] = "auto",
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/NAME by default.")] = None,
) -> None:
    """Teach a release to chat: supervised fine-tuning on conversations.

    A record has `messages`, a list of {"role": "system" | "user" | "assistant", "content": "…"}; or `prompt` and
    `completion`; or `instruction`, perhaps `input`, and `output`. Only the assistant's words and the token that ends
    them are learned.

    The result opens like a release and has a chat template. Ctrl-C saves a checkpoint, which --resume continues.
    """
    from axion.recipe import LoraRecipe
    from axion.release import open_release
    from axion.training.finetune import Settings, finetuning_recipe
    from axion.training.run import train as train_model

    if rank is not None and not lora:
        raise AxionError("--rank is the rank of LoRA's adapters: add --lora, or leave it out")
    adapters = LoraRecipe(**{} if rank is None else {"rank": rank}) if lora else None
    opened = open_release(release)
    settings = Settings(name, epochs, learning_rate, batch_size, grad_accum, max_length, seed, adapters)
    recipe = finetuning_recipe(opened, data, settings, overrides or [])
    with run_to_the_end():
        run = train_model(recipe, out, resume=resume, backend=backend, start=opened)
        _tell_main(f"fine-tuned: {run / 'final'}" + (f", adapter: {run / 'adapter'}" if lora else ""))


def _tell_passed_over(recipe: Recipe) -> None:
    """Names the files in folders of data that are not read."""
    for folder, names in recipe.data.files_passed_over().items():
        shown = ", ".join(names[:PASSED_OVER_NAMED]) + (", …" if len(names) > PASSED_OVER_NAMED else "")
        count = "1 file is" if len(names) == 1 else f"{len(names):,} files are"
        _tell_main(f"{folder}: {count} not read because of the suffix: {shown}", sys.stderr)
