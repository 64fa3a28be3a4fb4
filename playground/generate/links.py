"""Shared links: from the query parameters of an address to a request.

The parameters are `model`, `prompt`, the settings by name, `forced` (the token ids of a branch, with dots between
them), what is changed in the model (see `axion.tampering`) and `lang`. Settings that a link leaves out have the
defaults of `Sampling`. views/share.js writes the links.
"""

import re
from collections.abc import Mapping

from axion.tampering import NAMES
from playground.generate.catalogue import Catalogue
from playground.generate.refusal import Refusal
from playground.generate.request import LIMITS, Request, read_request

_WHOLE = re.compile(r"[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{0,16}\.[0-9]{1,20}|-[0-9]{1,16}|-?[0-9](?:\.[0-9]{1,20})?e-[0-9]{1,2}")


def is_link(query: Mapping[str, str]) -> bool:
    """Whether an address asks for a generation; one that only names a language or a theme does not."""
    return "prompt" in query or "forced" in query


def read_link(catalogue: Catalogue, query: Mapping[str, str]) -> Request:
    """The request of an address, whose other parameters are ignored. Raises AxionError when anything in it is wrong."""
    settings = {name: _read_number(query[name]) for name in LIMITS if name in query}
    asked = {
        "model": query.get("model", catalogue.default()),
        "prompt": query.get("prompt"),
        "sampling": settings,
        "forced": _read_ids(query.get("forced", "")),
        "tampering": {name: query[name] for name in NAMES if name in query},
    }
    return read_request(catalogue, asked)


def _read_number(text: str) -> int | float | str:
    """The number that the text says, or the text itself, which validation then refuses by name."""
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _read_ids(text: str) -> list[int]:
    ids = text.split(".") if text else []
    if not all(_WHOLE.fullmatch(part) for part in ids):
        raise Refusal("link_forced")
    return [int(part) for part in ids]
