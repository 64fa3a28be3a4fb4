"""Commands that take a release: `generate`, `chat`, `eval`, `export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from axion.cli.tables import experts_table, results_table
from axion.errors import AxionError
from axion.families import ExportFormat
from axion.options import (
    Bias,
    Force,
    Json,
    Loops,
    MaxNewTokens,
    MinP,
    Mute,
    MuteHead,
    Overrides,
    ReleaseName,
    RepetitionPenalty,
    SamplingSeed,
    Scale,
    Temperature,
    TopExperts,
    TopK,
    TopP,
    Weights,
)

if TYPE_CHECKING:
    from axion.data.recipe import DataRecipe
    from axion.kernels.stored import Decodable
    from axion.release import Release


def generate(
    release: ReleaseName,
    prompt: Annotated[str, typer.Argument(help=r"The text to continue; the two characters \n stand for a line break.")],
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Stop after this many tokens: 200 by default; with --ask, all that fit the context."),
    ] = None,
    seed: SamplingSeed = 0,
    loops: Loops = None,
    ask: Annotated[
        bool,
        typer.Option(
            "--ask",
            help="The prompt is a question or a bare sum: it is put into the form that the model was taught, and what "
            "the model thinks is set apart from its answer.",
        ),
    ] = False,
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
    mute: Mute = None,
    force: Force = None,
    top_experts: TopExperts = None,
    bias: Bias = None,
    scale: Scale = None,
    mute_head: MuteHead = None,
    weights: Weights = "fp32",
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
    from axion.release import open_release
    from axion.terminal import ThoughtPrinter, asked_prompt

    opened = open_release(release)
    model, tokenizer = opened.for_generation(backend or "auto", weights, mtp, chats=ask)
    model = tampered(model, mute, force, top_experts, bias, scale, mute_head)
    if max_new_tokens is None:
        max_new_tokens = model.config.max_position_embeddings if ask else Sampling.max_new_tokens
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
    if backend is not None and not mtp:
        print(pick_backend(model, backend), file=sys.stderr)
    text = prompt.replace("\\n", "\n")
    if ask:
        text = asked_prompt(opened, text, tokenizer)
    show = ThoughtPrinter() if ask else partial(print, end="", flush=True)
    steps, acceptance = [], Acceptance()
    for step in stream(model, tokenizer, text, sampling, backend=backend or "auto", mtp=mtp, acceptance=acceptance):
        steps.append(step)
        if not step.is_prompt:
            show(step.text)
    show("\n")
    if mtp:
        print(
            f"multi-token prediction: {acceptance.accepted:,} of {acceptance.guessed:,} guesses accepted "
            f"({acceptance.rate:.0%})",
            file=sys.stderr,
        )
    if show_experts:
        print(experts_table(model.config, steps))


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
    mute: Mute = None,
    force: Force = None,
    top_experts: TopExperts = None,
    bias: Bias = None,
    scale: Scale = None,
    mute_head: MuteHead = None,
    weights: Weights = "fp32",
    backend: Annotated[str, typer.Option(help="What computes: auto, torch or native.")] = "auto",
) -> None:
    """Talk to a model: in the terminal, or with a question a line on standard input.

    The oldest turns are dropped when the context is full. A model that was not taught to chat answers each question by
    itself, as on the page.
    """
    from axion.inference.chat import Conversation, can_chat
    from axion.inference.sampling import Sampling
    from axion.inference.variants import with_loops
    from axion.release import open_release
    from axion.terminal import talk, terminal_language

    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    opened = open_release(release)
    model, tokenizer = opened.for_generation(backend, weights, chats=True)
    model = tampered(model, mute, force, top_experts, bias, scale, mute_head)
    as_problem, chooses = not opened.openings, opened.thinks
    answering = with_loops(model, loops or 0)
    asking = {"as_problem": as_problem, "chooses": chooses, "language": terminal_language()}
    conversation = Conversation(answering, tokenizer, opened.name, sampling, system, backend, **asking)
    if not can_chat(tokenizer):
        print(
            f"{opened.name} was not taught to chat: it reads each question by itself, in the form of its training data",
            file=sys.stderr,
        )
    talk(conversation)


def evaluate(
    release: ReleaseName,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names of tasks and sets of tasks: card (the default), what a release's card states; "
            "quick, what takes about a minute for a small model; all. What a set has no data for is skipped."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of local copies, each read where it is there: gsm8k/train.jsonl, gsm8k/test.jsonl, "
            "text_en/tinystories_sample.txt, text_en/grimm_household_tales.txt, text_en/african_storybook_en.txt, "
            "text_pt/african_storybook_pt.txt, text_pt/machado_contos_part.txt, text_pt/machado_romances.txt, "
            "text_pt/ptwiki_valid.txt, eval/singleop.jsonl, eval/BLiMP.zip, eval/arc_easy.jsonl.",
        ),
    ] = None,
    lm_eval: Annotated[
        Path | None,
        typer.Option(
            "--lm-eval",
            metavar="DIR",
            help="Instead of measuring, write the tasks for lm-eval-harness into a new folder, and print the command "
            "that runs them there: validation, gsm8k_test, blimp, arc_easy, or those of them that --tasks names.",
        ),
    ] = None,
    loops: Loops = None,
    weights: Weights = "fp32",
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Measure loss, right answers, experts, calibration, speed and memory of a model, with 95% intervals.

    The held-out documents are those of the release's own recipe. A model that was trained on local files needs the same
    files again. A data set on the Hub can also be read from local copies: GSM8K with --data, any with
    --set data.sources.KIND.files=FILE.
    """
    from axion.evaluation.evaluate import evaluate as measure
    from axion.release import open_release

    opened = open_release(release).with_loops(loops or 0).with_weights(weights)
    trained_on = data_of(opened, overrides or ())
    names = [name.strip() for name in tasks.split(",")] if tasks is not None else None
    if lm_eval is not None:
        from axion.evaluation.harness import TASKS, write_tasks
        from axion.evaluation.subject import Subject, with_copies

        if loops or weights != "fp32":
            raise AxionError("lm-eval measures a release as it is: leave out --loops and --weights")
        subject = Subject(opened, with_copies(trained_on, data) if data else trained_on, folder=data)
        command = write_tasks(subject, names or [*TASKS], lm_eval)
        print(json.dumps({"release": opened.name, "command": command}) if as_json else command)
        return
    arguments = [release, *(("--loops", str(loops)) if loops else ())]
    arguments += ["--weights", weights] if weights != "fp32" else []
    arguments += ["--data", str(data)] if data else []
    arguments += [part for override in overrides or [] for part in ("--set", override)]
    progress = sys.stderr.isatty()
    seconds: dict[str, float] = {}
    results = measure(
        opened, trained_on, names, progress, None, arguments, list_inapplicable=True, folder=data, seconds=seconds
    )
    content = {"release": opened.name, "results": results, "seconds": seconds}
    print(json.dumps(content) if as_json else results_table(results))


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
    from axion.release import open_release

    if to == "native" and dtype is not None:
        raise AxionError("--dtype goes with --to gguf; a native checkpoint is in fp32, as the release is")
    from axion.export import deliver, export_name

    opened = open_release(release)
    name = export_name(opened)
    if to == "native":
        from transformers.utils.logging import disable_progress_bar

        from axion.export.native import OLDEST_DRAFTING_TRANSFORMERS, drafting_line, write_native

        disable_progress_bar()  # transformers shows one for every file it writes

        target = out or Path("exports") / f"{name}-native"
        written = deliver(opened, lambda folder: write_native(opened, folder), target)
        if line := drafting_line(opened.config):
            version = f"transformers {OLDEST_DRAFTING_TRANSFORMERS} or newer"
            print(f"for generate(use_mtp=True) of {version}, before loading: {line}", file=sys.stderr)
    else:
        from axion.export.gguf import write_gguf

        kind = dtype or "f32"
        target = out or Path("exports") / f"{name}-gguf"
        written = deliver(opened, lambda folder: write_gguf(opened, folder / f"{name}-{kind}.gguf", kind), target)
    sizes = {str(path): path.stat().st_size for path in written}
    lines = [f"{path}  {size:,} bytes" for path, size in sizes.items()]
    print(json.dumps({"release": opened.name, "to": to, "files": sizes}) if as_json else "\n".join(lines))


def tampered(model: Decodable, *changes: object) -> Decodable:
    """The model with changes to its experts and heads, which are printed to standard error.

    Args:
        changes: the values of the options for them, in the order of `axion.tampering.NAMES`.

    Raises:
        AxionError: a change is wrong or does not fit the model.
    """
    from axion.inference.variants import with_tampering
    from axion.tampering import NAMES, read_tampering

    if tampering := read_tampering(dict(zip(NAMES, changes, strict=True))):
        model = with_tampering(model, tampering)
        print(f"the model is tampered with: {tampering}", file=sys.stderr)
    return model


def data_of(release: Release, overrides: Sequence[str]) -> DataRecipe:
    """The data that a release was trained on, with overrides; says where local files are not those of its training.

    Raises:
        AxionError: it has no recipe.
    """
    from axion.recipe import load_recipe

    if release.recipe_file is None:
        raise AxionError(f"{release.name} has no recipe.yaml, which says what data it was trained on")
    data = load_recipe(release.recipe_file, overrides).data
    for note in data.other_files():
        print(f"note: {note}", file=sys.stderr)
    return data
