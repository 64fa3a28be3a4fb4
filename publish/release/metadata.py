"""Checks of a card's front matter and of names, before training and without a network.

The Hub itself rejects them only at the push, hours later, or shows a card without its licence.
"""

import re
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from axion.data.sources import FileSource
from axion.errors import AxionError
from publish.check.vocabulary import LICENSES, languages

_NEED_A_TEXT = {"unknown", "other"}
"""Licences that need a text of their own, which a release does not have."""
_TAG = re.compile(r"v[0-9][0-9A-Za-z]*([.+_-][0-9A-Za-z]+)*")


def check_front_matter(metadata: dict) -> None:
    """Check the keys by which the Hub sorts and filters models.

    Args:
        metadata: a card's front matter, as read from its YAML.

    Raises:
        AxionError: a key is missing, or has a value that the Hub does not accept.
    """
    needed = ("license", "library_name", "pipeline_tag")
    if missing := [key for key in needed if not metadata.get(key)]:
        raise AxionError(f"the card's metadata lacks {missing[0]}")
    check_license(metadata["license"])
    check_languages(metadata.get("language") or [])


def check_dataset(source: FileSource) -> None:
    """Raises AxionError if a source's `hub_id` cannot be a data set on the Hub."""
    key = f"data.sources.{source.kind}"
    if source.hub_id is not None:
        check_repo_name(source.hub_id, f"{key}.hub_id")
        if Path(source.hub_id).exists():
            raise AxionError(
                f"{key}.hub_id is {source.hub_id!r}, which is a path of this machine; write it as {key}.files"
            )


def check_license(identifier: str) -> None:
    """Raises AxionError if the Hub does not know the licence by this name."""
    if identifier not in LICENSES - _NEED_A_TEXT:
        raise AxionError(
            f"license is {identifier!r}, which the Hub does not know; write its identifier, such as mit or apache-2.0"
        )


def check_languages(codes: list[str]) -> None:
    """Raises AxionError if a language is not a lower-case ISO 639-1 code."""
    if unknown := [code for code in codes if len(code) != 2 or code not in languages()]:
        raise AxionError(f"languages has {unknown[0]!r}; write lower-case ISO 639-1 codes, such as en or pt")


def check_tag(tag: str) -> None:
    """Raises AxionError if a tag is not v and a version that git accepts in a name."""
    if not _TAG.fullmatch(tag) or tag.endswith(".lock"):
        raise AxionError(f"version gives the tag {tag!r}, which git refuses; write a version such as 0.1")


def check_repo_name(name: str, key: str = "repo_name") -> None:
    """Raises AxionError if the Hub would not accept NAME or USER/NAME for a repository; the message names `key`."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise AxionError(f"{key} is {name!r}, not a valid name on the Hub: {' '.join(str(error).split())}") from None
