"""The command line: `python -m publish VERSION --repo-id USER/NAME`, the one-command release, and what belongs to it.

A mistake of the user is one line on standard error and exit code 2, as in `axion.cli`. There is no option for a token:
it would end up in the shell's history.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from axion.cli import Json, Overrides, Version, run_and_exit

if TYPE_CHECKING:
    from publish.pipeline import Order
    from publish.steps import Steps


class Machine(StrEnum):
    """Where a command does its work."""

    HERE = "here"
    JOBS = "jobs"


class ReleaseByDefault(TyperGroup):
    """`python -m publish axion1-v0.1 …` means `python -m publish release axion1-v0.1 …`."""

    def parse_args(self, ctx, args):
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["release", *args]
        ctx.obj = args[1:]  # as they were typed, for a Job that is to run the same command
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
    bool, typer.Option("--dry-run", help="Build and verify, push nothing. With --skip-train: no network.")
]
ReplaceCard = Annotated[bool, typer.Option("--replace-card", help="Write our card over readers' edits of it.")]
Exports = Annotated[
    bool, typer.Option("--exports", help="Publish the -native and -GGUF forms too, each in a repository of its own.")
]


@app.command()
def release(
    context: typer.Context,
    version: Version,
    repo_id: RepoId,
    private: Private = False,
    dry_run: DryRun = False,
    skip_train: Annotated[
        bool, typer.Option("--skip-train", help="Take the newest finished run, else the release as it stands.")
    ] = False,
    run_folder: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Take this finished run instead of training.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Push to a branch, which is verified and not tagged.")
    ] = None,
    pull_request: Annotated[bool, typer.Option("--pr", help="Propose it in a pull request, not tagged.")] = False,
    exports: Exports = False,
    space: Annotated[bool, typer.Option("--space", help="Publish a Space too that shows this release.")] = False,
    replace_card: ReplaceCard = False,
    machine: Annotated[
        Machine, typer.Option("--on", help="Run all of it here, or as a Job on rented hardware of the Hub.")
    ] = Machine.HERE,
    flavor: Annotated[
        str | None, typer.Option(help="With --on jobs: the hardware, as `hf jobs hardware` lists.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(help="With --on jobs: stop after so long, such as 90m or 2h.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train a recipe's model, evaluate it, build its release, check it, push it, verify it from the Hub, tag it."""
    from axion.errors import AxionError
    from publish.hub.delivery import Terms
    from publish.pipeline import Order, publish

    if branch is not None and pull_request:
        raise AxionError("--branch and --pr exclude each other: a pull request has a branch of its own")
    if machine is Machine.HERE and (flavor or timeout):
        raise AxionError(
            f"{'--flavor' if flavor else '--timeout'} says what a Job gets: add --on jobs, or leave it out"
        )
    if machine is Machine.JOBS and dry_run:
        raise AxionError("a Job that publishes nothing still costs: leave --dry-run out, or --on jobs")
    _quiet()
    terms = Terms(private, branch, pull_request, replace_card)
    steps = _steps(as_json)
    order = Order(version, repo_id, tuple(overrides or ()), dry_run, skip_train, run_folder, exports, space, terms)
    if machine is Machine.JOBS:
        _submit(order, context.obj, {"flavor": flavor, "timeout": timeout}, as_json)
    else:
        _finish([publish(order, steps)], steps, as_json)


def _submit(order: Order, arguments: list[str], wanted: dict[str, str | None], as_json: bool) -> None:
    """Check what can be checked here, then have the same command run as a Job."""
    from publish.jobs import JobOrder, describe, submit
    from publish.pipeline import preflight

    recipe, _ = preflight(order)
    wanted = {name: value for name, value in wanted.items() if value}
    job = submit(JobOrder(recipe.name, _without(arguments, "--on", *(f"--{name}" for name in wanted)), **wanted))
    print(json.dumps({"job": job.id, "url": job.url}) if as_json else describe(job))


def _without(arguments: list[str], *options: str) -> tuple[str, ...]:
    """The arguments without these options and their values."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument.partition("=")[0] not in options:
            kept.append(argument)
        skip = not skip and argument in options
    return tuple(kept)


@app.command(name="all")
def release_all(
    user: Annotated[str | None, typer.Option(help="Whose repositories they are; by default the token's own.")] = None,
    private: Private = False,
    dry_run: DryRun = False,
    exports: Exports = False,
    replace_card: ReplaceCard = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Publish every version of the series that has a recipe; what is trained and built already is not made again."""
    from publish.hub.delivery import Terms
    from publish.pipeline import Order, publish_all

    _quiet()
    steps, terms = _steps(as_json), Terms(private=private, replace_card=replace_card)

    def order(version: str, repo_id: str) -> Order:
        return Order(version, repo_id, tuple(overrides or ()), dry_run, exports=exports, terms=terms)

    _finish(publish_all(order, user, steps), steps, as_json)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A release folder.")],
) -> None:
    """Look a release folder over for what publishers get wrong; nothing in it is run, nothing is sent."""
    from axion.errors import AxionError
    from publish.check.lint import RULES, lint

    problems = lint(folder)
    for problem in problems:
        print(problem)
    if problems:
        raise AxionError(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {folder}")
    print(f"{len(RULES)} rules, nothing found")


@app.command()
def verify(
    release: Annotated[str, typer.Argument(metavar="USER/NAME@REVISION", help="A release on the Hub.")],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run its code even where it is not this version's of Axion.")
    ] = False,
) -> None:
    """Download a release into a fresh cache, check every file, load it in a clean process, run its card's snippets."""
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
            help="A published model to show; without one the bundled release goes up.",
        ),
    ] = None,
    hardware: Annotated[str | None, typer.Option(help="Such as zero-a10g, which is free, or cpu-basic.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stage it and try it out here: no network.")] = False,
    replace_card: Annotated[
        bool, typer.Option("--replace-card", help="Write our README.md over what was made of it on the Hub.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish the playground as a Space, try the very folder out first, and wait until it runs."""
    from publish.space.publish import SpaceOrder
    from publish.space.publish import publish_space as publish

    _quiet()
    steps = _steps(as_json)
    place = publish(SpaceOrder(repo_id, tuple(models or ()), private, dry_run, hardware, replace_card), steps)
    print(json.dumps({"space": place, "steps": steps.summary()}) if as_json else place)


def _quiet() -> None:
    """The steps are told line by line; bars for every file that is read, written or sent would drown them."""
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    hub_logging.set_verbosity_error()


def _steps(as_json: bool) -> Steps:
    """Steps go to standard output, except where JSON does."""
    from publish.steps import Steps

    return Steps(lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True))


def _finish(summaries: list[dict], steps: Steps, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"releases": summaries, "steps": steps.summary()}))
        return
    for summary in summaries:
        if "url" in summary:
            print(f"\n{summary['url']}\n\n{summary['snippet']}")


def main() -> None:
    """The console script `axion-publish`."""
    run_and_exit(app)
