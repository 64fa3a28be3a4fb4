"""The command line: `python -m publish VERSION --repo-id USER/NAME`, and related commands.

As in `axion.cli`, user errors are one line on standard error and exit code 2. There is no option for a token, since it
would end up in the shell's history.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer.core import TyperGroup

from axion.cli import run_and_exit
from axion.options import Json, Languages, Name, Overrides, Texts, Version

if TYPE_CHECKING:
    from publish.pipeline import PublishRequest
    from publish.steps import Steps


class Machine(StrEnum):
    """Where a command runs."""

    HERE = "here"
    JOBS = "jobs"


class ReleaseByDefault(TyperGroup):
    """`python -m publish axion1-v0.1 …` means `python -m publish release axion1-v0.1 …`."""

    def parse_args(self, ctx, args):
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["release", *args]
        ctx.obj = args[1:]  # as typed, for a Job that runs the same command
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="publish",
    cls=ReleaseByDefault,
    help="From a recipe to a verified, tagged release on the Hugging Face Hub.",
    epilog="`python -m publish VERSION …` is short for `python -m publish release VERSION …`.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RepoId = Annotated[str, typer.Option("--repo-id", metavar="USER/NAME", help="The repository on the Hub.")]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Build and verify, but push nothing. With --skip-train, no network is needed.")
]
ReplaceCard = Annotated[bool, typer.Option("--replace-card", help="Discard others' edits of the card on the Hub.")]
Overwrite = Annotated[
    list[str] | None,
    typer.Option(
        "--overwrite",
        metavar="[USER/NAME:]FILE",
        help="Discard others' edits of this file on the Hub, by default in --repo-id; repeatable.",
    ),
]
Hardware = Annotated[str | None, typer.Option(help="The Space's hardware, such as zero-a10g (free) or cpu-basic.")]
Exports = Annotated[
    bool, typer.Option("--exports", help="Also publish the -native and -GGUF forms, each in a repository of its own.")
]


@app.command()
def release(
    context: typer.Context,
    version: Version,
    repo_id: RepoId,
    private: Private = False,
    dry_run: DryRun = False,
    skip_train: Annotated[
        bool, typer.Option("--skip-train", help="Use the newest finished run, or else the existing release.")
    ] = False,
    run_folder: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Use this finished run instead of training.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Push to a branch, which is verified but not tagged.")
    ] = None,
    pull_request: Annotated[bool, typer.Option("--pr", help="Open a pull request, which is not tagged.")] = False,
    exports: Exports = False,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Also publish the LoRA adapter of a fine-tuning run, as USER/NAME-LoRA.")
    ] = False,
    history: Annotated[
        bool,
        typer.Option("--history", help="Also publish the checkpoints that the run keeps, as branches stepN-tokensMM."),
    ] = False,
    space: Annotated[bool, typer.Option("--space", help="Also publish a Space that shows this release.")] = False,
    static: Annotated[
        bool, typer.Option("--static", help="With --space: one without a server, in visitors' browsers.")
    ] = False,
    hardware: Hardware = None,
    replace_card: ReplaceCard = False,
    overwrite: Overwrite = None,
    machine: Annotated[
        Machine, typer.Option("--on", help="Run here, or as a Job on rented hardware of the Hub.")
    ] = Machine.HERE,
    flavor: Annotated[str | None, typer.Option(help="With --on jobs: the hardware, see `hf jobs hardware`.")] = None,
    timeout: Annotated[str | None, typer.Option(help="With --on jobs: the time limit, such as 90m or 2h.")] = None,
    texts: Texts = None,
    name: Name = None,
    languages: Languages = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train a recipe's model, evaluate it, build and check its release, push it, verify it from the Hub, and tag it."""
    from axion.errors import AxionError
    from axion.recipe import OwnText
    from publish.hub.delivery import PushOptions
    from publish.pipeline import PublishRequest, publish

    if branch is not None and pull_request:
        raise AxionError("--branch and --pr cannot be combined: a pull request has a branch of its own")
    if hardware and not space:
        raise AxionError("--hardware is the Space's: add --space, or omit it; --flavor is the hardware of a Job")
    if static and not space:
        raise AxionError("--static is the Space's: add --space, or omit it")
    if machine is Machine.HERE and (flavor or timeout):
        raise AxionError(f"{'--flavor' if flavor else '--timeout'} only applies to Jobs: add --on jobs, or omit it")
    if machine is Machine.JOBS and dry_run:
        raise AxionError("a Job costs money even if it publishes nothing: omit --dry-run or --on jobs")
    _quiet()
    push, discarded = PushOptions(private, branch, pull_request), _overwritten(overwrite, replace_card)
    steps, sets = _steps(as_json), tuple(overrides or ())
    request = PublishRequest(
        version,
        repo_id,
        sets,
        dry_run,
        skip_train,
        run_folder,
        exports,
        space,
        hardware,
        push,
        discarded,
        OwnText(texts or (), name, languages or ()),
        adapter,
        history,
        static,
    )
    if machine is Machine.JOBS:
        _submit(request, context.obj, {"flavor": flavor, "timeout": timeout}, as_json)
    else:
        _finish([publish(request, steps)], steps, as_json)


