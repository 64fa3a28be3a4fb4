"""run.json, which says what a run was made of and whether it is finished."""

import json
from pathlib import Path

from axion.errors import AxionError

RUN_FILE = "run.json"


def read_run_file(run: Path) -> dict:
    """A run's run.json. Raises AxionError where there is none that can be read."""
    try:
        return json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise AxionError(f"{run} is no run: it has no readable {RUN_FILE}; start another with --out DIR") from None
