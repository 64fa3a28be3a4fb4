"""The base of every part of a recipe, and the types that its fields share. Numbers are finite, and integers bounded."""

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

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
