"""Temporary folders of publications, in the system's folder for them."""

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from axion import files


def scratch_folder(purpose: str) -> AbstractContextManager[Path]:
    """An empty temporary folder for the duration of a `with` block. What killed processes left behind is removed.

    Args:
        purpose: a word for the folder's name.
    """
    return files.scratch_folder(Path(tempfile.gettempdir()), f"axion-{purpose}")
