"""How a command ends: its exit code, and the one line that says what was wrong."""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

import typer
from typer.exceptions import Abort, TyperException

from axion.errors import AxionError
from axion.files import system_error
from axion.machine import collect_garbage_rarely

CLOSED_PIPE, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes: standard output was closed early (as in typer), bad input, Ctrl-C."""


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
    except Exception as error:  # too little memory, a folder where a file should be, a full disk, no permission
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch raises RuntimeError
            return _refuse((isinstance(error, MemoryError) and str(error)) or "there is not enough memory")
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
    collect_garbage_rarely()
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, TextIOWrapper):
            output.reconfigure(encoding="utf-8")  # models write UTF-8, whatever the terminal's locale is
    sys.exit(run(application))
