"""run.json, which says what a run was made of and whether it is finished."""

from pathlib import Path

from axion.errors import AxionError
from axion.files import read_json

RUN_FILE = "run.json"


def read_run_file(run: Path) -> dict:
    """A run's run.json. Raises AxionError where there is none that can be read."""
    try:
        return read_json(run / RUN_FILE)
    except (OSError, ValueError):
        raise AxionError(f"{run} is no run: it has no readable {RUN_FILE}; start another with --out DIR") from None
