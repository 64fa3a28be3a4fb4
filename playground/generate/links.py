"""What a shared link and the view ask for: a model's name and a generation, as anybody may have written it.

A link is the page's address with query parameters: `model`, `prompt`, the settings' names, `forced` (the ids of a
branch, with dots between them) and `lang`. Settings that it leaves out have the defaults of `Sampling`; `view/share.js`
writes it.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from axion.inference.sampling import Sampling
from playground.generate.catalogue import Catalogue, OpenModel
from playground.generate.request import LIMITS, Refusal, Request, read_request

DEFAULTS = asdict(Sampling())

_WHOLE = re.compile(r"[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{0,16}\.[0-9]{1,20}|-[0-9]{1,16}|-?[0-9](?:\.[0-9]{1,20})?e-[0-9]{1,2}")


@dataclass(frozen=True)
class Wish:
    """A checked wish to a model that is offered."""

    model: OpenModel
    request: Request


def read_wish(catalogue: Catalogue, wish: object) -> Wish:
    """Check {"model", "prompt", "sampling", "forced"}; what `sampling` leaves out has its default.

    Raises:
        AxionError: the model's release is broken; a Refusal where anything in the wish is wrong, a token that the
            model does not have among it.
    """
    if not isinstance(wish, Mapping) or not isinstance(sampling := wish.get("sampling", {}), Mapping):
        raise Refusal("no_wish")
    if not isinstance(name := wish.get("model"), str) or name not in catalogue.names:
        raise Refusal("no_model", known=", ".join(catalogue.names))
    model = catalogue.open(name)
    request = read_request(wish.get("prompt"), DEFAULTS | dict(sampling), wish.get("forced", ()))
    vocabulary = model.release.config.vocab_size
    if wrong := [token for token in request.forced if token >= vocabulary]:
        raise Refusal("no_token", model=model.name, token=wrong[0], last=vocabulary - 1)
    return Wish(model, request)


def is_link(query: Mapping[str, str]) -> bool:
    """Whether an address asks for a generation; one that only names a language or a theme does not."""
    return "prompt" in query or "forced" in query


def read_link(catalogue: Catalogue, query: Mapping[str, str]) -> Wish:
    """The wish of an address; its other parameters are none of ours. Raises AxionError when anything in it is wrong."""
    sampling = {name: _read_number(query[name]) for name in LIMITS if name in query}
    wish = {
        "model": query.get("model", catalogue.default()),
        "prompt": query.get("prompt"),
        "sampling": sampling,
        "forced": _read_ids(query.get("forced", "")),
    }
    return read_wish(catalogue, wish)


def _read_number(text: str) -> int | float | str:
    """The number that a text says, or the text itself, which the check then refuses by name."""
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _read_ids(text: str) -> list[int]:
    ids = text.split(".") if text else []
    if not all(_WHOLE.fullmatch(part) for part in ids):
        raise Refusal("link_forced")
    return [int(part) for part in ids]