def _submit(request: PublishRequest, arguments: list[str], hardware: dict[str, str | None], as_json: bool) -> None:
    """Run the preflight checks here, then submit the same command as a Job."""
    from axion.errors import AxionError
    from publish.jobs import JobRequest, describe, submit
    from publish.pipeline import preflight

    recipe, _ = preflight(request)
    if recipe.start:
        raise AxionError(f"{recipe.name} is fine-tuned, and a Job only trains from scratch: omit --on jobs")
    given = {name: value for name, value in hardware.items() if value}
    job = submit(JobRequest(recipe, _without(arguments, "--on", *(f"--{name}" for name in given)), **given))
    print(json.dumps({"job": job.id, "url": job.url}) if as_json else describe(job))


def _overwritten(files: list[str] | None, replace_card: bool) -> frozenset[str]:
    return frozenset([*(files or ()), *(["README.md"] if replace_card else [])])


def _without(arguments: list[str], *options: str) -> tuple[str, ...]:
    """The arguments without some options and their values."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument.partition("=")[0] not in options:
            kept.append(argument)
        skip = not skip and argument in options
    return tuple(kept)


@app.command(name="all")
def release_all(
    user: Annotated[str | None, typer.Option(help="Owner of the repositories; by default the token's user.")] = None,
    private: Private = False,
    dry_run: DryRun = False,
    exports: Exports = False,
    replace_card: ReplaceCard = False,
    overwrite: Overwrite = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Publish every version of the series that has a recipe; finished runs and releases are reused."""
    from publish.hub.delivery import PushOptions
    from publish.pipeline import PublishRequest, publish_all

    _quiet()
    steps, push = _steps(as_json), PushOptions(private)
    sets, discarded = tuple(overrides or ()), _overwritten(overwrite, replace_card)

    def request(version: str, repo_id: str) -> PublishRequest:
        return PublishRequest(version, repo_id, sets, dry_run, exports=exports, push=push, overwrite=discarded)

    _finish(publish_all(request, user, steps), steps, as_json)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A release folder.")],
) -> None:
    """Check a release folder for common publishing mistakes, without running its code or sending anything."""
    from axion.errors import AxionError
    from publish.check.lint import RULES, lint

    problems = lint(folder)
    for problem in problems:
        print(problem)
    if problems:
        raise AxionError(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {folder}")
    print(f"{len(RULES)} rules, no problems")


@app.command()
def refresh(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A release folder.")],
    tasks: Annotated[
        str | None,
        typer.Option(help="What is measured where the release has no results of it, as for `axion eval`."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder of local copies of data, as for `axion eval`."),
    ] = None,
) -> None:
    """Bring a release folder up to date: code, card, held-out documents, recorded examples, the experts' favourite
    tokens, results of newer tasks. The weights stay."""
    from publish.manifest import check_release
    from publish.release import build
    from publish.release.measure import measure_missing, missing_favourites, missing_held_out

    _quiet()
    info = check_release(folder)
    names = [name.strip() for name in tasks.split(",")] if tasks is not None else None
    measured, texts = measure_missing(folder, names, data), missing_held_out(folder, data)
    known = info.get("exports", ()), info.get("space")
    build.refresh(folder, info["repo_id"], folder, *known, measured, texts, missing_favourites(folder, data))
    print(f"{folder} is up to date")


@app.command()
def verify(
    release: Annotated[str, typer.Argument(metavar="USER/NAME@REVISION", help="A release on the Hub.")],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run its code even if it differs from this version of Axion.")
    ] = False,
) -> None:
    """Download a release into a fresh cache, check every file, load it in a clean process, run the card's snippets."""
    from publish.hub.verify import verify_published

    _quiet()
    verify_published(release, _steps(as_json=False), trust_remote_code)


@app.command(name="space")
def publish_space(
    repo_id: Annotated[str, typer.Option("--repo-id", metavar="USER/NAME", help="The Space on the Hub.")],
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="USER/MODEL@REV",
            help="A published model to show; by default the bundled release.",
        ),
    ] = None,
    hardware: Hardware = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    static: Annotated[
        bool, typer.Option("--static", help="Publish the page without a server: the model runs in visitors' browsers.")
    ] = False,
    linked: Annotated[
        bool,
        typer.Option("--link-weights", help="With --static: leave the weights in the models' repositories."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build it and run it here, without a network.")] = False,
    replace_card: ReplaceCard = False,
    overwrite: Overwrite = None,
    as_json: Json = False,
) -> None:
    """Publish the playground as a Space: run it here first, push it, and wait until it runs."""
    from publish.hub.edits import files_to_overwrite
    from publish.space.publish import SpaceRequest
    from publish.space.publish import publish_space as publish

    _quiet()
    steps = _steps(as_json)
    discarded = files_to_overwrite(_overwritten(overwrite, replace_card), repo_id, repo_id)
    request = SpaceRequest(repo_id, tuple(models or ()), private, dry_run, hardware, discarded, static, linked)
    where = publish(request, steps)
    print(json.dumps({"space": where, "steps": steps.as_json()}) if as_json else where)


@app.command(name="page")
def write_page(
    releases: Annotated[
        list[str],
        typer.Argument(metavar="RELEASE…", help="Folders, names under releases/, or Hub ids with their commit."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder, or an earlier page.")],
    as_json: Json = False,
) -> None:
    """Write the page without a server: a folder for any static host, and one .html that opens from a USB stick."""
    from publish.space.page import write_page as write

    written = write(releases, out)
    print(json.dumps(written) if as_json else "\n".join(written.values()))


def _quiet() -> None:
    """Turn off the libraries' progress bars and hints, which would bury the lines of the steps."""
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    hub_logging.set_verbosity_error()
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.WARNING)  # says what it waits for


def _steps(as_json: bool) -> Steps:
    """Steps are printed to standard output, or to standard error if JSON goes to standard output."""
    from publish.steps import Steps

    return Steps(lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True))


def _finish(summaries: list[dict], steps: Steps, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"releases": summaries, "steps": steps.as_json()}))
        return
    for summary in summaries:
        if "url" in summary:
            print(f"\n{summary['url']}\n\n{summary['snippet']}")


_TERMINATED = b"terminated; run the same command again to continue\n"


def main() -> None:
    """The console script `axion-publish`."""
    signal.signal(signal.SIGTERM, _end)
    run_and_exit(app)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End as after an error, so that temporary folders are removed and child processes are stopped."""
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clean-up
    with suppress(OSError):  # the terminal may be gone
        os.write(2, _TERMINATED)  # not print: the signal may arrive while a step is being printed
    sys.exit(128 + number)
