"""What Axion ships besides code: recipes, card templates, the bundled release, and what a Space or Job needs.

In a clone these are at the top level. A wheel contains them in `axion/_shipped/`, where pyproject.toml maps them.
"""

from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder that contains the packages: the clone, or an environment's site-packages."""

_PACKAGED = Path(str(files("axion"))) / "_shipped"


def shipped(name: str) -> Path:
    """A file or folder by its path in the repository, in a clone and in an installation alike.

    Args:
        name: what pyproject.toml maps into the wheel, such as `configs`, or a package, such as `playground`.
    """
    packaged = _PACKAGED / name
    return packaged if packaged.exists() else ROOT / name


def path_in_repository(path: Path) -> str:
    """The inverse of `shipped`, for files too."""
    root = _PACKAGED if path.is_relative_to(_PACKAGED) else ROOT
    return path.relative_to(root).as_posix()
