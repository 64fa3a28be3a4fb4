"""Which of the two does the work, PyTorch or the kernels, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from axion.errors import AxionError
from axion.kernels.build import Unavailable, compiler, compiler_version, library, vector_lanes
from axion.model.configuration_axion import AxionConfig

Wish = Literal["auto", "torch", "native"]
BACKENDS: tuple[str, ...] = ("auto", "torch", "native")
VARIABLE = "AXION_BACKEND"


@dataclass(frozen=True)
class Choice:
    """The backend that was picked; as text, the line that says so."""

    name: Literal["torch", "native"]
    why: str

    def __str__(self) -> str:
        return f"{'native kernels' if self.name == 'native' else 'PyTorch'}: {self.why}"


def choose(wish: str, config: AxionConfig, device: str = "cpu", hindrance: str | None = None) -> Choice:
    """The backend for a model; the kernels are built here if they are not there yet.

    Args:
        wish: "auto" takes the kernels wherever they work, "torch" and "native" insist. What `$AXION_BACKEND` says
            stands in place of "auto".
        config: of the model.
        device: where the model is, "cpu" or "cuda".
        hindrance: why the kernels must not be taken, if the caller knows of a reason.

    Raises:
        AxionError: `wish` is none of BACKENDS, or it is "native" and the kernels cannot be used.
    """
    said = wish if wish != "auto" else os.environ.get(VARIABLE, "auto")
    if said not in BACKENDS:
        name = "backend" if said == wish else f"${VARIABLE}"
        raise AxionError(f"{name} must be {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not {said!r}")
    if said == "torch":
        return Choice("torch", "as asked")
    try:
        if device != "cpu":
            raise Unavailable(f"the model is on {device}")
        if hindrance is not None:
            raise Unavailable(hindrance)
        lanes = vector_lanes(library(config))
        return Choice("native", f"{compiler_version(compiler())}, {lanes} numbers at once")
    except Unavailable as reason:
        if said == "native":
            raise AxionError(f"the native kernels cannot be used: {reason}; --backend auto goes on without") from None
        return Choice("torch", str(reason))
