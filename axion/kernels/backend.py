"""Chooses between PyTorch and the native kernels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from axion.errors import AxionError
from axion.kernels import coverage
from axion.kernels.build import Unavailable, compiler, compiler_version, library, vector_lanes
from axion.kernels.coverage import Use
from axion.kernels.dimensions import check_weights

if TYPE_CHECKING:
    from axion.model.shape_axion import AxionShape

BACKENDS: tuple[str, ...] = ("auto", "torch", "native")
VARIABLE = "AXION_BACKEND"


@dataclass(frozen=True)
class Choice:
    """The chosen backend. `str(choice)` is the line that tells the user."""

    name: Literal["torch", "native"]
    why: str

    def __str__(self) -> str:
        return f"{'native kernels' if self.name == 'native' else 'PyTorch'}: {self.why}"


def choose(
    requested: str,
    config: AxionShape,
    use: Use,
    device: str = "cpu",
    unsupported_reason: str | None = None,
    build: bool = True,
    weights: str = "fp32",
) -> Choice:
    """Chooses the backend that trains a model or decodes with it, and builds the kernels unless they are built already.

    Args:
        requested: "auto" uses the kernels wherever they work; "torch" and "native" force one of the two. The value of
            `$AXION_BACKEND`, if it is set and not empty, replaces "auto".
        config: the model's config, checked by `axion.kernels.coverage`.
        use: what the kernels are for.
        device: where the model is, "cpu" or "cuda".
        unsupported_reason: why the kernels cannot be used, where the caller knows of a reason.
        build: without it, nothing is compiled, and the choice holds unless the compiler fails.
        weights: what decoding multiplies by, one of WEIGHT_BITS; PyTorch has fp32 only.

    Raises:
        AxionError: `requested` is not in BACKENDS; `weights` is not in WEIGHT_BITS; or the kernels cannot be used where
            "native" or rounded weights need them.
    """
    check_weights(weights)
    backend = requested if requested != "auto" else os.environ.get(VARIABLE) or "auto"
    if backend not in BACKENDS:
        name = "backend" if backend == requested else f"${VARIABLE}"
        raise AxionError(f"{name} must be {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not {backend!r}")
    if backend == "torch" and weights == "fp32":
        return Choice("torch", "as requested")
    try:
        if backend == "torch":
            raise Unavailable("PyTorch was requested")
        if device != "cpu":
            raise Unavailable(f"the model is on {device}")
        if unsupported_reason is not None:
            raise Unavailable(unsupported_reason)
        if not build:
            if (reason := coverage.unsupported_reason(config, use)) is not None:
                raise Unavailable(reason)
            return Choice("native", compiler_version(compiler()))
        lanes = vector_lanes(library(config, use, weights))
        kind = "" if weights == "fp32" else f", {weights} weights"
        return Choice("native", f"{compiler_version(compiler())}, {lanes} floats per vector{kind}")
    except Unavailable as reason:
        if weights != "fp32":
            raise AxionError(f"{weights} weights need the native kernels, which cannot be used: {reason}") from None
        if backend == "native":
            raise AxionError(f"the native kernels cannot be used: {reason}; use --backend auto or torch") from None
        return Choice("torch", str(reason))
