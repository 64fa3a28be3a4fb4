"""Shared links: from the query parameters of an address to a request.

The parameters are `model`, `prompt` (exactly what the model reads), `question` (what was typed, if it was put into the
form that the model was taught), the settings by name, `forced` (the token ids of a branch, with dots between them),
what is changed in the model (see `axion.tampering`), `release` (`OpenModel.fingerprint` of the model that the link was
made with) and `lang`. Settings that a link leaves out have the defaults of `Sampling`. A link to a comparison has `a_`
or `b_` before what belongs to one side: `a_model`, `b_temperature`. views/share.js and views/comparison.js write the
links.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from axion.tampering import NAMES
from playground.generate.catalogue import Catalogue
from playground.generate.comparison import SIDES
from playground.generate.refusal import Refusal
from playground.generate.request import DEFAULTS, LIMITS, Request, read_request, settings_of
from playground.locales import Language

_HASH = re.compile(r"[0-9a-f]{12}")
_WHOLE = re.compile(r"[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{0,16}\.[0-9]{1,20}|-[0-9]{1,16}|-?[0-9](?:\.[0-9]{1,20})?e-[0-9]{1,2}")


def is_link(query: Mapping[str, str]) -> bool:
    """Whether an address asks for a generation; one that only names a language or a theme does not."""
    return ("prompt" in query or "forced" in query) and not is_comparison(query)


def is_comparison(query: Mapping[str, str]) -> bool:
    """Whether an address asks for a comparison."""
    return any(f"{side}_model" in query for side in SIDES)


def read_link(catalogue: Catalogue, query: Mapping[str, str]) -> Request:
    """The request of an address, whose other parameters are ignored. Raises AxionError when anything in it is wrong."""
    settings = {name: _read_number(query[name]) for name in LIMITS if name in query}
    asked = {
        "model": query.get("model", catalogue.default()),
        "prompt": query.get("prompt"),
        "question": query.get("question"),
        "sampling": settings,
        "forced": _read_ids(query.get("forced", "")),
        "tampering": {name: query[name] for name in NAMES if name in query},
    }
    return read_request(catalogue, asked)


def read_comparison(catalogue: Catalogue, query: Mapping[str, str]) -> dict[str, Request]:
    """The request of each side of a comparison. Raises AxionError when anything in it is wrong."""
    return {side: read_link(catalogue, own_query(query, side)) for side in SIDES}


def own_query(query: Mapping[str, str], side: str) -> dict[str, str]:
    """The parameters of one side of a comparison, as those of a link to one generation."""
    own = {name.removeprefix(f"{side}_"): text for name, text in query.items() if name.startswith(f"{side}_")}
    return {**query, **own}


def linked_release(query: Mapping[str, str]) -> str:
    """The release that a link was made with; "" where it does not say so."""
    release = query.get("release", "")
    return release if _HASH.fullmatch(release) else ""


def write_link(request: Request, release: str, language: Language) -> str:
    """The query of an address that asks for this request; views/share.js writes the same."""
    settings = {name: value for name, value in settings_of(request.sampling).items() if value != DEFAULTS[name]}
    query = {"model": request.model, "prompt": request.prompt, "seed": request.sampling.seed, **settings}
    if request.question:
        query["question"] = request.question
    if request.forced:
        query["forced"] = ".".join(map(str, request.forced))
    return urlencode(query | {"release": release, "lang": language})


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
