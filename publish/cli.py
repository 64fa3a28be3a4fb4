"""The command line: `python -m publish VERSION --repo-id USER/NAME`, the one-command release.

A mistake of the user is one line on standard error and exit code 2, as in `axion.cli`. There is no option for a token:
it would end up in the shell's history.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from axion.cli import Overrides, Version, run

app = typer.Typer(
    name="publish",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def release(
    version: Version,
    repo_id: Annotated[str, typer.Option("--repo-id", metavar="USER/NAME", help="The repository on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build and verify, push nothing: no network.")] = False,
    skip_train: Annotated[
        bool, typer.Option("--skip-train", help="Take the newest finished run, else the release as it stands.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Train a recipe's model, evaluate it, build its release, verify it in a clean process, push it and tag it."""
    from transformers.utils.logging import disable_progress_bar

    from publish.pipeline import Order, publish

    disable_progress_bar()  # transformers shows one for every file that it reads or writes

    publish(Order(version, repo_id, tuple(overrides or ()), private, dry_run, skip_train))


def main() -> None:
    """The console script."""
    for output in (sys.stdout, sys.stderr):
        output.reconfigure(encoding="utf-8")
    sys.exit(run(app))
