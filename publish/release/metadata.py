"""What the Hub takes in a card's front matter and in names, checked before training, and without a network.

The Hub says no at the push, hours later, or shows a card without its licence.
"""

import re
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from axion.errors import AxionError
from publish.check.vocabulary import LICENSES, languages

_WITHOUT_A_TEXT = {"unknown", "other"}
"""Licences that the Hub knows and a release can't have: they need a text of their own, which none carries."""
_TAG = re.compile(r"v[0-9][0-9A-Za-z]*([.+_-][0-9A-Za-z]+)*")


def check_front_matter(metadata: dict) -> None:
    """Check what the Hub sorts and filters models by.

    Args:
        metadata: a card's front matter, as read from its YAML.

    Raises:
        AxionError: a key is missing, or has a value that the Hub does not know.
    """
    needed = ("license", "language", "library_name", "pipeline_tag")
    if missing := [key for key in needed if not metadata.get(key)]:
        raise AxionError(f"the card's metadata lacks {missing[0]}")
    check_license(metadata["license"])
    check_languages(metadata["language"])
    for name in metadata.get("datasets", []):
        check_repo_name(name, "data.hub_id")
        if Path(name).exists():
            raise AxionError(f"data.hub_id is {name!r}, a path of this machine; local data goes into data.files")


def check_license(identifier: str) -> None:
    """Raises AxionError where the Hub does not know the licence by this name."""
    if identifier not in LICENSES - _WITHOUT_A_TEXT:
        raise AxionError(f"license is {identifier!r}, which the Hub does not know; write one such as mit or apache-2.0")


def check_languages(codes: list[str]) -> None:
    """Raises AxionError where a language is no lower-case code of ISO 639-1."""
    if unknown := [code for code in codes if len(code) != 2 or code not in languages()]:
        raise AxionError(f"languages has {unknown[0]!r}; write two lower-case letters of ISO 639-1, such as en or pt")


def check_tag(tag: str) -> None:
    """Raises AxionError where a tag is not v and a version, in letters and digits that git takes in a name."""
    if not _TAG.fullmatch(tag) or tag.endswith(".lock"):
        raise AxionError(f"version gives the tag {tag!r}, which git refuses; write a version such as 0.1")


def check_repo_name(name: str, key: str = "repo_name") -> None:
    """Raises AxionError where the Hub would not take NAME or USER/NAME for a repository; the message names `key`."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise AxionError(f"{key} is {name!r}, no name for the Hub: {' '.join(str(error).split())}") from None
