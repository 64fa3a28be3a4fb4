"""The base of every part of a recipe, the types that its fields share, and how a message names a wrong value.

Numbers are finite, and integers bounded.
"""

import difflib
import os
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from axion.errors import one_line

LARGEST = 2**31 - 1

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""NumPy's generators take no larger seed."""
Share = Annotated[float, Field(ge=0, lt=1)]
Portion = Annotated[float, Field(ge=0, le=1)]
"""A share that may be all."""
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
"""A factor on a loss; 0 switches it off."""


def _each_once(paths: list[str]) -> list[str]:
    seen: set[str] = set()
    for path in paths:
        if (absolute := os.path.abspath(path)) in seen:
            raise ValueError(f"{path} is listed twice")
        seen.add(absolute)
    return paths


Paths = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    AfterValidator(_each_once),
]
"""One path or a list of different paths."""


class Section(BaseModel):
    """Base of every part of a recipe: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


# --- Messages ---------------------------------------------------------------------------------------------------------


def first_error(error: ValidationError, known: Iterable[str], section: str = "") -> str:
    """The first of pydantic's errors in one line.

    Args:
        known: all keys that there are, for a message about one that is not.
        section: the dotted key of what was read, where that is a part of a recipe.
    """
    first = error.errors()[0]
    names = [*filter(None, [section]), *map(str, first["loc"])]
    if names[:2] == ["data", "sources"]:
        del names[3:4]  # the kind, which pydantic names after the index
    key = ".".join(names)
    if first["type"] == "extra_forbidden":
        return f"{key} is unknown{nearest(key, known)}"
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "value_error" and "ctx" in first:
        return str(first["ctx"]["error"])
    return f"{key} is {shown(first['input'])}; {lower_first(first['msg'])}"


def shown(value: object) -> str:
    """A value for a message, shortened. Python refuses to print integers of thousands of digits."""
    if isinstance(value, int) and abs(value) >= 10**80:
        return "an integer of more than 80 digits"
    return one_line(repr(value), 80)


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown key: the one that was probably meant, or all that there are."""
    known = list(known)
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(known))}"


def lower_first(message: str) -> str:
    """A sentence as the rest of another one."""
    return message[:1].lower() + message[1:]
