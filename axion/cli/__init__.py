"""The command line, `python -m axion …`: params, data, train, overfit, finetune, generate, chat, eval, compare,
reproduce, scale, export, play.

Bad input ends with one line on standard error and exit code 2, Ctrl-C with 130 and no message. `--json` prints one JSON
object to standard output and nothing else. Each command imports the heavy libraries that it needs, so `--help` is fast.
"""

import typer

from axion.cli.comparisons import compare, reproduce
from axion.cli.exits import run, run_and_exit
from axion.cli.experiments import scale
from axion.cli.play import play
from axion.cli.recipes import data, finetune, overfit, params, train
from axion.cli.releases import chat, evaluate, export, generate

__all__ = ["app", "main", "run", "run_and_exit"]

app = typer.Typer(
    name="axion",
    help="Tiny language models with DeepSeek-V3's architecture: count, train, generate, evaluate, compare, export.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (params, data, train, overfit, finetune, generate, chat):
    app.command()(command)
app.command("eval")(evaluate)
app.command()(compare)
app.command()(reproduce)
app.command()(scale)
app.command()(export)
app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})(play)


def main() -> None:
    """The console script `axion`."""
    run_and_exit(app)
