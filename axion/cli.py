"""The command line: `python -m axion params|data|train|finetune|generate|chat|eval|export|play`.

Bad input ends with one line on standard error and exit code 2, Ctrl-C with 130 and no message. `--json` prints one JSON
object to standard output and nothing else. Each command imports the heavy libraries that it needs, so `--help` is fast.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TextIO

import typer
from typer.exceptions import Abort, TyperException

from axion.errors import AxionError
from axion.families import ExportFormat
from axion.files import system_error
from axion.options import (
    Json,
    Languages,
    Loops,
    MaxNewTokens,
    MinP,
    Name,
    Overrides,
    ReleaseName,
    RepetitionPenalty,
    SamplingSeed,
    Temperature,
    Texts,
    TopK,
    TopP,
    Version,
)

if TYPE_CHECKING:
    from axion.inference.stream import Step
    from axion.recipe import Recipe
    from axion.release import Release

PASSED_OVER_NAMED = 5
"""How many of the files that are not read are listed."""

CLOSED_PIPE, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes: standard output was closed early (as in typer), bad input, Ctrl-C."""

app = typer.Typer(
    name="axion",
    help="Tiny language models with DeepSeek-V3's architecture: count, train, generate, evaluate, export.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def params(version: Version, as_json: Json = False) -> None:
    """Count a model's parameters, in total, active per token and by component, and the size of its cache."""
    from axion.params import report, table
    from axion.recipe import load_recipe

    recipe = load_recipe(version)
    counted = report(recipe.name, recipe.build_config())
    print(json.dumps(counted) if as_json else table(counted))


@app.command()
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
    from axion.data.prepare import prepare
    from axion.recipe import OwnText, load_recipe

    shortcuts = [] if maximum is None else [f"data.max_documents={maximum}"]
    own = OwnText(texts or (), name, languages or ())
    recipe = load_recipe(version, [*(overrides or []), *shortcuts], own)
    _tell_passed_over(recipe)
    if synthetic:
        recipe = recipe.model_copy(update={"data": recipe.data.generated()})
    prepared = prepare(recipe, out or Path("data"))
    summary, folder = prepared.summary, prepared.folder
    print(json.dumps({"folder": str(folder), **summary}) if as_json else _data_table(summary, folder))


@app.command()
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

    --resume with more --epochs than a finished run had goes on from its last checkpoint, with the state of the
    optimizer. Over the added steps the learning rate runs its course again, from warm-up to decay, and windows have
    their full length; run.json and recipe.yaml say after which step.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save a checkpoint and end the run, which --resume continues. Under torchrun,
    export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 if the scheduler sends SIGUSR1.
    """
    from axion.recipe import OwnText, load_recipe
    from axion.training.run import train as train_model

    shortcuts = {"epochs": epochs, "batch_size": batch_size, "grad_accum": grad_accum}
    options = [f"training.{key}={value}" for key, value in shortcuts.items() if value is not None]
    recipe = load_recipe(version, [*(overrides or []), *options], OwnText(texts or (), name, languages or ()))
    _tell_passed_over(recipe)
    opened = _open(start) if start is not None else None
    if opened is not None:
        from axion.training.start import starting_from

        recipe = starting_from(recipe, opened)
    with _run_to_the_end():
        run = train_model(recipe, out, resume=resume, backend=backend, start=opened)
        _tell_main(f"trained: {run / 'final'}")


@contextmanager
def _run_to_the_end() -> Iterator[None]:
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


@app.command()
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
    from axion.training.finetune import Settings, finetuning_recipe
    from axion.training.run import train as train_model

    if rank is not None and not lora:
        raise AxionError("--rank is the rank of LoRA's adapters: add --lora, or leave it out")
    adapters = LoraRecipe(**{} if rank is None else {"rank": rank}) if lora else None
    opened = _open(release)
    settings = Settings(name, epochs, learning_rate, batch_size, grad_accum, max_length, seed, adapters)
    recipe = finetuning_recipe(opened, data, settings, overrides or [])
    with _run_to_the_end():
        run = train_model(recipe, out, resume=resume, backend=backend, start=opened)
        _tell_main(f"fine-tuned: {run / 'final'}" + (f", adapter: {run / 'adapter'}" if lora else ""))


@app.command()
def generate(
    release: ReleaseName,
    prompt: Annotated[str, typer.Argument(help=r"The text to continue; the two characters \n stand for a line break.")],
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    max_new_tokens: MaxNewTokens = 200,
    seed: SamplingSeed = 0,
    loops: Loops = None,
    mtp: Annotated[
        bool,
        typer.Option(
            "--mtp",
            help="Let the model's layer of multi-token prediction draft, which changes no text; "
            "the share of its guesses that were accepted is printed to standard error.",
        ),
    ] = False,
    show_experts: Annotated[
        bool, typer.Option("--show-experts", help="Also show which experts read each token.")
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            help="The backend: auto, torch or native; the choice and its reason are printed to standard error."
        ),
    ] = None,
) -> None:
    """Continue a prompt, printing tokens as they are generated."""
    from axion.inference.readers import pick_backend
    from axion.inference.sampling import Sampling
    from axion.inference.speculative import Acceptance
    from axion.inference.stream import stream

    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        max_new_tokens=max_new_tokens,
        num_loops=loops or 0,
        seed=seed,
    )
    opened = _open(release)
    if backend is not None and not mtp:
        print(pick_backend(opened.model, backend), file=sys.stderr)
    text, model = prompt.replace("\\n", "\n"), opened.mtp_model if mtp else opened.model
    steps, acceptance = [], Acceptance()
    for step in stream(
        model, opened.tokenizer, text, sampling, backend=backend or "auto", mtp=mtp, acceptance=acceptance
    ):
        steps.append(step)
        if not step.is_prompt:
            print(step.text, end="", flush=True)
    print()
    if mtp:
        print(
            f"multi-token prediction: {acceptance.accepted:,} of {acceptance.guessed:,} guesses accepted "
            f"({acceptance.rate:.0%})",
            file=sys.stderr,
        )
    if show_experts:
        print(_experts_table(opened, steps))


@app.command()
def chat(
    release: ReleaseName,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The system message.")] = None,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    max_new_tokens: MaxNewTokens = 200,
    seed: SamplingSeed = 0,
    loops: Loops = None,
    backend: Annotated[str, typer.Option(help="What computes: auto, torch or native.")] = "auto",
) -> None:
    """Talk to a model: in the terminal, or with a question a line on standard input.

    The oldest turns are dropped when the context is full. A model that was not taught to chat answers each question by
    itself, as on the page.
    """
    from axion.inference.chat import Conversation, can_chat
    from axion.inference.sampling import Sampling
    from axion.terminal import talk

    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    opened = _open(release).with_loops(loops or 0)
    as_problem = not opened.openings
    conversation = Conversation(opened.model, opened.tokenizer, opened.name, sampling, system, backend, as_problem)
    if not can_chat(opened.tokenizer):
        print(
            f"{opened.name} was not taught to chat: it reads each question by itself, in the form of its training data",
            file=sys.stderr,
        )
    talk(conversation)


@app.command(name="eval")
def evaluate(
    release: ReleaseName,
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated; by default, every task whose data is available.")
    ] = None,
    loops: Loops = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Measure loss on held-out documents, unseen sums, GSM8K's test set, expert load, speed and memory.

    The data is that of the release's own recipe. A model that was trained on local files needs the same files again; a
    data set on the Hub can also be read from local copies, with --set data.sources.gsm8k.files=train.jsonl and
    --set data.sources.gsm8k.test_files=test.jsonl.
    """
    from axion.evaluation.evaluate import evaluate as measure
    from axion.recipe import load_recipe

    opened = _open(release).with_loops(loops or 0)
    if opened.recipe_file is None:
        raise AxionError(f"{release} has no recipe.yaml, which says what data it was trained on")
    trained_on = load_recipe(opened.recipe_file, overrides or []).data
    for note in trained_on.other_files():
        print(f"note: {note}", file=sys.stderr)
    names = [name.strip() for name in tasks.split(",")] if tasks is not None else None
    arguments = [release, *(("--loops", str(loops)) if loops else ())]
    arguments += [part for override in overrides or [] for part in ("--set", override)]
    progress = sys.stderr.isatty()
    results = measure(opened, trained_on, names, progress, arguments=arguments, list_inapplicable=True)
    print(json.dumps({"release": opened.name, "results": results}) if as_json else _results_table(results))


@app.command()
def export(
    release: ReleaseName,
    to: Annotated[
        ExportFormat,
        typer.Option(help="native: for transformers without remote code; gguf: for llama.cpp."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder; exports/NAME-native or exports/NAME-gguf by default.")
    ] = None,
    dtype: Annotated[
        Literal["f32", "f16", "q8_0"] | None,
        typer.Option(help="How a GGUF file stores its matrices; f32, which is exact, by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a release as a checkpoint for transformers without remote code, or as a GGUF file for llama.cpp."""
    if to == "native" and dtype is not None:
        raise AxionError("--dtype goes with --to gguf; a native checkpoint is in fp32, as the release is")
    from axion.export import deliver, export_name

    opened = _open(release)
    name = export_name(opened)
    if to == "native":
        from transformers.utils.logging import disable_progress_bar

        from axion.export.native import write_native

        disable_progress_bar()  # transformers shows one for every file it writes

        target = out or Path("exports") / f"{name}-native"
        written = deliver(opened, lambda folder: write_native(opened, folder), target)
    else:
        from axion.export.gguf import write_gguf

        kind = dtype or "f32"
        target = out or Path("exports") / f"{name}-gguf"
        written = deliver(opened, lambda folder: write_gguf(opened, folder / f"{name}-{kind}.gguf", kind), target)
    sizes = {str(path): path.stat().st_size for path in written}
    lines = [f"{path}  {size:,} bytes" for path, size in sizes.items()]
    print(json.dumps({"release": opened.name, "to": to, "files": sizes}) if as_json else "\n".join(lines))


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def play(context: typer.Context) -> None:
    """Serve the playground, a page that shows the experts at work; `axion play --help` lists its options."""
    from importlib.metadata import entry_points

    found = entry_points(group="axion.commands", name="play")  # the playground's own: nothing here imports it
    if not found:
        raise AxionError("the playground is not installed: run `python app.py` in a clone, or `pip install -e .` first")
    next(iter(found)).load()(context.args, program="axion play")


def _open(reference: str) -> Release:
    from axion.release import open_release

    return open_release(reference)


def _tell_passed_over(recipe: Recipe) -> None:
    """Names the files in folders of data that are not read."""
    for folder, names in recipe.data.files_passed_over().items():
        shown = ", ".join(names[:PASSED_OVER_NAMED]) + (", …" if len(names) > PASSED_OVER_NAMED else "")
        count = "1 file is" if len(names) == 1 else f"{len(names):,} files are"
        _tell_main(f"{folder}: {count} not read because of the suffix: {shown}", sys.stderr)


# --- Tables ---------------------------------------------------------------------------------------------


def _data_table(summary: dict, folder: Path) -> str:
    lines = [f"{'':<24}{'documents':>12}{'tokens':>12}{'bytes':>12}"]
    for split in ("train", "validation"):
        rows = [(split, summary[split])]
        rows += [(f"  {source}", counts) for source, counts in summary[split]["by_source"].items()]
        lines += [f"{n:<24}{c['documents']:>12,}{c['tokens']:>12,}{c['bytes']:>12,}" for n, c in rows]
    lines.append(f"dropped for held-out operand pairs: {summary['dropped_for_held_out_pairs']:,}")
    lines.append(f"written to {folder}")
    return "\n".join(lines)


MAX_TOKEN_ROWS = 40


def _experts_table(release: Release, steps: Sequence[Step]) -> str:
    """Each expert's share of the new tokens by layer, then the experts of each of the last `MAX_TOKEN_ROWS` tokens."""
    new = [step for step in steps if not step.is_prompt]
    if not new:
        return "\nno token was generated, so there is no routing to show"
    config, rows = release.config, new[0].routing.rows
    if not rows:
        return "\nthe model has no experts: every token passes through all of its weights"
    labels = [row.label(rows) for row in rows]
    experts, chosen = config.n_routed_experts, config.num_experts_per_tok
    margin = max(10, *map(len, labels))
    lines = [
        "",
        f"experts that read the {len(new)} new tokens, {chosen} of {experts} a layer (fair: {chosen / experts:.0%})",
        " " * margin + "".join(f"{f'E{expert + 1}':>6}" for expert in range(experts)),
    ]
    for index, label in enumerate(labels):
        reads = [expert for step in new for expert in step.routing.experts[index]]
        shares = "".join(f"{reads.count(expert) / len(new):>6.0%}" for expert in range(experts))
        lines.append(f"{label:<{margin}}{shares}")
    width = max(3 * chosen, *map(len, labels)) + 2
    lines += [
        "",
        f"{'token':<14}{'p':>6}" + "".join(f"{label:>{width}}" for label in labels),
    ]
    for step in new[-MAX_TOKEN_ROWS:]:
        cells = (" ".join(f"E{expert + 1}" for expert in layer_experts) for layer_experts in step.routing.experts)
        text = json.dumps(step.text, ensure_ascii=False)[:13]
        lines.append(f"{text:<14}{step.probability:>6.2f}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)


def _results_table(results: dict) -> str:
    from axion.evaluation.results import result_rows, skipped_tasks

    rows = result_rows(results)
    label, value = (max((len(getattr(row, name)) for row in rows), default=0) for name in ("label", "value"))
    lines = [f"{row.label:{label}}  {row.value:>{value}}  {row.note}".rstrip() for row in rows]
    return "\n".join([*lines, *(f"{task}: skipped: {reason}" for task, reason in skipped_tasks(results).items())])


# --- Exit codes -------------------------------------------------------------------------------------------


def run(application: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Runs a typer application and returns its exit code: 0 on success, 2 for bad input, 130 for Ctrl-C.

    Bad input, wrong usage included, prints one line to standard error that starts with "error:".
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(application)(arguments or ["--help"], standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except AxionError as error:
        return _refuse(str(error))
    except TyperException as error:
        return _refuse(f"{error.format_message().rstrip('.')}; see --help")
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except BrokenPipeError:  # for example `axion generate … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:  # a folder where a file should be, a full disk, no permission
        reason = system_error(error)
        if reason is None:
            raise
        file = getattr(error, "filename", None)
        return _refuse(f"{file}: {reason}" if file else f"a file cannot be written: {reason}")


def _refuse(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return MISTAKE


def run_and_exit(application: typer.Typer) -> NoReturn:
    """What a console script does: runs the application, with output in UTF-8, and exits with its code."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, TextIOWrapper):
            output.reconfigure(encoding="utf-8")  # models write UTF-8, whatever the terminal's locale is
    sys.exit(run(application))


def main() -> None:
    """The console script `axion`."""
    run_and_exit(app)
